use crate::Undefined;

/// Wasserstein-1 distance of two one-dimensional samples: the area between their empirical distribution functions.
///
/// # Units
/// Those of the samples.
///
/// # Errors
/// [`Undefined::NoSamples`] if either sample is empty, [`Undefined::NotFinite`] if either contains a value that is not
/// finite.
///
/// # Example
/// ```
/// assert_eq!(asyndgan_metrics::wasserstein_1(&[0.0, 1.0], &[3.0]), Ok(2.5));
/// ```
pub fn wasserstein_1(a: &[f64], b: &[f64]) -> Result<f64, Undefined> {
    if a.is_empty() || b.is_empty() {
        return Err(Undefined::NoSamples);
    }
    if a.iter().chain(b).any(|v| !v.is_finite()) {
        return Err(Undefined::NotFinite);
    }
    let share = |n: usize| 1.0 / n as f64;
    let mut steps: Vec<(f64, f64)> = a.iter().map(|&v| (v, share(a.len()))).chain(b.iter().map(|&v| (v, -share(b.len())))).collect();
    steps.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut ahead, mut area) = (0.0_f64, 0.0);
    for pair in steps.windows(2) {
        ahead += pair[0].1;
        area += ahead.abs() * (pair[1].0 - pair[0].0);
    }
    if area.is_finite() { Ok(area) } else { Err(Undefined::NotFinite) }
}

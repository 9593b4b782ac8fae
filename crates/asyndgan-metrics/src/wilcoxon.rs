use crate::{Undefined, ranks::Ranks};

/// Largest number of pairs for the exact distribution.
const EXACT_MAX: usize = 50;

/// Two-sided p-value of the Wilcoxon signed-rank test that the paired differences `a - b` are symmetric about 0.
///
/// Pairs without a difference are dropped. For up to 50 remaining pairs, the exact distribution given the ties is used;
/// above, the normal approximation with tie correction.
///
/// # Panics
/// If the two differ in length.
///
/// # Errors
/// [`Undefined::NoSamples`] if there are no pairs, [`Undefined::Identical`] if all differences are 0,
/// [`Undefined::NotFinite`].
///
/// # Reference
/// Wilcoxon, Biometrics Bulletin 1(6), 1945; `scipy.stats.wilcoxon` with its defaults, except that with ties `SciPy`
/// falls back to the approximation from 14 pairs on.
///
/// # Example
/// ```
/// let p = asyndgan_metrics::wilcoxon(&[0.9, 0.8, 0.7, 0.95, 0.6], &[0.8, 0.6, 0.4, 0.55, 0.1])?;
/// assert_eq!(p, 0.0625);
/// # Ok::<(), asyndgan_metrics::Undefined>(())
/// ```
pub fn wilcoxon(a: &[f64], b: &[f64]) -> Result<f64, Undefined> {
    assert_eq!(a.len(), b.len(), "a and b must have the same length");
    if a.is_empty() {
        return Err(Undefined::NoSamples);
    }
    let mut differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    if differences.iter().any(|d| !d.is_finite()) {
        return Err(Undefined::NotFinite);
    }
    differences.retain(|d| *d != 0.0);
    if differences.is_empty() {
        return Err(Undefined::Identical);
    }
    let Ranks { doubled, ties } = Ranks::of(&differences.iter().map(|d| d.abs()).collect::<Vec<_>>());
    let twice_positive = doubled.iter().zip(&differences).filter(|(_, d)| **d > 0.0).map(|(rank, _)| rank).sum();
    let n = differences.len();
    Ok(if n <= EXACT_MAX { counted(&doubled, twice_positive) } else { normal(n as f64, twice_positive as f64 / 2.0, ties) })
}

/// From the number of ways in which signs make each sum of ranks; a tie's ranks end in a half, so all are doubled.
fn counted(twice_ranks: &[usize], twice_positive: usize) -> f64 {
    let most: usize = twice_ranks.iter().sum();
    let mut ways = vec![0.0; most + 1];
    ways[0] = 1.0;
    for &rank in twice_ranks {
        for sum in (rank..=most).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    // The smaller tail; the distribution is symmetric.
    let tail: f64 = ways[..=twice_positive.min(most - twice_positive)].iter().sum();
    (2.0 * tail / 2_f64.powi(twice_ranks.len() as i32)).min(1.0)
}

fn normal(n: f64, positive: f64, ties: f64) -> f64 {
    let mean = n * (n + 1.0) / 4.0;
    let variance = (n * (n + 1.0) * (2.0 * n + 1.0) - ties / 2.0) / 24.0;
    let z = (positive - mean).abs() / variance.sqrt();
    libm::erfc(z / std::f64::consts::SQRT_2)
}

/// Holm's correction of p-values for multiple testing, in the order given.
///
/// # Panics
/// If a p-value is outside 0 to 1. Leave out tests that could not be done.
///
/// # Reference
/// Holm, Scandinavian Journal of Statistics 6(2), 1979.
///
/// # Example
/// ```
/// assert_eq!(asyndgan_metrics::holm(&[0.03, 0.01, 0.5]), [0.06, 0.03, 0.5]);
/// ```
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    assert!(p_values.iter().all(|p| (0.0..=1.0).contains(p)), "p-values must be from 0 to 1, got {p_values:?}");
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut corrected = vec![0.0; p_values.len()];
    let mut largest = 0.0_f64;
    for (before, &i) in order.iter().enumerate() {
        largest = largest.max((p_values[i] * (p_values.len() - before) as f64).min(1.0));
        corrected[i] = largest;
    }
    corrected
}

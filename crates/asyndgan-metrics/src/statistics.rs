use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::Undefined;

/// Mean and spread of the defined values, with the number of undefined ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Mean of the defined values; `None` if there are none.
    pub mean: Option<f64>,
    /// Median of the defined values; `None` if there are none.
    pub median: Option<f64>,
    /// Sample standard deviation (denominator `n - 1`); `None` for fewer than two values.
    pub sd: Option<f64>,
    /// Number of defined values.
    pub n: usize,
    /// Number of undefined values.
    pub undefined: usize,
}

/// Summarises values, some of which may be undefined; values that are not finite count as undefined.
///
/// # Example
/// ```
/// let summary = asyndgan_metrics::summarise(&[Some(0.8), None, Some(0.6), Some(0.7)]);
/// assert_eq!((summary.median, summary.n, summary.undefined), (Some(0.7), 3, 1));
/// ```
pub fn summarise(values: &[Option<f64>]) -> Summary {
    let defined: Vec<f64> = values.iter().copied().flatten().filter(|v| v.is_finite()).collect();
    let n = defined.len();
    let mean = (n > 0).then(|| defined.iter().sum::<f64>() / n as f64);
    let sd = mean.filter(|_| n > 1).map(|m| (defined.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (n - 1) as f64).sqrt());
    let mut sorted = defined;
    sorted.sort_by(f64::total_cmp);
    let median = (n > 0).then(|| percentile_of_sorted(&sorted, 50.0));
    Summary { mean, median, sd, n, undefined: values.len() - n }
}

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// 2.5th percentile.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

/// Percentile-bootstrap interval of the mean.
///
/// # Errors
/// [`Undefined::NoSamples`] if there are no values, [`Undefined::NotFinite`].
///
/// # Reference
/// Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
///
/// # Example
/// ```
/// use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
/// let interval = asyndgan_metrics::bootstrap_mean(&[0.7, 0.8, 0.9], 1000, &mut ChaCha8Rng::seed_from_u64(1))?;
/// assert!(interval.low < 0.8 && interval.high > 0.8);
/// # Ok::<(), asyndgan_metrics::Undefined>(())
/// ```
pub fn bootstrap_mean(values: &[f64], resamples: usize, rng: &mut impl Rng) -> Result<Interval, Undefined> {
    let n = values.len();
    if n == 0 {
        return Err(Undefined::NoSamples);
    }
    if values.iter().any(|v| !v.is_finite()) {
        return Err(Undefined::NotFinite);
    }
    let mut means: Vec<f64> =
        (0..resamples.max(1)).map(|_| (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64).collect();
    means.sort_by(f64::total_cmp);
    Ok(Interval { low: percentile_of_sorted(&means, 2.5), high: percentile_of_sorted(&means, 97.5) })
}

/// Mean of paired differences `a - b` and its percentile-bootstrap interval over the pairs.
///
/// # Errors
/// [`Undefined::NoSamples`] if there are no pairs, [`Undefined::NotFinite`].
///
/// # Panics
/// If the two differ in length.
///
/// # Reference
/// Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
pub fn bootstrap_difference(a: &[f64], b: &[f64], resamples: usize, rng: &mut impl Rng) -> Result<(f64, Interval), Undefined> {
    assert_eq!(a.len(), b.len(), "a and b must have the same length");
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let interval = bootstrap_mean(&differences, resamples, rng)?;
    Ok((differences.iter().sum::<f64>() / differences.len() as f64, interval))
}

/// A percentile of sorted values, by linear interpolation between the two nearest.
///
/// # Panics
/// If there are no values, or the percentage is not from 0 to 100.
pub fn percentile_of_sorted(sorted: &[f64], percent: f64) -> f64 {
    assert!(!sorted.is_empty(), "a percentile needs at least one value");
    assert!((0.0..=100.0).contains(&percent), "the percentage must be from 0 to 100, got {percent}");
    let place = percent / 100.0 * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = place.ceil() as usize;
    if below == above { sorted[below] } else { sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64) }
}

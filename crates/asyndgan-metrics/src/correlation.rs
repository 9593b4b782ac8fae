use libm::lgamma;
use serde::{Deserialize, Serialize};

use crate::{Interval, Undefined, ranks::Ranks};

/// A correlation and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Correlation {
    /// The correlation, from -1 to 1.
    pub value: f64,
    /// The interval; from -1 to 1 for fewer than four pairs.
    pub interval: Interval,
}

/// Spearman's rank correlation, which is 1 if one value always grows with the other.
///
/// # Panics
/// If the two differ in length.
///
/// # Errors
/// [`Undefined::NoSamples`] for fewer than two pairs, [`Undefined::Identical`] if all values of a side are equal,
/// [`Undefined::NotFinite`].
///
/// # Reference
/// `scipy.stats.spearmanr`; the interval is that of Bonett and Wright, Psychometrika 65, 2000.
///
/// # Example
/// ```
/// let found = asyndgan_metrics::spearman(&[1.0, 2.0, 3.0, 4.0], &[1.0, 4.0, 9.0, 5.0])?;
/// assert!((found.value - 0.8).abs() < 1e-12);
/// # Ok::<(), asyndgan_metrics::Undefined>(())
/// ```
pub fn spearman(a: &[f64], b: &[f64]) -> Result<Correlation, Undefined> {
    check(a, b)?;
    let n = a.len() as f64;
    let centred = |values: &[f64]| Ranks::of(values).doubled.iter().map(|&rank| rank as f64 - (n + 1.0)).collect::<Vec<f64>>();
    let value = cosine(&centred(a), &centred(b))?;
    let interval = if a.len() < 4 {
        Interval { low: -1.0, high: 1.0 }
    } else {
        // A correlation of 1 has no finite transform.
        let centre = value.clamp(-1.0 + 1e-12, 1.0 - 1e-12).atanh();
        let width = 1.959_963_984_540_054 * ((1.0 + value * value / 2.0) / (n - 3.0)).sqrt();
        Interval { low: (centre - width).tanh().min(value), high: (centre + width).tanh().max(value) }
    };
    Ok(Correlation { value, interval })
}

/// A linear correlation and its test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PearsonTest {
    /// Pearson's correlation, from -1 to 1.
    pub correlation: f64,
    /// Two-sided p-value that the two are not correlated, if both are normally distributed; 1 for two pairs.
    pub p: f64,
}

/// Pearson's linear correlation, with its test.
///
/// # Panics
/// If the two differ in length.
///
/// # Errors
/// As [`spearman`].
///
/// # Reference
/// `scipy.stats.pearsonr`.
///
/// # Example
/// ```
/// let found = asyndgan_metrics::pearson(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0])?;
/// assert!((found.correlation - 0.982).abs() < 1e-3 && (found.p - 0.121).abs() < 1e-3);
/// # Ok::<(), asyndgan_metrics::Undefined>(())
/// ```
pub fn pearson(a: &[f64], b: &[f64]) -> Result<PearsonTest, Undefined> {
    check(a, b)?;
    let centred = |values: &[f64]| {
        // Scaled first, so that squares of large and small values neither overflow nor vanish.
        let largest = values.iter().fold(0.0, |largest: f64, v| largest.max(v.abs()));
        let scaled: Vec<f64> = values.iter().map(|v| if largest > 0.0 { v / largest } else { 0.0 }).collect();
        let mean = scaled.iter().sum::<f64>() / scaled.len() as f64;
        scaled.iter().map(|v| v - mean).collect::<Vec<f64>>()
    };
    if [a, b].iter().any(|values| values.iter().all(|v| v.total_cmp(&values[0]).is_eq())) {
        return Err(Undefined::Identical);
    }
    let correlation = cosine(&centred(a), &centred(b))?;
    if a.len() == 2 {
        return Ok(PearsonTest { correlation: correlation.signum(), p: 1.0 });
    }
    let p = incomplete_beta((1.0 - correlation) * (1.0 + correlation), a.len() as f64 / 2.0 - 1.0, 0.5);
    Ok(PearsonTest { correlation, p })
}

fn check(a: &[f64], b: &[f64]) -> Result<(), Undefined> {
    assert_eq!(a.len(), b.len(), "a and b must have the same length");
    if a.len() < 2 {
        return Err(Undefined::NoSamples);
    }
    if a.iter().chain(b).any(|v| !v.is_finite()) {
        return Err(Undefined::NotFinite);
    }
    Ok(())
}

/// The cosine of the angle between two vectors.
fn cosine(a: &[f64], b: &[f64]) -> Result<f64, Undefined> {
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let scale = (sum(a, a) * sum(b, b)).sqrt();
    if scale == 0.0 { Err(Undefined::Identical) } else { Ok((sum(a, b) / scale).clamp(-1.0, 1.0)) }
}

/// The regularised incomplete beta function, for positive `a` and `b`.
///
/// # Reference
/// NIST Digital Library of Mathematical Functions, 8.17.22 and 8.17.4.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    // The fraction converges fast below this point.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let factor = (lgamma(a + b) - lgamma(a) - lgamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    // From the last term to the first one. The number of terms that matter grows with the root of `a`.
    let term = |k: f64| {
        let m = (k / 2.0).floor();
        if k % 2.0 == 0.0 {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        }
    };
    factor / (1..=1_000).rev().fold(1.0, |below, k| 1.0 + term(f64::from(k)) / below)
}

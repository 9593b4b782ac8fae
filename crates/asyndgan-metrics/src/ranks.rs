use serde::{Deserialize, Serialize};

use crate::{Interval, Undefined};

/// Ranks of values, from 1; ties share the mean of their ranks.
pub(crate) struct Ranks {
    /// Twice the rank of each value, since the mean of a tie can end in a half.
    pub(crate) doubled: Vec<usize>,
    /// Sum of `n^3 - n` over all ties of `n` values.
    pub(crate) ties: f64,
}

impl Ranks {
    pub(crate) fn of(values: &[f64]) -> Self {
        // A sum with 0 has no negative zero, which would not be tied with 0.
        let values: Vec<f64> = values.iter().map(|value| value + 0.0).collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
        let (mut doubled, mut ties, mut before) = (vec![0; values.len()], 0.0, 0);
        for tied in order.chunk_by(|&i, &j| values[i].total_cmp(&values[j]).is_eq()) {
            let n = tied.len();
            for &i in tied {
                doubled[i] = 2 * before + n + 1;
            }
            ties += (n * n * n - n) as f64;
            before += n;
        }
        Self { doubled, ties }
    }
}

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
    assert_eq!(a.len(), b.len(), "a and b must have the same length");
    if a.len() < 2 {
        return Err(Undefined::NoSamples);
    }
    if a.iter().chain(b).any(|v| !v.is_finite()) {
        return Err(Undefined::NotFinite);
    }
    let n = a.len() as f64;
    let centred = |values: &[f64]| Ranks::of(values).doubled.iter().map(|&rank| rank as f64 - (n + 1.0)).collect::<Vec<f64>>();
    let (a, b) = (centred(a), centred(b));
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let scale = (sum(&a, &a) * sum(&b, &b)).sqrt();
    if scale == 0.0 {
        return Err(Undefined::Identical);
    }
    let value = (sum(&a, &b) / scale).clamp(-1.0, 1.0);
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

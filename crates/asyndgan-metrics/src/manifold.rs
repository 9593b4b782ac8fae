use ndarray::ArrayView2;

use crate::Undefined;

/// Precision and recall of a synthetic sample of features: the share of it that is like the real sample, and the share
/// of the real sample that it covers.
///
/// A point is covered by a sample if it is no farther from one of the sample's points than that point's `k`-th nearest
/// neighbour in the same sample. Precision is the share of synthetic points that the real sample covers, recall the
/// share of real points that the synthetic sample covers. Both depend on the numbers of samples: report them.
///
/// # Shapes
/// `[samples, features]` each, with the same number of features; more than `k` samples each.
///
/// # Panics
/// If the numbers of features differ, or `k` is 0.
///
/// # Errors
/// [`Undefined::NoSamples`] for `k` samples or fewer, [`Undefined::NotFinite`].
///
/// # Reference
/// Kynkäänniemi et al., `NeurIPS` 2019; they use `k` = 3.
///
/// # Example
/// ```
/// use ndarray::arr2;
/// let real = arr2(&[[0.0], [1.0], [2.0], [3.0]]);
/// let synthetic = arr2(&[[0.1], [0.2], [0.3], [9.0]]);
/// let (precision, recall) = asyndgan_metrics::precision_recall(real.view(), synthetic.view(), 1)?;
/// assert_eq!((precision, recall), (0.75, 1.0));
/// # Ok::<(), asyndgan_metrics::Undefined>(())
/// ```
pub fn precision_recall(real: ArrayView2<f64>, synthetic: ArrayView2<f64>, k: usize) -> Result<(f64, f64), Undefined> {
    assert_eq!(real.ncols(), synthetic.ncols(), "the samples have different numbers of features");
    assert!(k > 0, "k must be at least 1");
    if real.nrows() <= k || synthetic.nrows() <= k || real.ncols() == 0 {
        return Err(Undefined::NoSamples);
    }
    if real.iter().chain(synthetic.iter()).any(|v| !v.is_finite()) {
        return Err(Undefined::NotFinite);
    }
    let share = |of: ArrayView2<f64>, by: ArrayView2<f64>| {
        let reach: Vec<f64> = (0..by.nrows()).map(|i| kth(squares(by, by, i), k)).collect();
        // Features may be finite and their squares not.
        if reach.iter().any(|r| !r.is_finite()) {
            return Err(Undefined::NotFinite);
        }
        let covered = |i: &usize| squares(of, by, *i).into_iter().zip(&reach).any(|(d, r)| d <= *r);
        Ok((0..of.nrows()).filter(covered).count() as f64 / of.nrows() as f64)
    };
    Ok((share(synthetic, real)?, share(real, synthetic)?))
}

/// The distance from each point of one sample to the nearest point of another. Synthetic images that are much nearer to
/// the training images than other real images are copies of them.
///
/// # Shapes
/// `[samples, features]` each, with the same number of features, to one distance per sample of `from`.
///
/// # Panics
/// If the numbers of features differ.
///
/// # Errors
/// [`Undefined::NoSamples`] if either sample is empty, [`Undefined::NotFinite`].
///
/// # Example
/// ```
/// use ndarray::arr2;
/// let near = asyndgan_metrics::nearest_distances(arr2(&[[0.0, 1.0]]).view(), arr2(&[[0.0, 4.0], [0.0, 3.0]]).view())?;
/// assert_eq!(near, [2.0]);
/// # Ok::<(), asyndgan_metrics::Undefined>(())
/// ```
pub fn nearest_distances(from: ArrayView2<f64>, to: ArrayView2<f64>) -> Result<Vec<f64>, Undefined> {
    assert_eq!(from.ncols(), to.ncols(), "the samples have different numbers of features");
    if from.nrows() == 0 || to.nrows() == 0 {
        return Err(Undefined::NoSamples);
    }
    let nearest: Vec<f64> = (0..from.nrows()).map(|i| squares(from, to, i).into_iter().fold(f64::INFINITY, f64::min).sqrt()).collect();
    if nearest.iter().all(|d| d.is_finite()) { Ok(nearest) } else { Err(Undefined::NotFinite) }
}

/// Squared distances from one point to all of a sample.
fn squares(from: ArrayView2<f64>, to: ArrayView2<f64>, i: usize) -> Vec<f64> {
    (0..to.nrows()).map(|k| (0..to.ncols()).map(|f| (to[[k, f]] - from[[i, f]]).powi(2)).sum()).collect()
}

/// The `k`-th smallest besides the point itself.
fn kth(mut distances: Vec<f64>, k: usize) -> f64 {
    *distances.select_nth_unstable_by(k, f64::total_cmp).1
}

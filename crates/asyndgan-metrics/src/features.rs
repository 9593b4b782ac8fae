use nalgebra::DMatrix;
use ndarray::{Array2, ArrayView2, Axis};

use crate::Undefined;

/// Fréchet distance of two samples of features, each modelled as a Gaussian: `|m_a - m_b|² + tr(C_a + C_b - 2 (C_a
/// C_b)^½)`.
///
/// The trace of the root is the sum of the singular values of the product of the two centred samples, so no matrix is
/// inverted or square-rooted, and few samples of many features are not a problem. The value depends on the number of
/// samples: report it.
///
/// # Shapes
/// `[samples, features]` each, with the same number of features; at least two samples each.
///
/// # Panics
/// If the numbers of features differ.
///
/// # Errors
/// [`Undefined::NoSamples`] for fewer than two samples or no features, [`Undefined::NotFinite`].
///
/// # Reference
/// Heusel et al., `NeurIPS` 2017. Covariances have denominator n - 1.
///
/// # Example
/// ```
/// use ndarray::arr2;
/// let (a, b) = (arr2(&[[0.0], [2.0]]), arr2(&[[3.0], [5.0]]));
/// assert!((asyndgan_metrics::fid(a.view(), b.view())? - 9.0).abs() < 1e-12);
/// # Ok::<(), asyndgan_metrics::Undefined>(())
/// ```
pub fn fid(a: ArrayView2<f64>, b: ArrayView2<f64>) -> Result<f64, Undefined> {
    check(a, b)?;
    let (mean_a, root_a, trace_a) = gaussian(a);
    let (mean_b, root_b, trace_b) = gaussian(b);
    let apart: f64 = mean_a.iter().zip(&mean_b).map(|(x, y)| (x - y) * (x - y)).sum();
    let product = root_a * root_b.transpose();
    finite(apart + trace_a + trace_b + product.sum())?;
    let shared: f64 = product.singular_values().iter().sum();
    Ok(finite(apart + trace_a + trace_b - 2.0 * shared)?.max(0.0))
}

/// Kernel distance of two samples of features: the unbiased estimate of the squared maximum mean discrepancy under the
/// kernel `(x·y / features + 1)³`, over all samples. May be slightly below 0.
///
/// # Shapes
/// As [`fid`].
///
/// # Panics
/// If the numbers of features differ.
///
/// # Errors
/// As [`fid`].
///
/// # Reference
/// Bińkowski et al., ICLR 2018; they average over subsets, which estimates the same quantity.
///
/// # Example
/// ```
/// let a = ndarray::arr2(&[[0.0], [1.0]]);
/// assert!((asyndgan_metrics::kid(a.view(), a.view())? + 3.5).abs() < 1e-12);
/// # Ok::<(), asyndgan_metrics::Undefined>(())
/// ```
pub fn kid(a: ArrayView2<f64>, b: ArrayView2<f64>) -> Result<f64, Undefined> {
    check(a, b)?;
    let features = a.ncols() as f64;
    let kernel = |x: ArrayView2<f64>, y: ArrayView2<f64>| -> Array2<f64> { x.dot(&y.t()).mapv(|v| (v / features + 1.0).powi(3)) };
    // Without what a sample has in common with itself.
    let within = |x: ArrayView2<f64>| {
        let (k, n) = (kernel(x, x), x.nrows() as f64);
        (k.sum() - k.diag().sum()) / (n * (n - 1.0))
    };
    let across = kernel(a, b).mean().unwrap_or(0.0);
    finite(within(a) + within(b) - 2.0 * across)
}

fn check(a: ArrayView2<f64>, b: ArrayView2<f64>) -> Result<(), Undefined> {
    assert_eq!(a.ncols(), b.ncols(), "the samples have different numbers of features");
    if a.nrows() < 2 || b.nrows() < 2 || a.ncols() == 0 {
        return Err(Undefined::NoSamples);
    }
    if a.iter().chain(b.iter()).any(|v| !v.is_finite()) { Err(Undefined::NotFinite) } else { Ok(()) }
}

/// Features may be finite and their squares not.
fn finite(value: f64) -> Result<f64, Undefined> {
    if value.is_finite() { Ok(value) } else { Err(Undefined::NotFinite) }
}

/// The mean, a root of the covariance with as few rows as there can be, and the covariance's trace.
fn gaussian(x: ArrayView2<f64>) -> (Vec<f64>, DMatrix<f64>, f64) {
    let (samples, features) = x.dim();
    let mean = x.mean_axis(Axis(0)).expect("samples");
    let scale = 1.0 / (samples as f64 - 1.0).sqrt();
    let centred = DMatrix::from_fn(samples, features, |i, k| (x[[i, k]] - mean[k]) * scale);
    let trace = centred.norm_squared();
    let root = if samples > features { centred.qr().r() } else { centred };
    (mean.to_vec(), root, trace)
}

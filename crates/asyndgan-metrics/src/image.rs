use ndarray::{Array2, ArrayView, ArrayView2, Axis, Dimension, Slice, Zip};

use crate::Undefined;

/// Peak signal-to-noise ratio in decibels, `10 log10(range² / mean squared difference)`.
///
/// # Shapes
/// Both have the same shape.
///
/// # Units
/// `range` is the largest difference that two values can have: 255 for bytes, 2 for images in [-1, 1].
///
/// # Panics
/// If the shapes differ, or the range is not above 0 and finite.
///
/// # Errors
/// [`Undefined::Identical`] (the ratio is infinite), [`Undefined::NotFinite`], [`Undefined::NoSamples`].
///
/// # Reference
/// `skimage.metrics.peak_signal_noise_ratio`.
///
/// # Example
/// ```
/// let (a, b) = (ndarray::arr1(&[0.0, 10.0]), ndarray::arr1(&[0.0, 11.0]));
/// assert!((asyndgan_metrics::psnr(a.view(), b.view(), 255.0)? - 51.1411).abs() < 1e-4);
/// # Ok::<(), asyndgan_metrics::Undefined>(())
/// ```
pub fn psnr<D: Dimension>(a: ArrayView<f64, D>, b: ArrayView<f64, D>, range: f64) -> Result<f64, Undefined> {
    assert_eq!(a.shape(), b.shape(), "the images differ in shape");
    assert!(range > 0.0 && range.is_finite(), "the range must be above 0 and finite, got {range}");
    if a.is_empty() {
        return Err(Undefined::NoSamples);
    }
    let mut squares = 0.0;
    Zip::from(&a).and(&b).for_each(|a, b| squares += (a - b) * (a - b));
    let mean = squares / a.len() as f64;
    match mean {
        m if !m.is_finite() => Err(Undefined::NotFinite),
        0.0 => Err(Undefined::Identical),
        m => Ok(10.0 * (range * range / m).log10()),
    }
}

/// The window over which SSIM computes local means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Window {
    /// Equal weights over an odd number of rows and columns, with sample covariances. The default of scikit-image is 7.
    Uniform(usize),
    /// Gaussian weights with this standard deviation, truncated at 3.5 standard deviations; Wang et al. use 1.5, which
    /// gives 11 rows and columns.
    Gaussian(f64),
}

/// Structural similarity of two grey images: the mean over all positions where the window fits.
///
/// # Shapes
/// Both `[rows, columns]`; for colour images, average over the channels.
///
/// # Units
/// `range` as for [`psnr`]; K1 is 0.01, K2 0.03.
///
/// # Panics
/// If the shapes differ, a uniform window is even, or the standard deviation of a Gaussian window is not positive.
///
/// # Errors
/// [`Undefined::TooSmall`] where the window does not fit, [`Undefined::NotFinite`].
///
/// # Reference
/// Wang et al., IEEE Transactions on Image Processing 13(4), 2004; `skimage.metrics.structural_similarity` with
/// `gaussian_weights` and `use_sample_covariance=False` for the Gaussian window.
///
/// # Example
/// ```
/// use asyndgan_metrics::{Window, ssim};
/// let image = ndarray::Array2::from_shape_fn((16, 16), |(r, c)| ((r * c) % 7) as f64);
/// assert_eq!(ssim(image.view(), image.view(), 6.0, Window::Uniform(7)), Ok(1.0));
/// ```
pub fn ssim(a: ArrayView2<f64>, b: ArrayView2<f64>, range: f64, window: Window) -> Result<f64, Undefined> {
    assert_eq!(a.dim(), b.dim(), "the images differ in shape");
    let (weights, sample) = match window {
        Window::Uniform(size) => {
            assert!(size % 2 == 1, "the size of a uniform window must be odd, got {size}");
            let n = (size * size) as f64;
            (vec![1.0 / size as f64; size], if size > 1 { n / (n - 1.0) } else { 1.0 })
        }
        Window::Gaussian(sd) => {
            assert!(sd > 0.0 && sd < 1e6, "the standard deviation must be above 0, got {sd}");
            let reach = (3.5 * sd + 0.5) as i64;
            let raw: Vec<f64> = (-reach..=reach).map(|k| (-0.5 * (k as f64 / sd).powi(2)).exp()).collect();
            let total: f64 = raw.iter().sum();
            (raw.into_iter().map(|w| w / total).collect(), 1.0)
        }
    };
    if a.nrows() < weights.len() || a.ncols() < weights.len() {
        return Err(Undefined::TooSmall);
    }
    let mean = |image: Array2<f64>| smoothed(&image, &weights);
    let (mean_a, mean_b) = (mean(a.to_owned()), mean(b.to_owned()));
    let (aa, bb, ab) = (mean(&a * &a), mean(&b * &b), mean(&a * &b));
    let (c1, c2) = ((0.01 * range).powi(2), (0.03 * range).powi(2));
    let mut sum = 0.0;
    for (at, &ma) in mean_a.indexed_iter() {
        let mb = mean_b[at];
        let (va, vb, covariance) = (sample * (aa[at] - ma * ma), sample * (bb[at] - mb * mb), sample * (ab[at] - ma * mb));
        sum += (2.0 * ma * mb + c1) * (2.0 * covariance + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2));
    }
    let value = sum / mean_a.len() as f64;
    if value.is_finite() { Ok(value) } else { Err(Undefined::NotFinite) }
}

/// Weighted means wherever the weights fit, along columns and then rows.
fn smoothed(image: &Array2<f64>, weights: &[f64]) -> Array2<f64> {
    let (rows, columns) = image.dim();
    let (rows, columns) = (rows + 1 - weights.len(), columns + 1 - weights.len());
    let mut across = Array2::zeros((image.nrows(), columns));
    for (k, &w) in weights.iter().enumerate() {
        across.scaled_add(w, &image.slice_axis(Axis(1), Slice::from(k..k + columns)));
    }
    let mut both = Array2::zeros((rows, columns));
    for (k, &w) in weights.iter().enumerate() {
        both.scaled_add(w, &across.slice_axis(Axis(0), Slice::from(k..k + rows)));
    }
    both
}

use ndarray::{Array, ArrayView, Dimension, Zip};

use crate::{Undefined, percentile_of_sorted, squared_distance_to};

/// 95 % Hausdorff distance: the 95th percentile of the distances from each surface to the other, then the larger of the two.
///
/// A surface is the marked elements with an unmarked face neighbour; the border of the array counts as unmarked.
///
/// # Shapes
/// Both masks of one shape, of any number of dimensions; one spacing per axis.
///
/// # Units
/// Millimetres.
///
/// # Panics
/// If the shapes differ or the number of spacings is not the number of axes.
///
/// # Errors
/// An empty mask has no surface: [`Undefined::BothEmpty`], [`Undefined::TruthEmpty`] or [`Undefined::PredictionEmpty`].
///
/// # Reference
/// MONAI's and `MetricsReloaded`'s convention; medpy pools both directions before taking the percentile.
///
/// # Example
/// ```
/// use ndarray::arr2;
/// let truth = arr2(&[[true, false, false, false]]);
/// let prediction = arr2(&[[false, false, false, true]]);
/// assert_eq!(asyndgan_metrics::hd95(truth.view(), prediction.view(), &[1.0, 0.5]), Ok(1.5));
/// ```
pub fn hd95<D: Dimension>(truth: ArrayView<bool, D>, prediction: ArrayView<bool, D>, spacing_mm: &[f64]) -> Result<f64, Undefined> {
    assert_eq!(truth.shape(), prediction.shape(), "truth and prediction differ in shape");
    match (truth.iter().any(|&m| m), prediction.iter().any(|&m| m)) {
        (false, false) => return Err(Undefined::BothEmpty),
        (false, true) => return Err(Undefined::TruthEmpty),
        (true, false) => return Err(Undefined::PredictionEmpty),
        (true, true) => {}
    }
    let (truth, prediction) = (surface(truth), surface(prediction));
    let truth_to_prediction_mm = directed(&truth, &prediction, spacing_mm);
    let prediction_to_truth_mm = directed(&prediction, &truth, spacing_mm);
    Ok(truth_to_prediction_mm.max(prediction_to_truth_mm))
}

fn directed<D: Dimension>(from: &Array<bool, D>, to: &Array<bool, D>, spacing_mm: &[f64]) -> f64 {
    let squared = squared_distance_to(to.view(), spacing_mm);
    let mut distances = Vec::new();
    Zip::from(from).and(&squared).for_each(|&on, &d| {
        if on {
            distances.push(d.sqrt());
        }
    });
    distances.sort_by(f64::total_cmp);
    percentile_of_sorted(&distances, 95.0)
}

/// The marked elements that have an unmarked face neighbour, or lie on the border of the array.
fn surface<D: Dimension>(mask: ArrayView<bool, D>) -> Array<bool, D> {
    let mut inside = mask.to_owned();
    for axis in 0..mask.ndim() {
        let axis = ndarray::Axis(axis);
        for (lane, mut out) in mask.lanes(axis).into_iter().zip(inside.lanes_mut(axis)) {
            let n = lane.len();
            for i in 0..n {
                out[i] = out[i] && i > 0 && i + 1 < n && lane[i - 1] && lane[i + 1];
            }
        }
    }
    Zip::from(&mut inside).and(mask).for_each(|inside, &m| *inside = m && !*inside);
    inside
}

use ndarray::{ArrayView, Dimension};

use crate::{Directions, Undefined, boundary::Boundary, nearest, percentile_of_sorted};

/// The distances between the surfaces of two masks; every surface metric is computed from them.
///
/// The surface is the set of marked elements with an unmarked face neighbour; everything outside the array counts as
/// unmarked. Distances are exact, from each element to the nearest element.
///
/// # Units
/// Millimetres.
///
/// # Reference
/// The same surfaces as MONAI and medpy (an erosion by a cross). `DeepMind`'s surface-distance weights each element by
/// the area of the surface through its corners, so its percentiles and ratios differ by design.
///
/// # Example
/// ```
/// use asyndgan_metrics::SurfaceDistances;
/// let truth = ndarray::arr2(&[[true, false, false, false]]);
/// let prediction = ndarray::arr2(&[[true, false, false, true]]);
/// let found = SurfaceDistances::new(truth.view(), prediction.view(), &[1.0, 0.5])?;
/// assert_eq!((found.hausdorff(), found.average()), (1.5, 0.5));
/// assert_eq!(found.surface_dice(1.0), 2.0 / 3.0);
/// # Ok::<(), asyndgan_metrics::Undefined>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SurfaceDistances {
    /// From each element of the truth's surface to the prediction's, ascending.
    truth_to_prediction_mm: Vec<f64>,
    /// From each element of the prediction's surface to the truth's, ascending.
    prediction_to_truth_mm: Vec<f64>,
}

/// Relative error of a distance: that of a sum, a product and a root, and far below what a scanner resolves.
const ROUNDING: f64 = 1e-9;

impl SurfaceDistances {
    /// Measures two masks within the smallest box that contains both. Memory: 2 bytes per element of the box if its
    /// rows and columns are below 255, 4 bytes below 65,535 and 8 bytes above, plus 8 bytes per distance. Masks that
    /// are not in memory order are copied first.
    ///
    /// # Shapes
    /// Both masks have the same shape, with one to three axes; one spacing per axis.
    ///
    /// # Panics
    /// If the shapes differ, there are more than three axes, the number of spacings differs from the number of axes, or
    /// a spacing is outside 1e-9 to 1e9.
    ///
    /// # Errors
    /// An empty mask has no surface: [`Undefined::BothEmpty`], [`Undefined::TruthEmpty`] or
    /// [`Undefined::PredictionEmpty`].
    pub fn new<D: Dimension>(truth: ArrayView<bool, D>, prediction: ArrayView<bool, D>, spacing_mm: &[f64]) -> Result<Self, Undefined> {
        assert_eq!(truth.shape(), prediction.shape(), "truth and prediction differ in shape");
        assert_eq!(spacing_mm.len(), truth.ndim(), "one spacing per axis");
        assert!(spacing_mm.iter().all(|s| (1e-9..=1e9).contains(s)), "spacings must be from 1e-9 to 1e9 mm, got {spacing_mm:?}");
        let (truth, prediction) = (truth.as_standard_layout(), prediction.as_standard_layout());
        let shape = truth.shape();
        let in_order = "standard layout is in memory order";
        let mut truth = Boundary::new(truth.as_slice().expect(in_order), shape);
        let mut prediction = Boundary::new(prediction.as_slice().expect(in_order), shape);
        match (truth.is_empty(), prediction.is_empty()) {
            (true, true) => return Err(Undefined::BothEmpty),
            (true, false) => return Err(Undefined::TruthEmpty),
            (false, true) => return Err(Undefined::PredictionEmpty),
            (false, false) => {}
        }
        truth.share_box(&mut prediction);
        let mut spacing = [1.0; 3];
        spacing[3 - spacing_mm.len()..].copy_from_slice(spacing_mm);
        let ascending = |mut distances: Vec<f64>| {
            distances.sort_unstable_by(f64::total_cmp);
            distances
        };
        Ok(Self {
            truth_to_prediction_mm: ascending(nearest::distances(&truth, &prediction, spacing)),
            prediction_to_truth_mm: ascending(nearest::distances(&prediction, &truth, spacing)),
        })
    }

    /// From each element of the truth's surface to the prediction's, ascending.
    pub fn truth_to_prediction_mm(&self) -> &[f64] {
        &self.truth_to_prediction_mm
    }

    /// From each element of the prediction's surface to the truth's, ascending.
    pub fn prediction_to_truth_mm(&self) -> &[f64] {
        &self.prediction_to_truth_mm
    }

    /// Hausdorff distance: the largest of all distances.
    pub fn hausdorff(&self) -> f64 {
        self.percentile(100.0, Directions::Separate)
    }

    /// A percentile of the distances (linear interpolation): the larger of the two directions, or of both directions
    /// pooled.
    ///
    /// # Panics
    /// If the percentage is not from 0 to 100.
    pub fn percentile(&self, percent: f64, directions: Directions) -> f64 {
        match directions {
            Directions::Separate => {
                percentile_of_sorted(&self.truth_to_prediction_mm, percent).max(percentile_of_sorted(&self.prediction_to_truth_mm, percent))
            }
            Directions::Pooled => {
                let mut all = [self.truth_to_prediction_mm.as_slice(), &self.prediction_to_truth_mm].concat();
                all.sort_unstable_by(f64::total_cmp);
                percentile_of_sorted(&all, percent)
            }
        }
    }

    /// Average symmetric surface distance: the mean of all distances of both directions.
    ///
    /// # Reference
    /// Heimann et al., IEEE Transactions on Medical Imaging 28(8), 2009, as MONAI and medpy 0.5; medpy before 0.5
    /// averaged the two directions' means.
    pub fn average(&self) -> f64 {
        let [a, b] = [&self.truth_to_prediction_mm, &self.prediction_to_truth_mm];
        (a.iter().sum::<f64>() + b.iter().sum::<f64>()) / (a.len() + b.len()) as f64
    }

    /// Normalised surface distance: the share of both surfaces that lies within the tolerance of the other. A distance
    /// of the tolerance itself is within, also if rounding made it larger.
    ///
    /// # Units
    /// The tolerance in millimetres.
    ///
    /// # Reference
    /// Nikolov et al., arXiv 1809.04430, with elements counted as MONAI's `compute_surface_dice` does, not weighted by
    /// area.
    pub fn surface_dice(&self, tolerance_mm: f64) -> f64 {
        let limit = tolerance_mm * (1.0 + ROUNDING);
        let within = |d: &[f64]| d.partition_point(|&mm| mm <= limit);
        let both = within(&self.truth_to_prediction_mm) + within(&self.prediction_to_truth_mm);
        both as f64 / (self.truth_to_prediction_mm.len() + self.prediction_to_truth_mm.len()) as f64
    }
}

/// 95 % Hausdorff distance: the 95th percentile of the distances from each surface to the other, then the larger of the
/// two.
///
/// # Shapes
/// Both masks have the same shape, with one to three axes; one spacing per axis.
///
/// # Units
/// Millimetres.
///
/// # Panics
/// As [`SurfaceDistances::new`].
///
/// # Errors
/// As [`SurfaceDistances::new`].
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
    Ok(SurfaceDistances::new(truth, prediction, spacing_mm)?.percentile(95.0, Directions::Separate))
}

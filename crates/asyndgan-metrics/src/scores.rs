use std::collections::BTreeMap;

use ndarray::{ArrayView, Dimension};

use crate::{Confusion, Convention, ConventionName, Overlaps, SurfaceDistances, Undefined};

/// The metrics of one case by name: the value, or the reason why there is none.
pub type Scores = BTreeMap<&'static str, Result<f64, Undefined>>;

/// All metrics of a mask: dice, jaccard, sensitivity, specificity, precision, `volume_similarity`, and in millimetres
/// hausdorff, hd95, assd, and nsd at the tolerance. If only one mask is empty, the distances are undefined and nsd is
/// 0.
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
/// # Example
/// ```
/// use asyndgan_metrics::{Convention, ConventionName, score_masks};
/// let truth = ndarray::arr2(&[[true, true, false]]);
/// let prediction = ndarray::arr2(&[[false, true, false]]);
/// let scores = score_masks(truth.view(), prediction.view(), &[1.0, 1.0], 1.0, &Convention::new(ConventionName::Standard, "tile"));
/// assert_eq!((scores["dice"], scores["hausdorff"], scores["nsd"]), (Ok(2.0 / 3.0), Ok(1.0), Ok(1.0)));
/// ```
pub fn score_masks<D: Dimension>(
    truth: ArrayView<bool, D>,
    prediction: ArrayView<bool, D>,
    spacing_mm: &[f64],
    tolerance_mm: f64,
    convention: &Convention,
) -> Scores {
    let overlap = Confusion::new(truth.view(), prediction.view());
    let surfaces = SurfaceDistances::new(truth, prediction, spacing_mm);
    let far = |value: &dyn Fn(&SurfaceDistances) -> f64| surfaces.as_ref().map(value).map_err(|reason| *reason);
    // One of the surfaces is missing: none of it lies near the other.
    let near = match far(&|s| s.surface_dice(tolerance_mm)) {
        Err(Undefined::TruthEmpty | Undefined::PredictionEmpty) => Ok(0.0),
        other => other,
    };
    let dice = match convention.name {
        // MONAI leaves out a case without truth, also if the prediction marks something.
        ConventionName::Monai => overlap.dice().and_then(|dice| overlap.sensitivity().map(|_| dice)),
        _ => convention.apply(overlap.dice()),
    };
    BTreeMap::from([
        ("dice", dice),
        ("jaccard", convention.apply(overlap.jaccard())),
        ("sensitivity", overlap.sensitivity()),
        ("specificity", overlap.specificity()),
        ("precision", overlap.precision()),
        ("volume_similarity", convention.apply(overlap.volume_similarity())),
        ("hausdorff", far(&SurfaceDistances::hausdorff)),
        ("hd95", far(&|s| s.percentile(95.0, convention.percentiles))),
        ("assd", far(&SurfaceDistances::average)),
        ("nsd", convention.apply(near)),
    ])
}

/// All instance metrics: aji, `aji_plus`, pq, sq, f1 (at an intersection over union of 0.5) and `object_dice`.
///
/// # Shapes
/// Both label maps have the same shape; 0 is background.
///
/// # Panics
/// If the shapes differ.
///
/// # Example
/// ```
/// use asyndgan_metrics::{Convention, ConventionName, score_instances};
/// let labels = ndarray::arr2(&[[1, 0, 2]]);
/// let scores = score_instances(labels.view(), labels.view(), &Convention::new(ConventionName::Standard, "tile"));
/// assert!(scores.values().all(|value| *value == Ok(1.0)));
/// ```
pub fn score_instances<D: Dimension>(truth: ArrayView<u32, D>, prediction: ArrayView<u32, D>, convention: &Convention) -> Scores {
    Overlaps::new(truth, prediction).scores(convention)
}

impl Overlaps {
    /// All instance metrics, as [`score_instances`] returns them.
    pub fn scores(&self, convention: &Convention) -> Scores {
        let matching = self.matching(0.5);
        let all = [
            ("aji", self.aji().value()),
            ("aji_plus", self.aji_plus().value()),
            ("pq", matching.pq()),
            ("sq", matching.sq()),
            ("f1", matching.f1()),
            ("object_dice", self.object_dice()),
        ];
        all.into_iter().map(|(name, value)| (name, convention.apply(value))).collect()
    }
}

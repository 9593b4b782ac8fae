use std::collections::BTreeMap;

use asyndgan_medio::TestCase;
use asyndgan_metrics::{Confusion, Scores, aji, hd95};
use ndarray::{Array3, ArrayView, Axis, Dimension};

use crate::Task;

/// Scores a prediction: for a tumour dice, sensitivity, specificity and hd95 (millimetres), over all slices of the case; for nuclei
/// dice and aji.
///
/// # Shapes
/// The prediction has the shape of the case's truth.
///
/// # Panics
/// If the shapes differ.
pub fn score(task: Task, case: &TestCase, prediction: &Array3<u32>) -> Scores {
    let (truth_mask, prediction_mask) = (case.truth.mapv(|l| l > 0), prediction.mapv(|l| l > 0));
    match task {
        Task::Tumour => tumour(truth_mask.view(), prediction_mask.view(), &case.spacing_mm),
        Task::Nuclei => {
            let (truth, prediction) = (case.truth.index_axis(Axis(0), 0), prediction.index_axis(Axis(0), 0));
            BTreeMap::from([("dice", Confusion::of(truth_mask.view(), prediction_mask.view()).dice()), ("aji", aji(truth, prediction))])
        }
    }
}

/// Scores the prediction of a tumour for each slice separately, with the metrics of [`score`].
///
/// # Shapes
/// The prediction has the shape of the case's truth.
///
/// # Panics
/// If the shapes differ.
pub fn score_slices(case: &TestCase, prediction: &Array3<u32>) -> Vec<Scores> {
    let (truth_mask, prediction_mask) = (case.truth.mapv(|l| l > 0), prediction.mapv(|l| l > 0));
    assert_eq!(truth_mask.dim(), prediction_mask.dim(), "truth and prediction differ in shape");
    let slices = truth_mask.outer_iter().zip(prediction_mask.outer_iter());
    slices.map(|(truth, prediction)| tumour(truth, prediction, &case.spacing_mm[1..])).collect()
}

fn tumour<D: Dimension>(truth: ArrayView<bool, D>, prediction: ArrayView<bool, D>, spacing_mm: &[f64]) -> Scores {
    let overlap = Confusion::of(truth.view(), prediction.view());
    BTreeMap::from([
        ("dice", overlap.dice()),
        ("sensitivity", overlap.sensitivity()),
        ("specificity", overlap.specificity()),
        ("hd95", hd95(truth, prediction, spacing_mm)),
    ])
}

#[cfg(test)]
mod tests {
    use asyndgan_metrics::Undefined;
    use ndarray::{Array4, array};

    use super::*;

    #[test]
    fn a_slice_is_scored_by_itself_and_one_without_tumour_has_no_dice() {
        let truth = array![[[1, 1, 0], [0, 0, 0]], [[2, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]];
        let prediction = array![[[1, 1, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]];
        let case = TestCase { id: "a".into(), images: Array4::zeros((3, 1, 2, 3)), truth, spacing_mm: [9.0, 1.0, 0.5] };
        let slices = score_slices(&case, &prediction);
        assert_eq!((slices[0]["dice"], slices[0]["hd95"]), (Ok(1.0), Ok(0.0)));
        // Two pixels of half a millimetre away, and no slice of 9 mm.
        assert_eq!((slices[1]["dice"], slices[1]["sensitivity"], slices[1]["hd95"]), (Ok(0.0), Ok(0.0), Ok(1.0)));
        assert!(matches!(slices[2]["dice"], Err(Undefined::BothEmpty)), "{:?}", slices[2]);
        assert_eq!(slices[2]["specificity"], Ok(1.0));
        assert_eq!(score(Task::Tumour, &case, &prediction)["dice"], Ok(2.0 * 2.0 / 6.0));
    }
}

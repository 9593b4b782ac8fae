use std::collections::BTreeMap;

use asyndgan_medio::TestCase;
use asyndgan_metrics::{Confusion, Scores, aji, hd95};
use ndarray::{Array3, Axis};

use crate::Task;

/// Scores a prediction: dice, sensitivity, specificity and hd95 (millimetres) of a tumour over the case's slices together; dice
/// and aji of nuclei.
///
/// # Shapes
/// The prediction has the shape of the case's truth.
///
/// # Panics
/// If it has not.
pub fn score(task: Task, case: &TestCase, prediction: &Array3<u32>) -> Scores {
    let (truth_mask, prediction_mask) = (case.truth.mapv(|l| l > 0), prediction.mapv(|l| l > 0));
    let overlap = Confusion::of(truth_mask.view(), prediction_mask.view());
    match task {
        Task::Tumour => BTreeMap::from([
            ("dice", overlap.dice()),
            ("sensitivity", overlap.sensitivity()),
            ("specificity", overlap.specificity()),
            ("hd95", hd95(truth_mask.view(), prediction_mask.view(), &case.spacing_mm)),
        ]),
        Task::Nuclei => {
            let (truth, prediction) = (case.truth.index_axis(Axis(0), 0), prediction.index_axis(Axis(0), 0));
            BTreeMap::from([("dice", overlap.dice()), ("aji", aji(truth, prediction))])
        }
    }
}

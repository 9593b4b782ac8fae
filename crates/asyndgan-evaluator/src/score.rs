use std::collections::BTreeMap;

use asyndgan_data::TestCase;
use asyndgan_metrics::{Confusion, Undefined, aji, hd95};
use asyndgan_task::{Column, IGNORED, ImageKind, LabelKind, Metric, Task};
use ndarray::{Array, Array3, ArrayView, Axis, Dimension};

/// The scores of one case by column of the task's table: the value, or the reason why there is none.
pub type TaskScores = BTreeMap<String, Result<f64, Undefined>>;

/// Scores a prediction over all slices of the case, in the columns of the task. Pixels that were not annotated count as
/// background in both.
///
/// # Shapes
/// The prediction has the shape of the case's truth.
///
/// # Panics
/// If the shapes differ.
pub fn score(task: &Task, case: &TestCase, prediction: &Array3<u32>) -> TaskScores {
    // A single slice is scored in two dimensions: in three, every voxel would be on the surface.
    if case.truth.len_of(Axis(0)) == 1 {
        return in_plane(task, case, prediction);
    }
    columns(task, case.truth.view(), prediction.view(), &case.spacing_mm)
}

/// The scores of the only slice.
fn in_plane(task: &Task, case: &TestCase, prediction: &Array3<u32>) -> TaskScores {
    columns(task, case.truth.index_axis(Axis(0), 0), prediction.index_axis(Axis(0), 0), &case.spacing_mm[1..])
}

/// Scores the prediction of a volume for each slice separately, with the columns of [`score`]; empty for pictures.
///
/// # Shapes
/// The prediction has the shape of the case's truth.
///
/// # Panics
/// If the shapes differ.
pub fn score_slices(task: &Task, case: &TestCase, prediction: &Array3<u32>) -> Vec<TaskScores> {
    assert_eq!(case.truth.dim(), prediction.dim(), "truth and prediction differ in shape");
    if task.images == ImageKind::Pictures {
        return Vec::new();
    }
    let slices = case.truth.outer_iter().zip(prediction.outer_iter());
    slices.map(|(truth, prediction)| columns(task, truth, prediction, &case.spacing_mm[1..])).collect()
}

fn columns<D: Dimension>(task: &Task, truth: ArrayView<u32, D>, prediction: ArrayView<u32, D>, spacing_mm: &[f64]) -> TaskScores {
    assert_eq!(truth.shape(), prediction.shape(), "truth and prediction differ in shape");
    let ignored = truth.mapv(|label| task.condition_code_of(label) == Some(IGNORED));
    let without = |labels: ArrayView<u32, D>| {
        let mut kept = labels.to_owned();
        kept.zip_mut_with(&ignored, |label, &off| {
            if off {
                *label = 0;
            }
        });
        kept
    };
    let (truth, prediction) = (without(truth), without(prediction));
    let mut scores = TaskScores::new();
    for (region, _) in task.region_names().iter().enumerate() {
        let [of_truth, of_prediction] = [&truth, &prediction].map(|labels| in_region(task, labels, region));
        let overlap = Confusion::new(of_truth.view(), of_prediction.view());
        for Column { name, metric, .. } in task.columns().into_iter().filter(|c| c.region == Some(region)) {
            let value = match metric {
                Metric::Sensitivity => overlap.sensitivity(),
                Metric::Specificity => overlap.specificity(),
                Metric::Hd95 => hd95(of_truth.view(), of_prediction.view(), spacing_mm),
                Metric::Aji => aji(truth.view(), prediction.view()),
                _ => overlap.dice(),
            };
            scores.insert(name, value);
        }
    }
    if let Some(mean) = task.columns().into_iter().find(|c| c.region.is_none()) {
        let is_mean_of = |c: &Column| c.metric == mean.metric && c.region.is_some();
        let values: Vec<f64> = task.columns().iter().filter(|c| is_mean_of(c)).filter_map(|c| scores[&c.name].ok()).collect();
        let value = if values.is_empty() { Err(Undefined::BothEmpty) } else { Ok(values.iter().sum::<f64>() / values.len() as f64) };
        scores.insert(mean.name, value);
    }
    scores
}

fn in_region<D: Dimension>(task: &Task, labels: &Array<u32, D>, region: usize) -> Array<bool, D> {
    match task.labels {
        LabelKind::Instances => labels.mapv(|label| label > 0),
        LabelKind::Classes => labels.mapv(|label| task.condition_code_of(label).is_some_and(|code| task.is_in_region(code, region))),
    }
}

#[cfg(test)]
mod tests {
    use asyndgan_data::Placement;
    use ndarray::{Array4, array};

    use super::*;

    fn task(regions: &str) -> Task {
        let text = r#"
            name = "t"
            images = "volumes"
            ignore = 9
            channels = [{ name = "a", normalisation = "z_score" }]
            classes = [{ name = "a", labels = [1] }, { name = "b", labels = [2] }]
        "#;
        Task::parse(&format!("{text}\n{regions}")).expect("a task")
    }

    fn case(truth: Array3<u32>) -> TestCase {
        let images = Array4::zeros((truth.len_of(Axis(0)), 1, 2, 3));
        TestCase { id: "a".into(), images, content: Placement::whole(2, 3), truth, spacing_mm: [9.0, 1.0, 0.5] }
    }

    #[test]
    fn a_slice_is_scored_by_itself_and_one_without_tumour_has_no_dice() {
        let whole = task("regions = [{ name = 'whole', classes = ['a', 'b'] }]");
        let case = case(array![[[1, 1, 0], [0, 0, 0]], [[2, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]);
        let prediction = array![[[1, 1, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]];
        let slices = score_slices(&whole, &case, &prediction);
        assert_eq!((slices[0]["dice"], slices[0]["hd95"]), (Ok(1.0), Ok(0.0)));
        // Two pixels of half a millimetre away, and no slice of 9 mm.
        assert_eq!((slices[1]["dice"], slices[1]["sensitivity"], slices[1]["hd95"]), (Ok(0.0), Ok(0.0), Ok(1.0)));
        assert!(matches!(slices[2]["dice"], Err(Undefined::BothEmpty)), "{:?}", slices[2]);
        assert_eq!(slices[2]["specificity"], Ok(1.0));
        assert_eq!(score(&whole, &case, &prediction)["dice"], Ok(2.0 * 2.0 / 6.0));
    }

    #[test]
    fn a_volume_of_one_slice_is_scored_in_two_dimensions() {
        let whole = task("regions = [{ name = 'whole', classes = ['a', 'b'] }]");
        let square = |from: usize, to: usize| {
            Array3::from_shape_fn((1, 13, 13), |(_, r, c)| u32::from((from..to).contains(&r) && (from..to).contains(&c)))
        };
        let truth = square(2, 11);
        let images = Array4::zeros((1, 1, 13, 13));
        let case = TestCase { id: "a".into(), images, content: Placement::whole(13, 13), truth, spacing_mm: [9.0, 1.0, 1.0] };
        let prediction = square(3, 10);
        let scores = score(&whole, &case, &prediction);
        // In three dimensions, every pixel would be of the surface, and most of them at a distance of 0.
        assert_eq!(scores["hd95"], Ok(2.0_f64.sqrt()));
        assert_eq!(scores, score_slices(&whole, &case, &prediction)[0]);
    }

    #[test]
    fn every_region_is_scored_and_the_mean_is_over_those_with_a_value() {
        let classes = task("");
        let case = case(array![[[1, 1, 0], [9, 0, 0]]]);
        // The last pixel was not annotated.
        let scores = score(&classes, &case, &array![[[1, 0, 0], [2, 0, 0]]]);
        assert_eq!(scores["a dice"], Ok(2.0 / 3.0));
        assert!(scores["b dice"].is_err());
        assert_eq!(scores["dice"], Ok(2.0 / 3.0));
        let wrong = score(&classes, &case, &array![[[1, 0, 2], [0, 0, 0]]]);
        assert_eq!((wrong["b dice"], wrong["dice"]), (Ok(0.0), Ok(1.0 / 3.0)));
    }
}

use std::collections::BTreeMap;

use ndarray::{ArrayView2, Zip};

use crate::Undefined;

/// Aggregated Jaccard index of two instance label maps (0 is background).
///
/// Every truth instance takes the prediction of best intersection over union, which may serve several truths; a truth that
/// meets no prediction adds its own area to the union, and so does every prediction that served none.
///
/// # Shapes
/// Both `[height, width]`. Labels need not be contiguous.
///
/// # Panics
/// If the shapes differ.
///
/// # Errors
/// [`Undefined::BothEmpty`].
///
/// # Reference
/// Kumar et al., IEEE Transactions on Medical Imaging 36(7), 2017, algorithm 1. Of equal ones the smaller label is taken.
///
/// # Example
/// ```
/// let truth = ndarray::arr2(&[[1, 1, 0, 2]]);
/// let prediction = ndarray::arr2(&[[5, 0, 0, 7]]);
/// assert_eq!(asyndgan_metrics::aji(truth.view(), prediction.view()), Ok(2.0 / 3.0));
/// ```
pub fn aji(truth: ArrayView2<u32>, prediction: ArrayView2<u32>) -> Result<f64, Undefined> {
    assert_eq!(truth.shape(), prediction.shape(), "truth and prediction differ in shape");
    let mut truth_area = BTreeMap::<u32, u64>::new();
    let mut prediction_area = BTreeMap::<u32, u64>::new();
    let mut shared = BTreeMap::<(u32, u32), u64>::new();
    Zip::from(truth).and(prediction).for_each(|&t, &p| {
        if t > 0 {
            *truth_area.entry(t).or_default() += 1;
        }
        if p > 0 {
            *prediction_area.entry(p).or_default() += 1;
        }
        if t > 0 && p > 0 {
            *shared.entry((t, p)).or_default() += 1;
        }
    });
    let (mut intersection, mut union) = (0, 0);
    let mut unused = prediction_area.clone();
    for (&t, &area) in &truth_area {
        let mut best: Option<(f64, u64, u64, u32)> = None;
        for (&(_, p), &common) in shared.range((t, 0)..=(t, u32::MAX)) {
            let joined = area + prediction_area[&p] - common;
            let iou = common as f64 / joined as f64;
            if best.is_none_or(|(other, ..)| iou > other) {
                best = Some((iou, common, joined, p));
            }
        }
        if let Some((_, common, joined, p)) = best {
            intersection += common;
            union += joined;
            unused.remove(&p);
        } else {
            union += area;
        }
    }
    union += unused.values().sum::<u64>();
    if union == 0 { Err(Undefined::BothEmpty) } else { Ok(intersection as f64 / union as f64) }
}

use ndarray::{ArrayView, Dimension};

/// The overlaps of two instance label maps: the size of every instance, and the intersection of every pair. All
/// instance metrics are computed from it.
///
/// # Shapes
/// Both maps have the same shape, with any number of axes; 0 is background, and labels need not be contiguous.
///
/// # Example
/// ```
/// let truth = ndarray::arr2(&[[1, 1, 0, 2]]);
/// let prediction = ndarray::arr2(&[[5, 0, 0, 7]]);
/// let overlaps = asyndgan_metrics::Overlaps::new(truth.view(), prediction.view());
/// assert_eq!((overlaps.truths(), overlaps.predictions()), (2, 2));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlaps {
    /// Size of each truth instance, by ascending label.
    pub(crate) truth_sizes: Vec<u64>,
    /// Size of each predicted instance, by ascending label.
    pub(crate) prediction_sizes: Vec<u64>,
    /// Pairs that share elements: index of the truth, index of the prediction, number of shared elements; ascending.
    pub(crate) pairs: Vec<(u32, u32, u64)>,
}

impl Overlaps {
    /// Computes the overlaps of a prediction with the truth.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn new<D: Dimension>(truth: ArrayView<u32, D>, prediction: ArrayView<u32, D>) -> Self {
        assert_eq!(truth.shape(), prediction.shape(), "truth and prediction differ in shape");
        let (truth, prediction) = (truth.as_standard_layout(), prediction.as_standard_layout());
        let (mut runs, mut run) = (Vec::new(), ((0, 0), 0_u64));
        for pair in truth.iter().copied().zip(prediction.iter().copied()) {
            if pair == run.0 {
                run.1 += 1;
            } else {
                runs.push(run);
                run = (pair, 1);
            }
        }
        runs.push(run);
        // Few runs are left of many elements: sorting them is cheap.
        runs.retain(|(pair, _)| *pair != (0, 0));
        runs.sort_unstable();
        runs.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 += if same { next.1 } else { 0 };
            same
        });
        let truths = sorted(runs.iter().map(|run| run.0.0));
        let predictions = sorted(runs.iter().map(|run| run.0.1));
        let place = |labels: &[u32], label: u32| labels.binary_search(&label).ok();
        let (mut truth_sizes, mut prediction_sizes) = (vec![0; truths.len()], vec![0; predictions.len()]);
        let mut pairs = Vec::new();
        for ((t, p), count) in runs {
            let (t, p) = (place(&truths, t), place(&predictions, p));
            if let Some(t) = t {
                truth_sizes[t] += count;
            }
            if let Some(p) = p {
                prediction_sizes[p] += count;
            }
            if let (Some(t), Some(p)) = (t, p) {
                pairs.push((t as u32, p as u32, count));
            }
        }
        Self { truth_sizes, prediction_sizes, pairs }
    }

    /// Number of truth instances.
    pub fn truths(&self) -> usize {
        self.truth_sizes.len()
    }

    /// Number of predicted instances.
    pub fn predictions(&self) -> usize {
        self.prediction_sizes.len()
    }

    /// Size of the union of a pair.
    pub(crate) fn union(&self, &(t, p, shared): &(u32, u32, u64)) -> u64 {
        self.truth_sizes[t as usize] + self.prediction_sizes[p as usize] - shared
    }

    pub(crate) fn iou(&self, pair: &(u32, u32, u64)) -> f64 {
        pair.2 as f64 / self.union(pair) as f64
    }
}

fn sorted(labels: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut labels: Vec<u32> = labels.filter(|&l| l > 0).collect();
    labels.sort_unstable();
    labels.dedup();
    labels
}

use std::{iter::Sum, ops::Add};

use ndarray::{ArrayView, Dimension};

use crate::{Overlaps, Undefined, assignment::assign};

/// Intersection and union, each summed over instances. Add the values of several images to get the pooled index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Aggregate {
    /// Number of shared elements.
    pub intersection: u64,
    /// Number of covered elements.
    pub union: u64,
}

/// Counts of matched and unmatched instances. Add the values of several images to get the pooled counts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Matching {
    /// Pairs of truth and prediction that match.
    pub true_positive: u64,
    /// Predictions without a matching truth.
    pub false_positive: u64,
    /// Truths without a matching prediction.
    pub false_negative: u64,
    /// Sum of the intersections over unions of the matching pairs.
    pub iou: f64,
}

impl Overlaps {
    /// Aggregated Jaccard index: every truth is paired with the prediction of the highest intersection over union; a
    /// prediction may be paired with several truths. Every unpaired truth and every unpaired prediction adds its size
    /// to the union.
    ///
    /// # Reference
    /// Kumar et al., IEEE Transactions on Medical Imaging 36(7), 2017, algorithm 1. Ties go to the smaller label.
    ///
    /// # Example
    /// ```
    /// let truth = ndarray::arr2(&[[1, 1, 0, 2]]);
    /// let prediction = ndarray::arr2(&[[5, 0, 0, 7]]);
    /// let overlaps = asyndgan_metrics::Overlaps::new(truth.view(), prediction.view());
    /// assert_eq!(overlaps.aji().value(), Ok(2.0 / 3.0));
    /// ```
    pub fn aji(&self) -> Aggregate {
        let chosen: Vec<&(u32, u32, u64)> = self
            .pairs
            .chunk_by(|a, b| a.0 == b.0)
            .filter_map(|of_one| of_one.iter().reduce(|best, pair| if self.iou(pair) > self.iou(best) { pair } else { best }))
            .collect();
        self.aggregate(&chosen)
    }

    /// AJI+: as AJI, but every prediction is paired at most once, so that the sum of intersections over unions is
    /// maximal.
    ///
    /// # Reference
    /// Graham et al., Medical Image Analysis 58, 2019 (`HoVer`-Net), `get_fast_aji_plus`.
    ///
    /// # Example
    /// ```
    /// // One prediction covers two truths and one more pixel: it is paired with both in AJI, and with one in AJI+.
    /// let (truth, prediction) = (ndarray::arr2(&[[1, 1, 2, 0]]), ndarray::arr2(&[[5, 5, 5, 5]]));
    /// let overlaps = asyndgan_metrics::Overlaps::new(truth.view(), prediction.view());
    /// assert_eq!((overlaps.aji().value(), overlaps.aji_plus().value()), (Ok(3.0 / 8.0), Ok(2.0 / 5.0)));
    /// ```
    pub fn aji_plus(&self) -> Aggregate {
        self.aggregate(&self.matched(0.0))
    }

    /// Matches truths and predictions one to one, with an intersection over union strictly above `iou_min`.
    ///
    /// From 0.5 on the matching is unique; below, the one with the largest sum is used.
    ///
    /// # Reference
    /// Kirillov et al., Panoptic Segmentation, CVPR 2019.
    ///
    /// # Example
    /// ```
    /// let truth = ndarray::arr2(&[[1, 1, 1, 2]]);
    /// let prediction = ndarray::arr2(&[[5, 5, 0, 0]]);
    /// let found = asyndgan_metrics::Overlaps::new(truth.view(), prediction.view()).matching(0.5);
    /// assert_eq!((found.f1(), found.sq(), found.pq()), (Ok(2.0 / 3.0), Ok(2.0 / 3.0), Ok(4.0 / 9.0)));
    /// ```
    pub fn matching(&self, iou_min: f64) -> Matching {
        let matched = self.matched(iou_min);
        let n = matched.len();
        Matching {
            true_positive: n as u64,
            false_positive: (self.predictions() - n) as u64,
            false_negative: (self.truths() - n) as u64,
            iou: matched.iter().map(|pair| self.iou(pair)).fold(0.0, Add::add),
        }
    }

    /// Object Dice: the Dice coefficient of each instance with the instance of the other side that overlaps it most,
    /// weighted by size within each side, then averaged over both sides.
    ///
    /// # Errors
    /// [`Undefined::BothEmpty`]; 0 when only one side is empty.
    ///
    /// # Reference
    /// Sirinukunwattana et al., Medical Image Analysis 35, 2017 (the `GlaS` contest). Ties go to the smaller label.
    ///
    /// # Example
    /// ```
    /// let (truth, prediction) = (ndarray::arr2(&[[1, 1, 0, 2]]), ndarray::arr2(&[[5, 5, 0, 0]]));
    /// let overlaps = asyndgan_metrics::Overlaps::new(truth.view(), prediction.view());
    /// // Two thirds of the truth match exactly, and all of the prediction.
    /// assert!((overlaps.object_dice()? - 5.0 / 6.0).abs() < 1e-12);
    /// # Ok::<(), asyndgan_metrics::Undefined>(())
    /// ```
    pub fn object_dice(&self) -> Result<f64, Undefined> {
        let sizes = [&self.truth_sizes, &self.prediction_sizes];
        if sizes.iter().all(|s| s.is_empty()) {
            return Err(Undefined::BothEmpty);
        }
        let side = |place: fn(&(u32, u32, u64)) -> u32, sizes: &[u64]| {
            let mut best: Vec<Option<&(u32, u32, u64)>> = vec![None; sizes.len()];
            for pair in &self.pairs {
                let best = &mut best[place(pair) as usize];
                if best.is_none_or(|b| pair.2 > b.2) {
                    *best = Some(pair);
                }
            }
            let dice = |pair: &(u32, u32, u64)| {
                2.0 * pair.2 as f64 / (self.truth_sizes[pair.0 as usize] + self.prediction_sizes[pair.1 as usize]) as f64
            };
            let total: u64 = sizes.iter().sum();
            let weighed = |(size, pair): (&u64, Option<&(u32, u32, u64)>)| *size as f64 * pair.map_or(0.0, dice);
            // Rounding may not take it above 1; without an instance there is nothing to divide by.
            (sizes.iter().zip(best).map(weighed).sum::<f64>() / total.max(1) as f64).min(1.0)
        };
        Ok(f64::midpoint(side(|pair| pair.0, sizes[0]), side(|pair| pair.1, sizes[1])))
    }

    fn aggregate(&self, chosen: &[&(u32, u32, u64)]) -> Aggregate {
        let (mut truth_served, mut prediction_used) = (vec![false; self.truths()], vec![false; self.predictions()]);
        let mut sum = Aggregate::default();
        for pair in chosen {
            sum = sum + Aggregate { intersection: pair.2, union: self.union(pair) };
            truth_served[pair.0 as usize] = true;
            prediction_used[pair.1 as usize] = true;
        }
        let left = |sizes: &[u64], met: &[bool]| sizes.iter().zip(met).filter(|(_, met)| !**met).map(|(size, _)| size).sum::<u64>();
        sum.union += left(&self.truth_sizes, &truth_served) + left(&self.prediction_sizes, &prediction_used);
        sum
    }

    fn matched(&self, iou_min: f64) -> Vec<&(u32, u32, u64)> {
        let above: Vec<&(u32, u32, u64)> = self.pairs.iter().filter(|pair| self.iou(pair) > iou_min).collect();
        if iou_min >= 0.5 {
            return above;
        }
        let weighed: Vec<(u32, u32, f64)> = above.iter().map(|pair| (pair.0, pair.1, self.iou(pair))).collect();
        assign(&weighed).into_iter().map(|i| above[i]).collect()
    }
}

impl Aggregate {
    /// Intersection over union.
    ///
    /// # Errors
    /// [`Undefined::BothEmpty`].
    pub fn value(&self) -> Result<f64, Undefined> {
        if self.union == 0 { Err(Undefined::BothEmpty) } else { Ok(self.intersection as f64 / self.union as f64) }
    }
}

impl Matching {
    /// Detection quality, which is F1 of the instances: `TP / (TP + FP/2 + FN/2)`.
    ///
    /// # Errors
    /// [`Undefined::BothEmpty`].
    pub fn f1(&self) -> Result<f64, Undefined> {
        self.per_instance(self.true_positive as f64)
    }

    /// Segmentation quality: the mean intersection over union of the matching pairs.
    ///
    /// # Errors
    /// [`Undefined::BothEmpty`], [`Undefined::NoMatch`].
    pub fn sq(&self) -> Result<f64, Undefined> {
        self.f1()?;
        if self.true_positive == 0 { Err(Undefined::NoMatch) } else { Ok(self.iou / self.true_positive as f64) }
    }

    /// Panoptic quality: detection quality times segmentation quality; 0 where nothing matches.
    ///
    /// # Errors
    /// [`Undefined::BothEmpty`].
    pub fn pq(&self) -> Result<f64, Undefined> {
        self.per_instance(self.iou)
    }

    fn per_instance(&self, sum: f64) -> Result<f64, Undefined> {
        let instances = self.true_positive as f64 + (self.false_positive + self.false_negative) as f64 / 2.0;
        if instances > 0.0 { Ok(sum / instances) } else { Err(Undefined::BothEmpty) }
    }
}

impl Add for Aggregate {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { intersection: self.intersection + other.intersection, union: self.union + other.union }
    }
}

impl Sum for Aggregate {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Add::add)
    }
}

impl Add for Matching {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            true_positive: self.true_positive + other.true_positive,
            false_positive: self.false_positive + other.false_positive,
            false_negative: self.false_negative + other.false_negative,
            iou: self.iou + other.iou,
        }
    }
}

impl Sum for Matching {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Add::add)
    }
}

/// Aggregated Jaccard index of two instance label maps: [`Overlaps::aji`].
///
/// # Shapes
/// Both have the same shape; 0 is background.
///
/// # Panics
/// If the shapes differ.
///
/// # Errors
/// [`Undefined::BothEmpty`].
///
/// # Example
/// ```
/// let truth = ndarray::arr2(&[[1, 1, 0, 2]]);
/// let prediction = ndarray::arr2(&[[5, 0, 0, 7]]);
/// assert_eq!(asyndgan_metrics::aji(truth.view(), prediction.view()), Ok(2.0 / 3.0));
/// ```
pub fn aji<D: Dimension>(truth: ArrayView<u32, D>, prediction: ArrayView<u32, D>) -> Result<f64, Undefined> {
    Overlaps::new(truth, prediction).aji().value()
}

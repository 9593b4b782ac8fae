use std::{iter::Sum, ops::Add};

use ndarray::{ArrayView, Dimension, Zip};

use crate::Undefined;

/// Confusion matrix of two masks: counts of agreeing and disagreeing elements. Add the counts of several cases to pool
/// them.
///
/// # Example
/// ```
/// use asyndgan_metrics::Confusion;
/// let (truth, prediction) = (ndarray::arr1(&[true, true, false, false]), ndarray::arr1(&[true, false, true, true]));
/// let n = Confusion::new(truth.view(), prediction.view());
/// assert_eq!((n.dice(), n.jaccard(), n.volume_similarity()), (Ok(0.4), Ok(0.25), Ok(0.8)));
/// assert_eq!((n.sensitivity(), n.specificity(), n.precision()), (Ok(0.5), Ok(0.0), Ok(1.0 / 3.0)));
/// assert_eq!((n + n).dice(), n.dice());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Confusion {
    /// Marked in both.
    pub true_positive: u64,
    /// Marked in the prediction only.
    pub false_positive: u64,
    /// Marked in the truth only.
    pub false_negative: u64,
    /// Marked in neither.
    pub true_negative: u64,
}

impl Confusion {
    /// Counts over two masks.
    ///
    /// # Shapes
    /// Both have the same shape, with any number of dimensions.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn new<D: Dimension>(truth: ArrayView<bool, D>, prediction: ArrayView<bool, D>) -> Self {
        assert_eq!(truth.shape(), prediction.shape(), "truth and prediction differ in shape");
        let mut n = Self::default();
        Zip::from(truth).and(prediction).for_each(|&t, &p| {
            n.true_positive += u64::from(t && p);
            n.false_positive += u64::from(!t && p);
            n.false_negative += u64::from(t && !p);
            n.true_negative += u64::from(!t && !p);
        });
        n
    }

    /// Dice coefficient, `2 TP / (2 TP + FP + FN)`.
    ///
    /// # Errors
    /// [`Undefined::BothEmpty`].
    pub fn dice(&self) -> Result<f64, Undefined> {
        ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative, Undefined::BothEmpty)
    }

    /// Jaccard index (intersection over union), `TP / (TP + FP + FN)`.
    ///
    /// # Errors
    /// [`Undefined::BothEmpty`].
    pub fn jaccard(&self) -> Result<f64, Undefined> {
        ratio(self.true_positive, self.true_positive + self.false_positive + self.false_negative, Undefined::BothEmpty)
    }

    /// Precision, `TP / (TP + FP)`.
    ///
    /// # Errors
    /// [`Undefined::PredictionEmpty`].
    pub fn precision(&self) -> Result<f64, Undefined> {
        ratio(self.true_positive, self.true_positive + self.false_positive, Undefined::PredictionEmpty)
    }

    /// Volume similarity, `1 - |FN - FP| / (2 TP + FP + FN)`: compares sizes only, not positions.
    ///
    /// # Errors
    /// [`Undefined::BothEmpty`].
    ///
    /// # Reference
    /// Taha and Hanbury, BMC Medical Imaging 15, 2015.
    pub fn volume_similarity(&self) -> Result<f64, Undefined> {
        let all = 2 * self.true_positive + self.false_positive + self.false_negative;
        ratio(all - self.false_negative.abs_diff(self.false_positive), all, Undefined::BothEmpty)
    }

    /// Sensitivity (recall), `TP / (TP + FN)`.
    ///
    /// # Errors
    /// [`Undefined::TruthEmpty`].
    pub fn sensitivity(&self) -> Result<f64, Undefined> {
        ratio(self.true_positive, self.true_positive + self.false_negative, Undefined::TruthEmpty)
    }

    /// Specificity, `TN / (TN + FP)`.
    ///
    /// # Errors
    /// [`Undefined::TruthFull`].
    pub fn specificity(&self) -> Result<f64, Undefined> {
        ratio(self.true_negative, self.true_negative + self.false_positive, Undefined::TruthFull)
    }
}

impl Add for Confusion {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            true_positive: self.true_positive + other.true_positive,
            false_positive: self.false_positive + other.false_positive,
            false_negative: self.false_negative + other.false_negative,
            true_negative: self.true_negative + other.true_negative,
        }
    }
}

impl Sum for Confusion {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

fn ratio(part: u64, whole: u64, otherwise: Undefined) -> Result<f64, Undefined> {
    if whole == 0 { Err(otherwise) } else { Ok(part as f64 / whole as f64) }
}

//! The losses of equations 1, 3 and 4, on logits.

use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

/// Mean binary cross-entropy of logits against a single label: real (true) or synthetic (false).
///
/// # Shapes
/// Logits of any shape to a scalar.
pub fn adversarial(logits: &Tensor, real: bool) -> Tensor {
    let label = logits.full_like(f64::from(u8::from(real)));
    logits.binary_cross_entropy_with_logits::<Tensor>(&label, None, None, Reduction::Mean)
}

/// The adversarial loss of the generator and the discriminators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GanLoss {
    /// Binary cross-entropy on logits, non-saturating for the generator, as in the paper.
    CrossEntropy,
    /// Binary cross-entropy for the discriminator, and its negative for the generator, exactly as in equation 1. It
    /// saturates if a discriminator is confident.
    Minimax,
    /// The discriminator aims for logits above 1 on real and below -1 on synthetic images; the generator aims for high
    /// logits.
    ///
    /// # Reference
    /// Lim and Ye, 2017; Miyato et al., ICLR 2018.
    Hinge,
    /// Squared distance to 1 on real and 0 on synthetic images.
    ///
    /// # Reference
    /// Mao et al., ICCV 2017.
    LeastSquares,
    /// For a U-Net discriminator, which predicts the class of every pixel, and whether the pixel is real or synthetic.
    /// The generator aims for pixels that are taken for real ones of their class rather than synthetic ones of their
    /// class. Synthetic pixels are classified too, so the generator gains nothing from pixels that show their class
    /// more clearly than real ones do.
    ///
    /// The generator's loss can be negative and is unbounded.
    ///
    /// # Reference
    /// Schönfeld et al., ICLR 2021, with the classes of Hou et al., ICML 2022, but without the latter's separate
    /// discriminator of real and synthetic images.
    Segmentation,
}

impl GanLoss {
    /// The discriminator's loss: the mean of its loss on real and its loss on synthetic images.
    ///
    /// # Shapes
    /// Logits of any shape to a scalar; for segmentation, log-likelihoods `[batch, 2, rows, columns]`.
    ///
    /// # Reference
    /// The inner maximum of equation 3 at one site, halved as in the public code.
    pub fn discriminator(self, real: &Tensor, synthetic: &Tensor) -> Tensor {
        (self.on_real(real) + self.on_synthetic(synthetic)) * 0.5
    }

    /// The discriminator's loss on real images.
    ///
    /// # Shapes
    /// As for [`GanLoss::discriminator`].
    pub fn on_real(self, logits: &Tensor) -> Tensor {
        let mean = |x: Tensor| x.mean(Kind::Float);
        match self {
            Self::CrossEntropy | Self::Minimax => adversarial(logits, true),
            Self::Hinge => mean((-logits + 1.0_f64).relu()),
            Self::LeastSquares => mean((logits - 1.0).square()),
            Self::Segmentation => -mean(logits.narrow(1, 0, 1)),
        }
    }

    /// The discriminator's loss on synthetic images.
    ///
    /// # Shapes
    /// As for [`GanLoss::discriminator`].
    pub fn on_synthetic(self, logits: &Tensor) -> Tensor {
        let mean = |x: Tensor| x.mean(Kind::Float);
        match self {
            Self::CrossEntropy | Self::Minimax => adversarial(logits, false),
            Self::Hinge => mean((logits + 1.0_f64).relu()),
            Self::LeastSquares => mean(logits.square()),
            Self::Segmentation => -mean(logits.narrow(1, 1, 1)),
        }
    }

    /// The generator's loss at one site: the adversarial loss, plus the weighted L1 distance to the real images.
    ///
    /// # Shapes
    /// Logits of any shape (for segmentation, as for the discriminator) and images of the same shape, to a scalar.
    ///
    /// # Reference
    /// Equation 4 at one site.
    pub fn generator(self, logits: &Tensor, synthetic: &Tensor, real: &Tensor, l1_weight: f64) -> Tensor {
        let mean = |x: Tensor| x.mean(Kind::Float);
        let fooling = match self {
            Self::CrossEntropy => adversarial(logits, true),
            Self::Minimax => -adversarial(logits, false),
            Self::Hinge => -mean(logits.shallow_clone()),
            Self::LeastSquares => mean((logits - 1.0).square()),
            Self::Segmentation => mean(logits.narrow(1, 1, 1) - logits.narrow(1, 0, 1)),
        };
        if l1_weight == 0.0 { fooling } else { fooling + (synthetic - real).abs().mean(Kind::Float) * l1_weight }
    }
}

/// The target of a pixel that was not annotated.
pub const NOT_ANNOTATED: i64 = 255;

/// The target of a pixel that is background, or belongs to a class that was not marked.
pub const UNMARKED: i64 = 254;

/// The segmenter's loss: cross-entropy plus soft Dice over all classes except the background.
///
/// Pixels whose target is [`NOT_ANNOTATED`] do not count. A pixel whose target is [`UNMARKED`] has one of the classes
/// that `possible` lists for its image: the cross-entropy is that of their sum, and the Dice of all other classes
/// counts the pixel as not theirs. Without `possible`, or if it lists no class, such a pixel does not count either.
///
/// # Shapes
/// Logits `[batch, classes, rows, columns]`, targets (class numbers) `[batch, rows, columns]`, possible classes
/// (booleans) `[batch, classes]`, to a scalar.
///
/// # Reference
/// Shi et al., Marginal loss and exclusion loss for partially supervised multi-organ segmentation, Medical Image
/// Analysis 2021: the marginal loss.
pub fn segmentation(logits: &Tensor, target: &Tensor, possible: Option<&Tensor>) -> Tensor {
    let unmarked = target.eq(UNMARKED);
    if !bool::try_from(unmarked.any()).unwrap_or(true) {
        return of_marked(logits, target);
    }
    let classes = logits.size()[1];
    let nothing = Tensor::zeros([logits.size()[0], classes], (Kind::Bool, logits.device()));
    // [batch, classes, 1, 1]
    let possible = possible.unwrap_or(&nothing).to_kind(Kind::Bool).unsqueeze(2).unsqueeze(3);
    let is_known = possible.any_dim(1, false);
    let unmarked = unmarked.logical_and(&is_known);
    let annotated = target.less(UNMARKED);
    let log_probability = logits.log_softmax(1, Kind::Float);
    let of_possible = log_probability.masked_fill(&possible.logical_not(), f64::NEG_INFINITY);
    // Where nothing is possible, the value is not used, but must be a number for the gradient.
    let of_possible = of_possible.where_self(&is_known.unsqueeze(1), &log_probability).logsumexp([1].as_slice(), false);
    let class = target.masked_fill(&annotated.logical_not(), 0);
    let of_class = log_probability.gather(1, &class.unsqueeze(1), false).squeeze_dim(1);
    let weight = |mask: &Tensor| mask.to_kind(Kind::Float);
    let counted = (weight(&annotated) + weight(&unmarked)).sum(Kind::Float).clamp_min(1.0);
    let cross_entropy = -((&of_class * weight(&annotated)) + (&of_possible * weight(&unmarked))).sum(Kind::Float) / counted;
    // A pixel counts for a class if it is known whether it belongs to it.
    let is_other = unmarked.unsqueeze(1).logical_and(&possible.logical_not());
    let decided = annotated.unsqueeze(1).logical_or(&is_other).to_kind(Kind::Float);
    let one_hot = class.one_hot(classes).permute([0, 3, 1, 2]).to_kind(Kind::Float) * weight(&annotated).unsqueeze(1);
    cross_entropy + 1.0 - dice(&(log_probability.exp() * decided), &one_hot)
}

/// The loss if no pixel is [`UNMARKED`].
fn of_marked(logits: &Tensor, target: &Tensor) -> Tensor {
    let annotated = target.not_equal(NOT_ANNOTATED);
    let (all, counted) = (target.numel() as i64, annotated.sum(Kind::Int64).int64_value(&[]));
    let cross_entropy = if counted == 0 {
        // The mean over no pixel would not be a number.
        logits.sum(Kind::Float) * 0.0
    } else {
        logits.cross_entropy_loss::<Tensor>(target, None, Reduction::Mean, NOT_ANNOTATED, 0.0)
    };
    let classes = logits.size()[1];
    let probability = logits.softmax(1, Kind::Float);
    let planes = |classified: &Tensor, count| classified.one_hot(count).narrow(3, 0, classes).permute([0, 3, 1, 2]).to_kind(Kind::Float);
    let (probability, one_hot) = if counted == all {
        (probability, planes(target, classes))
    } else {
        // A class that does not exist: its plane is cut off.
        let classified = target.masked_fill(&annotated.logical_not(), classes);
        (&probability * annotated.unsqueeze(1).to_kind(Kind::Float), planes(&classified, classes + 1))
    };
    cross_entropy + 1.0 - dice(&probability, &one_hot)
}

/// The mean soft Dice of all classes except the background, over the whole batch.
fn dice(probability: &Tensor, one_hot: &Tensor) -> Tensor {
    let sum = |x: &Tensor| x.sum_dim_intlist([0, 2, 3].as_slice(), false, Kind::Float);
    let dice = (sum(&(probability * one_hot)) * 2.0 + 1.0) / (sum(probability) + sum(one_hot) + 1.0);
    dice.narrow(0, 1, probability.size()[1] - 1).mean(Kind::Float)
}

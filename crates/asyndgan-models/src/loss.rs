//! The losses of equations 1, 3 and 4, on logits.

use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

/// Mean binary cross-entropy of logits against one label for all: real (true) or synthetic (false).
///
/// # Shapes
/// Logits of any shape to a scalar.
pub fn adversarial(logits: &Tensor, real: bool) -> Tensor {
    let label = logits.full_like(f64::from(u8::from(real)));
    logits.binary_cross_entropy_with_logits::<Tensor>(&label, None, None, Reduction::Mean)
}

/// Which game generator and discriminators play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Game {
    /// Binary cross-entropy on logits, non-saturating for the generator: the paper's.
    CrossEntropy,
    /// Binary cross-entropy for the discriminator, and for the generator the same with its sign turned: equation 1 to the letter. It
    /// saturates where a discriminator is sure.
    Minimax,
    /// The discriminator wants logits beyond 1 on real and below -1 on synthetic images; the generator wants them high.
    ///
    /// # Reference
    /// Lim and Ye, 2017; Miyato et al., ICLR 2018.
    Hinge,
    /// Squared distance to 1 on real and 0 on synthetic images.
    ///
    /// # Reference
    /// Mao et al., ICCV 2017.
    LeastSquares,
    /// Of a discriminator that segments: it is to find every pixel's class, and whether it is real or synthetic; the generator wants it taken
    /// for real of its class rather than synthetic of its class. Synthetic pixels are classified too, so that nothing is gained by
    /// pixels that show their class more clearly than real ones do.
    ///
    /// The generator's loss may be below zero, and has no bound.
    ///
    /// # Reference
    /// Schönfeld et al., ICLR 2021, with the classes of Hou et al., ICML 2022, and without the latter's discriminator of real and synthetic
    /// alone.
    Segmentation,
}

impl Game {
    /// What a discriminator minimises: half of what real plus half of what synthetic images cost it.
    ///
    /// # Shapes
    /// Logits of any shapes to a scalar; of segmentation log-likelihoods `[batch, 2, rows, columns]`.
    ///
    /// # Reference
    /// The inner maximum of equation 3 at one site, halved as in the public code.
    pub fn discriminator(self, real: &Tensor, synthetic: &Tensor) -> Tensor {
        let mean = |x: Tensor| x.mean(Kind::Float);
        let both = match self {
            Self::CrossEntropy | Self::Minimax => adversarial(real, true) + adversarial(synthetic, false),
            Self::Hinge => mean((-real + 1.0_f64).relu()) + mean((synthetic + 1.0).relu()),
            Self::LeastSquares => mean((real - 1.0).square()) + mean(synthetic.square()),
            Self::Segmentation => -mean(real.narrow(1, 0, 1)) - mean(synthetic.narrow(1, 1, 1)),
        };
        both * 0.5
    }

    /// What a generator minimises at one site: that its images are taken for real, and L1 to the real images if weighted.
    ///
    /// # Shapes
    /// Logits of any shape (of segmentation as for the discriminator), images of one shape, to a scalar.
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

/// Cross-entropy plus soft Dice over the classes but background: what a segmenter minimises.
///
/// # Shapes
/// Logits `[batch, classes, rows, columns]`, targets (class numbers) `[batch, rows, columns]`, to a scalar.
pub fn segmentation(logits: &Tensor, target: &Tensor) -> Tensor {
    let cross_entropy = logits.cross_entropy_loss::<Tensor>(target, None, Reduction::Mean, -100, 0.0);
    let classes = logits.size()[1];
    let probability = logits.softmax(1, Kind::Float);
    let one_hot = target.one_hot(classes).permute([0, 3, 1, 2]).to_kind(Kind::Float);
    let sum = |x: &Tensor| x.sum_dim_intlist([0, 2, 3].as_slice(), false, Kind::Float);
    let dice = (sum(&(&probability * &one_hot)) * 2.0 + 1.0) / (sum(&probability) + sum(&one_hot) + 1.0);
    cross_entropy + 1.0 - dice.narrow(0, 1, classes - 1).mean(Kind::Float)
}

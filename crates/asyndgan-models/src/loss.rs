//! The losses of equations 1, 3 and 4, on logits.

use tch::{Kind, Reduction, Tensor};

/// Mean binary cross-entropy of logits against one label for all: real (true) or synthetic (false).
///
/// # Shapes
/// Logits of any shape to a scalar.
pub fn adversarial(logits: &Tensor, real: bool) -> Tensor {
    let label = logits.full_like(f64::from(u8::from(real)));
    logits.binary_cross_entropy_with_logits::<Tensor>(&label, None, None, Reduction::Mean)
}

/// What a discriminator minimises: half the cross-entropy on real plus half that on synthetic images.
///
/// # Shapes
/// Logits of any shapes to a scalar.
///
/// # Reference
/// The inner maximum of equation 3 at one site, halved as in the public code.
pub fn discriminator(real: &Tensor, synthetic: &Tensor) -> Tensor {
    (adversarial(real, true) + adversarial(synthetic, false)) * 0.5
}

/// What a generator minimises at one site: the non-saturating adversarial term, and L1 to the real images if weighted.
///
/// # Shapes
/// Logits of any shape, images of one shape, to a scalar.
///
/// # Reference
/// Equation 4 at one site.
pub fn generator(logits: &Tensor, synthetic: &Tensor, real: &Tensor, l1_weight: f64) -> Tensor {
    let adversarial = adversarial(logits, true);
    if l1_weight == 0.0 { adversarial } else { adversarial + (synthetic - real).abs().mean(Kind::Float) * l1_weight }
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

use rand::Rng;
use tch::{Device, Tensor};

use crate::{
    DiscriminatorConfig, Noise, Norm, Parameters,
    layer::{Conv, Mode, Pass, Plan, Sequential},
    parameters::Layout,
};

/// Tells real from synthetic images, given the condition.
///
/// # Reference
/// Section 3.3; the public code's 70x70 `PatchGAN`.
#[derive(Debug)]
pub struct Discriminator {
    layers: Sequential,
    /// The weights.
    pub parameters: Parameters,
}

impl Discriminator {
    /// A discriminator with first weights from `rng`: normal(0, 0.02).
    pub fn new(config: &DiscriminatorConfig, device: Device, rng: &mut impl Rng) -> Self {
        let mut layout = Layout::default();
        let (plans, fan_in) = match *config {
            DiscriminatorConfig::Patch { channels, width, norm, spectral } => (patch(channels, width, norm, spectral), false),
            DiscriminatorConfig::Perceptron { channels, width } => (
                vec![Plan::Linear(channels, width), Plan::LeakyRelu, Plan::Linear(width, width), Plan::LeakyRelu, Plan::Linear(width, 1)],
                true,
            ),
        };
        let layers = Sequential::new("model", plans, &mut layout, fan_in);
        Self { layers, parameters: layout.build(device, rng) }
    }

    /// Follows the weights' largest singular values after a step; between steps every pass takes the same.
    ///
    /// # Reference
    /// Miyato et al., ICLR 2018: one power iteration a step.
    pub fn settle(&self) {
        self.layers.settle(&self.parameters);
    }

    /// Logits, higher for real; computed in the precision of condition and image.
    ///
    /// # Shapes
    /// Condition and image `[batch, channels, rows, columns]` to `[batch, 1, patch rows, patch columns]`; or `[batch, values]` to
    /// `[batch, 1]`.
    pub fn forward(&self, condition: &Tensor, image: &Tensor) -> Tensor {
        let mut pass = Pass { mode: Mode::Train, noise: &mut Noise::off(), condition: None };
        self.layers.forward(&Tensor::cat(&[condition, image], 1), &self.parameters, &mut pass)
    }
}

fn patch(channels: i64, width: i64, norm: Norm, spectral: bool) -> Vec<Plan> {
    let bias = norm == Norm::Instance;
    let conv = |from, to, stride, bias| {
        let conv = Conv { from, to, kernel: 4, stride, padding: 1, bias };
        if spectral { Plan::SpectralConv(conv) } else { Plan::Conv(conv) }
    };
    let mut plans = vec![conv(channels, width, 2, true), Plan::LeakyRelu];
    for (from, to, stride) in [(width, 2 * width, 2), (2 * width, 4 * width, 2), (4 * width, 8 * width, 1)] {
        plans.extend([conv(from, to, stride, bias), Plan::Norm(norm, to), Plan::LeakyRelu]);
    }
    plans.push(conv(8 * width, 1, 1, true));
    plans
}

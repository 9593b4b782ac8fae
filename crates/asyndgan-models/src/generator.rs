use rand::Rng;
use tch::{Device, Tensor};

use crate::{
    Conditioning, GeneratorConfig, Noise, NoiseInjection, Norm, Parameters, ResNetConfig, Upsample,
    layer::{Conv, Mode, Pass, Plan, Sequential, channels_last},
    parameters::Layout,
};

/// Generates synthetic images from conditions.
///
/// # Reference
/// Section 3.3; the public code's ResNet generator.
#[derive(Debug)]
pub struct Generator {
    layers: Sequential,
    noise_values: i64,
    /// The weights.
    pub parameters: Parameters,
}

impl Generator {
    /// A generator with initial weights from `rng`: normal(0, 0.02), or normal with variance 2 / fan-in if noise is
    /// appended.
    pub fn new(config: &GeneratorConfig, device: Device, rng: &mut impl Rng) -> Self {
        let mut layout = Layout::default();
        let (plans, noise_values) = match *config {
            GeneratorConfig::ResNet(ref config) => (resnet(config), 0),
            GeneratorConfig::Mlp { condition_channels, image_channels, width, noise } => {
                let from = condition_channels + noise;
                let plans = vec![
                    Plan::Linear(from, width),
                    Plan::LeakyRelu,
                    Plan::Linear(width, width),
                    Plan::LeakyRelu,
                    Plan::Linear(width, image_channels),
                ];
                (plans, noise)
            }
        };
        let fan_in = noise_values > 0;
        let layers = Sequential::new("model", plans, &mut layout, fan_in);
        Self { layers, noise_values, parameters: layout.build(device, rng) }
    }

    /// The same generator for another thread: the weights are shared, and gradients refer to them.
    #[must_use]
    pub fn shared(&self) -> Self {
        Self { layers: self.layers.clone(), noise_values: self.noise_values, parameters: self.parameters.shared() }
    }

    /// Generates synthetic images for conditions, in the precision of the conditions. The noise is z of equation 1:
    /// dropout, noise in the layers, or values appended to the condition.
    ///
    /// # Shapes
    /// `[batch, condition channels, rows, columns]` to `[batch, image channels, rows, columns]`, rows and columns
    /// multiples of 4; or `[batch, condition values]` to `[batch, image values]`.
    pub fn forward(&self, condition: &Tensor, noise: &mut Noise) -> Tensor {
        let input = if self.noise_values == 0 {
            condition.shallow_clone()
        } else {
            let z = noise.normal(condition.size()[0], self.noise_values, condition.device()).to_kind(condition.kind());
            Tensor::cat(&[condition, &z], 1)
        };
        // On a CPU, images are fastest with the channels last.
        let is_image = input.dim() == 4 && input.device() == Device::Cpu;
        let input = if is_image { channels_last(&input) } else { input };
        self.layers.forward(&input, &self.parameters, &mut Pass { mode: Mode::Train, noise, condition: Some(&input) }).contiguous()
    }
}

fn resnet(config: &ResNetConfig) -> Vec<Plan> {
    let ResNetConfig { condition_channels: from, image_channels: to, width, blocks, norm, upsample, noise, conditioning } = *config;
    let bias = norm == Norm::Instance;
    let conv = |from, to, kernel, stride, padding| Conv { from, to, kernel, stride, padding, bias };
    let noise_layers = |channels| match noise {
        NoiseInjection::Dropout => vec![],
        NoiseInjection::MultiScale { .. } => vec![Plan::Noise(channels)],
    };
    let mut plans = vec![Plan::ReflectPad(3), Plan::Conv(conv(from, width, 7, 1, 0)), Plan::Norm(norm, width), Plan::Relu];
    for k in [width, 2 * width] {
        plans.extend([Plan::Conv(conv(k, 2 * k, 3, 2, 1)), Plan::Norm(norm, 2 * k), Plan::Relu]);
    }
    let inner = 4 * width;
    plans.extend(noise_layers(inner));
    for _ in 0..blocks {
        let half = || [Plan::ReflectPad(1), Plan::Conv(conv(inner, inner, 3, 1, 0)), Plan::Norm(norm, inner)];
        let vary = match noise {
            NoiseInjection::Dropout => [Plan::Relu, Plan::Dropout],
            NoiseInjection::MultiScale { code } => [Plan::Modulate(code, inner), Plan::Relu],
        };
        let block = half().into_iter().chain(vary).chain(half()).collect();
        plans.push(Plan::Residual("conv_block", block));
    }
    for k in [4 * width, 2 * width] {
        match upsample {
            Upsample::Transposed => plans.push(Plan::ConvTranspose(conv(k, k / 2, 3, 2, 1))),
            Upsample::Nearest => plans.extend([Plan::UpsampleNearest2x, Plan::ReflectPad(1), Plan::Conv(conv(k, k / 2, 3, 1, 0))]),
        }
        plans.push(Plan::Norm(norm, k / 2));
        if conditioning == Conditioning::Spade {
            plans.push(Plan::Guide(from, k / 2));
        }
        plans.extend(noise_layers(k / 2));
        if let NoiseInjection::MultiScale { code } = noise {
            plans.push(Plan::Modulate(code, k / 2));
        }
        plans.push(Plan::Relu);
    }
    plans.extend([Plan::ReflectPad(3), Plan::Conv(Conv { bias: true, ..conv(width, to, 7, 1, 0) }), Plan::Tanh]);
    plans
}

use rand::Rng;
use tch::{Device, Kind, Tensor};

use crate::{
    DiscriminatorConfig, Noise, Norm, Parameters,
    layer::{Conv, Mode, Pass, Plan, Sequential},
    parameters::Layout,
    unet_discriminator::UNetDiscriminator,
};

/// Distinguishes real from synthetic images, given the condition. A U-Net discriminator sees only the image.
///
/// # Reference
/// Section 3.3; the public code's 70x70 `PatchGAN`.
#[derive(Debug)]
pub struct Discriminator {
    layers: Layers,
    /// The weights.
    pub parameters: Parameters,
}

#[derive(Debug)]
enum Layers {
    /// Of condition and image; with batch norm, all images of a pass affect each other.
    Row {
        row: Sequential,
        batch_norm: bool,
    },
    UNetDiscriminator(UNetDiscriminator),
}

impl Discriminator {
    /// A discriminator with initial weights from `rng`: normal(0, 0.02) for `PatchGAN`, otherwise normal with variance
    /// 2 / fan-in.
    pub fn new(config: &DiscriminatorConfig, device: Device, rng: &mut impl Rng) -> Self {
        let mut layout = Layout::default();
        let layers = match *config {
            DiscriminatorConfig::Patch { channels, width, norm, spectral } => {
                let row = Sequential::new("model", patch(channels, width, norm, spectral), &mut layout, false);
                Layers::Row { row, batch_norm: norm == Norm::Batch }
            }
            DiscriminatorConfig::UNet { condition_channels, image_channels, width, spectral } => {
                Layers::UNetDiscriminator(UNetDiscriminator::new(condition_channels, image_channels, width, spectral, &mut layout))
            }
            DiscriminatorConfig::Mlp { channels, width } => {
                let plans = vec![
                    Plan::Linear(channels, width),
                    Plan::LeakyRelu,
                    Plan::Linear(width, width),
                    Plan::LeakyRelu,
                    Plan::Linear(width, 1),
                ];
                Layers::Row { row: Sequential::new("model", plans, &mut layout, true), batch_norm: false }
            }
        };
        Self { layers, parameters: layout.build(device, rng) }
    }

    /// Updates the estimates of the weights' largest singular values after an optimiser step; all passes between two
    /// steps use the same.
    ///
    /// # Reference
    /// Miyato et al., ICLR 2018: one power iteration per step.
    pub fn update_spectral_norm(&self) {
        match &self.layers {
            Layers::Row { row, .. } => row.update_spectral_norm(&self.parameters),
            Layers::UNetDiscriminator(network) => network.update_spectral_norm(&self.parameters),
        }
    }

    /// The output that the loss expects: logits, higher for real; or log-likelihoods for a U-Net discriminator.
    /// Computed in the precision of condition and image.
    ///
    /// # Shapes
    /// Condition and image `[batch, channels, rows, columns]` to `[batch, 1, patch rows, patch columns]`; for a U-Net
    /// discriminator to `[batch, 2, rows, columns]`; or `[batch, values]` to `[batch, 1]`.
    pub fn forward(&self, condition: &Tensor, image: &Tensor) -> Tensor {
        self.forward_in(&self.parameters, &[[condition, image]]).swap_remove(0)
    }

    /// The outputs for several batches of a condition and an image: in one pass, which is faster, unless the batches
    /// would affect each other under batch norm.
    ///
    /// # Shapes
    /// As for [`Discriminator::forward`], for each batch; all have images of the same size, and any number of them.
    ///
    /// # Panics
    /// If images differ in size.
    pub fn forward_each(&self, batches: &[[&Tensor; 2]]) -> Vec<Tensor> {
        if batches.is_empty() {
            return Vec::new();
        }
        self.forward_in(&self.parameters, batches)
    }

    /// The output with other weights, through which gradients flow: `[count]`, in the order of [`Parameters::flat`].
    ///
    /// # Shapes
    /// As for [`Discriminator::forward`].
    pub fn forward_with(&self, weights: &Tensor, condition: &Tensor, image: &Tensor) -> Tensor {
        self.forward_in(&self.parameters.with_values(weights), &[[condition, image]]).swap_remove(0)
    }

    fn forward_in(&self, parameters: &Parameters, batches: &[[&Tensor; 2]]) -> Vec<Tensor> {
        let mut pass = Pass { mode: Mode::Train, noise: &mut Noise::off(), condition: None };
        let sizes: Vec<i64> = batches.iter().map(|[_, image]| image.size()[0]).collect();
        match &self.layers {
            Layers::Row { row, batch_norm } => {
                let inputs: Vec<Tensor> = batches.iter().map(|both| Tensor::cat(both, 1)).collect();
                if *batch_norm {
                    return inputs.iter().map(|input| row.forward(input, parameters, &mut pass)).collect();
                }
                row.forward(&Tensor::cat(&inputs, 0), parameters, &mut pass).split_with_sizes(&sizes, 0)
            }
            Layers::UNetDiscriminator(network) => {
                let images: Vec<&Tensor> = batches.iter().map(|[_, image]| *image).collect();
                let classes = network.forward(&Tensor::cat(&images, 0), parameters, &mut pass).log_softmax(1, Kind::Float);
                let classes = classes.split_with_sizes(&sizes, 0);
                classes.iter().zip(batches).map(|(classes, [condition, _])| likelihoods(classes, condition)).collect()
            }
        }
    }
}

/// Log-likelihoods of each pixel's class in the condition, as real and as synthetic; every class has the same total
/// weight.
///
/// # Shapes
/// `[batch, 2 (condition channels + 1), rows, columns]` (real classes, the background's first, then synthetic ones) and
/// planes `[batch, condition channels, rows, columns]`, to `[batch, 2, rows, columns]`.
fn likelihoods(classes: &Tensor, condition: &Tensor) -> Tensor {
    let codes = condition.gt(0.0).to_kind(Kind::Float);
    let background: Tensor = 1.0 - codes.amax([1].as_slice(), true);
    let one_hot = Tensor::cat(&[background, codes], 1);
    let counts = one_hot.sum_dim_intlist([0_i64, 2, 3].as_slice(), true, Kind::Float);
    let shown = counts.gt(0.0).sum(Kind::Float);
    let (pixels, count) = (counts.sum(Kind::Float), one_hot.size()[1]);
    let weights = one_hot * (pixels / (counts.clamp_min(1.0) * shown));
    let of = |first| (classes.narrow(1, first, count) * &weights).sum_dim_intlist([1_i64].as_slice(), true, Kind::Float);
    Tensor::cat(&[of(0), of(count)], 1)
}

fn patch(channels: i64, width: i64, norm: Norm, spectral: bool) -> Vec<Plan> {
    let bias = norm == Norm::Instance;
    let conv = |from, to, stride, bias| Plan::conv(Conv { from, to, kernel: 4, stride, padding: 1, bias }, spectral);
    let mut plans = vec![conv(channels, width, 2, true), Plan::LeakyRelu];
    for (from, to, stride) in [(width, 2 * width, 2), (2 * width, 4 * width, 2), (4 * width, 8 * width, 1)] {
        plans.extend([conv(from, to, stride, bias), Plan::Norm(norm, to), Plan::LeakyRelu]);
    }
    plans.push(conv(8 * width, 1, 1, true));
    plans
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn images(count: i64, channels: i64, phase: f64) -> Tensor {
        (Tensor::arange(count * channels * 32 * 32, (Kind::Float, Device::Cpu)) * 0.37 + phase).sin().view([count, channels, 32, 32])
    }

    #[test]
    fn several_batches_give_what_each_of_them_gives() {
        let norms = [Norm::Instance, Norm::Batch].map(|norm| DiscriminatorConfig::Patch { channels: 3, width: 4, norm, spectral: false });
        let unet = DiscriminatorConfig::UNet { condition_channels: 2, image_channels: 1, width: 4, spectral: true };
        for config in norms.into_iter().chain([unet]) {
            let discriminator = Discriminator::new(&config, Device::Cpu, &mut ChaCha8Rng::seed_from_u64(0));
            let (few, many) = ([images(1, 2, 0.0).sign(), images(1, 1, 1.0)], [images(3, 2, 2.0).sign(), images(3, 1, 3.0) * 2.0]);
            let together = discriminator.forward_each(&[[&few[0], &few[1]], [&many[0], &many[1]]]);
            let apart = [&few, &many].map(|[condition, image]| discriminator.forward(condition, image));
            for (together, apart) in together.iter().zip(&apart) {
                assert_eq!(together.size(), apart.size());
                assert!((together - apart).abs().max().double_value(&[]) < 1e-4, "{config:?}");
            }
            assert!(discriminator.forward_each(&[]).is_empty());
        }
    }
}

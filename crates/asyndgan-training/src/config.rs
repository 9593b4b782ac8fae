use asyndgan_models::{AdamConfig, DiscriminatorConfig, GeneratorConfig, NoiseInjection, Norm, Precision, ResNetConfig, loss::GanLoss};
use asyndgan_protocol::{DiscriminatorFamily, RequestedTraining, RunDescription};
use asyndgan_task::ImageDescription;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{DpSgd, Error};

/// The networks of a run and their training settings; server and sites need the same configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GanConfig {
    /// The server's network.
    pub generator: GeneratorConfig,
    /// Every site's network.
    pub discriminator: DiscriminatorConfig,
    /// The generator's optimiser.
    pub generator_adam: AdamConfig,
    /// The discriminators' optimiser.
    pub discriminator_adam: AdamConfig,
    /// The task and scale of the images; `None` for data that are not images.
    pub images: Option<ImageDescription>,
    /// Number of classes in a condition, without the background: the channels of the one-hot condition.
    pub condition_classes: u8,
    /// The adversarial loss.
    pub gan_loss: GanLoss,
    /// Strength of the augmentation of real and synthetic images before the discriminator; 0 turns it off.
    pub augmentation: f64,
    /// Decay of the exponential moving average of the generator's weights, which a run returns; 0 turns averaging off.
    pub average_decay: f64,
    /// Draw the code of an image around the centre of the site of its condition.
    pub site_code: bool,
    /// Precision in which layers compute; weights, losses and transmitted tensors are not affected.
    pub precision: Precision,
    /// Differential privacy for the patients of each site; `None` for training without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<DpSgd>,
}

/// The largest width that a site builds at a server's request.
const WIDTH_MAX: i64 = 1024;
const BLOCKS_MAX: usize = 64;
const CODE_MAX: i64 = 1024;

impl GanConfig {
    /// Networks with the paper's training: Adam with a learning rate of 2e-4 and beta 0.5, binary cross-entropy (the
    /// segmentation loss for a U-Net discriminator), no augmentation, no average of the generator's weights, 32-bit
    /// floats. `condition_classes` does not count the background. The default policy of a site requires a U-Net
    /// discriminator and an `augmentation` of at least 0.25.
    pub fn new(generator: GeneratorConfig, discriminator: DiscriminatorConfig, condition_classes: u8) -> Self {
        let gan_loss = match discriminator {
            DiscriminatorConfig::UNet { .. } => GanLoss::Segmentation,
            _ => GanLoss::CrossEntropy,
        };
        Self {
            generator,
            discriminator,
            generator_adam: AdamConfig::default(),
            discriminator_adam: AdamConfig::default(),
            images: None,
            condition_classes,
            gan_loss,
            augmentation: 0.0,
            average_decay: 0.0,
            site_code: false,
            precision: Precision::Float32,
            privacy: None,
        }
    }

    /// This configuration with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The configuration as text, for a run description.
    ///
    /// # Panics
    /// Never: every configuration can be written.
    pub fn description(&self) -> String {
        serde_json::to_string(self).expect("plain data")
    }

    /// Parses the configuration of a run description.
    ///
    /// # Errors
    /// [`Error::Networks`] if it is not a configuration, or if it describes networks that are too large or
    /// inconsistent.
    pub fn from_description(text: &str) -> Result<Self, Error> {
        let unreadable = |e: serde_json::Error| Error::Networks { fact: e.to_string() };
        let config: Self = serde_json::from_str(text).map_err(unreadable)?;
        let (given, read): (Value, Value) =
            (serde_json::from_str(text).map_err(unreadable)?, serde_json::to_value(&config).map_err(unreadable)?);
        if given != read {
            return Err(Error::Networks { fact: "the description has settings that this version does not know".into() });
        }
        if let Some(images) = &config.images {
            images.task.check().map_err(|error| Error::Networks { fact: format!("task: {error}") })?;
            if images.task.condition_classes() != config.condition_classes {
                let fact = format!(
                    "the task has {} condition classes, but the networks have {}",
                    images.task.condition_classes(),
                    config.condition_classes
                );
                return Err(Error::Networks { fact });
            }
        }
        let (channels, width) = match config.discriminator {
            DiscriminatorConfig::Patch { channels, width, .. } | DiscriminatorConfig::Mlp { channels, width } => (channels, width),
            DiscriminatorConfig::UNet { condition_channels, .. } if condition_channels != i64::from(config.condition_classes) => {
                return Err(Error::Networks {
                    fact: format!("{condition_channels} classes to segment, but conditions have {} classes", config.condition_classes),
                });
            }
            DiscriminatorConfig::UNet { image_channels, width, .. } => (image_channels, width),
        };
        let (generator, blocks) = match config.generator {
            GeneratorConfig::ResNet(ResNetConfig { width, blocks, .. }) => (width, blocks),
            GeneratorConfig::Mlp { width, .. } => (width, 0),
        };
        if !(1..=WIDTH_MAX).contains(&generator) || blocks > BLOCKS_MAX {
            return Err(Error::Networks { fact: format!("generator width {generator} or blocks {blocks} out of range") });
        }
        if !(1..=WIDTH_MAX).contains(&width) || !(1..=WIDTH_MAX).contains(&channels) {
            return Err(Error::Networks { fact: format!("discriminator of {channels} channels, width {width}; at most {WIDTH_MAX} each") });
        }
        let segments = matches!(config.discriminator, DiscriminatorConfig::UNet { .. });
        if segments != (config.gan_loss == GanLoss::Segmentation) {
            return Err(Error::Networks { fact: "the segmentation loss and the U-Net discriminator require each other".into() });
        }
        if let Some(fact) = config.privacy.and_then(|privacy| privacy.check().err()) {
            return Err(Error::Networks { fact });
        }
        if config.privacy.is_some() && matches!(config.discriminator, DiscriminatorConfig::Patch { norm: Norm::Batch, .. }) {
            let fact = "batch norm keeps statistics of real images without noise: differential privacy needs instance norm";
            return Err(Error::Networks { fact: fact.into() });
        }
        if !(0.0..=1.0).contains(&config.augmentation) {
            return Err(Error::Networks { fact: format!("augmentation strength {}; it must be from 0 to 1", config.augmentation) });
        }
        Ok(config)
    }

    /// What a site must train in a run with these networks.
    ///
    /// # Errors
    /// [`Error::Networks`] if they do not fit the images of the run.
    pub fn requested_training(&self, run: &RunDescription) -> Result<RequestedTraining, Error> {
        let unfit = |fact: String| Err(Error::Networks { fact });
        if let Some(images) = self.images.as_ref().filter(|images| images.task.channels.len() != run.channels as usize) {
            return unfit(format!("the task has {} channels, but the run has {}", images.task.channels.len(), run.channels));
        }
        if self.privacy.is_some() && run.l1_weight != 0.0 {
            return unfit("differential privacy and an L1 term, whose gradient reveals real images, exclude each other".into());
        }
        let planes = i64::from(self.condition_classes) + i64::from(run.channels);
        let of_images = run.size > 0;
        let (family, width, spectral_norm, channels) = match self.discriminator {
            DiscriminatorConfig::Patch { channels, width, spectral, .. } => (DiscriminatorFamily::Patch, width, spectral, channels),
            DiscriminatorConfig::UNet { condition_channels, image_channels, width, spectral } => {
                (DiscriminatorFamily::UNet, width, spectral, condition_channels + image_channels)
            }
            DiscriminatorConfig::Mlp { channels, width } => (DiscriminatorFamily::Mlp, width, false, channels),
        };
        if of_images == (family == DiscriminatorFamily::Mlp) {
            let data = if of_images { "images" } else { "data that are not images" };
            return unfit(format!("a {family} discriminator does not support {data}"));
        }
        if self.condition_classes == 0 || channels != planes {
            let (classes, image) = (self.condition_classes, run.channels);
            return unfit(format!("a discriminator of {channels} channels for {classes} condition classes and {image} image channels"));
        }
        // The server's own; a site counts its weights, to compare what other ways of learning would move.
        let (conditions, image, code) = match self.generator {
            GeneratorConfig::ResNet(ResNetConfig { condition_channels, image_channels, noise, .. }) => {
                let code = match noise {
                    NoiseInjection::MultiScale { code } => code,
                    NoiseInjection::Dropout => 0,
                };
                (condition_channels, image_channels, code)
            }
            GeneratorConfig::Mlp { condition_channels, image_channels, noise, .. } => (condition_channels, image_channels, noise),
        };
        if conditions != i64::from(self.condition_classes) || image != i64::from(run.channels) || !(0..=CODE_MAX).contains(&code) {
            return unfit(format!(
                "a generator with {image} image channels, {conditions} condition channels and a code of {code} values does not fit"
            ));
        }
        let (crop, crop_min, factor) = (run.crop, self.discriminator.crop_min(), self.generator.crop_factor());
        if crop < crop_min {
            return unfit(format!("crop {crop}; a {family} discriminator needs at least {crop_min}"));
        }
        if !crop.is_multiple_of(factor) {
            return unfit(format!("crop {crop}; the generator needs a multiple of {factor}"));
        }
        let AdamConfig { learning_rate, beta_1, beta_2 } = self.discriminator_adam;
        let (width, augmentation) = (width as u64, self.augmentation);
        let privacy = self.privacy.as_ref().map(DpSgd::requested);
        let images = self.privacy.map_or(run.batch, |privacy| run.batch.max(privacy.images_per_patient));
        let memory_bytes = memory_bytes(width, self.condition_classes, run, images).saturating_add(self.generator_bytes());
        Ok(RequestedTraining { family, width, spectral_norm, learning_rate, betas: [beta_1, beta_2], augmentation, memory_bytes, privacy })
    }
}

impl GanConfig {
    /// Memory of the generator's weights, roughly: a site builds it to compare what other ways of learning would move.
    fn generator_bytes(&self) -> u64 {
        match self.generator {
            GeneratorConfig::ResNet(ResNetConfig { width, blocks, .. }) => {
                (288 * blocks as u64 + 200).saturating_mul((width * width) as u64) * 4
            }
            GeneratorConfig::Mlp { width, .. } => 4 * (width * width) as u64 * 4,
        }
    }
}

/// Memory of a discriminator's weights (32 widths squared of 16 taps each, three times over for Adam and the gradient)
/// and of the activations of three passes of a batch at full size; no more than a rough upper bound.
fn memory_bytes(width: u64, condition_classes: u8, run: &RunDescription, images: u32) -> u64 {
    let weights = 4_u64.saturating_mul(4 * 32 * 16).saturating_mul(width.saturating_mul(width));
    let pixels = u64::from(run.crop.max(1)).pow(2).saturating_mul(images.into());
    let activations = pixels.saturating_mul(width + u64::from(run.channels)).saturating_mul(4 * 3 * 8);
    // Planes of the condition, and classes that a U-Net discriminator tells apart.
    let planes = pixels.saturating_mul(64 * u64::from(condition_classes));
    weights.saturating_add(activations).saturating_add(planes)
}

/// Factor of the learning rates in a round: 1 for the first half, then linearly to zero; 0 after the last round.
///
/// # Reference
/// Section 4: 100 epochs constant, 100 linear to zero.
pub fn learning_rate_scale(round: u64, rounds: u64) -> f64 {
    let half = rounds / 2;
    if round < half { 1.0 } else { rounds.saturating_sub(round) as f64 / (rounds - half).max(1) as f64 }
}

#[cfg(test)]
mod tests {
    use super::learning_rate_scale;

    #[test]
    fn the_learning_rate_is_constant_and_then_falls_to_zero() {
        let scales = |rounds: u64| (0..=rounds).map(|round| learning_rate_scale(round, rounds)).collect::<Vec<_>>();
        assert_eq!(scales(4), [1.0, 1.0, 1.0, 0.5, 0.0]);
        // The second half of an odd number of rounds has one round more.
        assert_eq!(scales(5), [1.0, 1.0, 1.0, 2.0 / 3.0, 1.0 / 3.0, 0.0]);
        assert_eq!((scales(1), scales(0), learning_rate_scale(9, 4)), (vec![1.0, 0.0], vec![0.0], 0.0));
    }
}

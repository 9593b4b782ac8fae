//! The values that each setting accepts.

use std::ops::RangeBounds;

use super::{GanLossSetting, InvalidSetting, MaskSetting, Settings};
use crate::Experiment;

/// Requires a value to lie in a range, which `valid` describes.
fn within<T: PartialOrd>(name: &str, value: T, range: impl RangeBounds<T>, valid: &str) -> Result<(), InvalidSetting> {
    must(name, range.contains(&value), valid)
}

fn must(name: &str, holds: bool, valid: &str) -> Result<(), InvalidSetting> {
    if holds { Ok(()) } else { Err(InvalidSetting(format!("{name} must be {valid}"))) }
}

impl Settings {
    /// Checks that networks and images can be built with these settings.
    ///
    /// # Errors
    /// [`InvalidSetting`] with the setting and its valid values.
    pub fn check(&self, experiment: Experiment) -> Result<(), InvalidSetting> {
        let Self { data, generator, discriminator, optimiser, protocol, synthesis, segmenter, compute, privacy, federated } = self;
        within("data.sites", data.sites, 1..=64, "from 1 to 64")?;
        within("data.phantoms_per_site", data.phantoms_per_site, 0..=1_000_000, "from 0 to 1000000")?;
        within("data.phantoms_held_out", data.phantoms_held_out, 0..=1_000_000, "from 0 to 1000000")?;
        within("generator.width", generator.width, 1..=1024, "from 1 to 1024")?;
        within("generator.blocks", generator.blocks, 0..=64, "from 0 to 64")?;
        within("generator.noise_code", generator.noise_code, 0..=1024, "from 0 to 1024")?;
        within("generator.average_decay", generator.average_decay, 0.0..1.0, "at least 0 and below 1")?;
        within("discriminator.width", discriminator.width, 1..=1024, "from 1 to 1024")?;
        within("discriminator.augmentation", discriminator.augmentation, 0.0..=1.0, "from 0 to 1")?;
        within("optimiser.generator_learning_rate", optimiser.generator_learning_rate, 0.0..=1.0, "from 0 to 1")?;
        within("optimiser.discriminator_learning_rate", optimiser.discriminator_learning_rate, 0.0..=1.0, "from 0 to 1")?;
        within("optimiser.beta_1", optimiser.beta_1, 0.0..1.0, "at least 0 and below 1")?;
        within("optimiser.beta_2", optimiser.beta_2, 0.0..1.0, "at least 0 and below 1")?;
        within("protocol.rounds", protocol.rounds, 1..=1_000_000_000, "from 1 to 1000000000")?;
        within("protocol.batch", protocol.batch, 1..=65_536, "from 1 to 65536")?;
        within("protocol.l1_weight", protocol.l1_weight, 0.0..=1e6, "from 0 to 1000000")?;
        within("protocol.checkpoint_every", protocol.checkpoint_every, 1..=1_000_000_000, "from 1 to 1000000000")?;
        within("synthesis.curve_points", synthesis.curve_points, 0..=1000, "from 0 to 1000")?;
        within("compute.server_threads", compute.server_threads, 1..=1024, "from 1 to 1024")?;
        within("compute.site_threads", compute.site_threads, 1..=1024, "from 1 to 1024")?;
        must("privacy.epsilon", privacy.epsilon.is_none_or(|epsilon| epsilon > 0.0 && epsilon.is_finite()), "above 0, or null")?;
        must("privacy.delta", privacy.delta > 0.0 && privacy.delta < 1.0, "above 0 and below 1")?;
        must("privacy.clipping_norm", privacy.clipping_norm > 0.0 && privacy.clipping_norm.is_finite(), "above 0")?;
        within("privacy.patients_per_step", privacy.patients_per_step, 1..=65_536, "from 1 to 65536")?;
        within("privacy.images_per_patient", privacy.images_per_patient, 1..=65_536, "from 1 to 65536")?;
        within("privacy.discriminator_steps", privacy.discriminator_steps, 1..=65_536, "from 1 to 65536")?;
        within("federated.local_steps", federated.local_steps, 1..=1_000_000_000, "from 1 to 1000000000")?;
        within("federated.exchange_every", federated.exchange_every, 1..=1_000_000_000, "from 1 to 1000000000")?;
        let masks_epsilon = privacy.masks_epsilon;
        must("privacy.masks_epsilon", masks_epsilon > 0.0 && masks_epsilon.is_finite(), "above 0")?;
        let without_l1 = privacy.epsilon.is_none() || protocol.l1_weight == 0.0;
        must("protocol.l1_weight", without_l1, "0 with privacy.epsilon: the gradient of an L1 term reveals real images")?;
        let needs_own = privacy.masks == MaskSetting::All || protocol.l1_weight == 0.0;
        must("privacy.masks", needs_own, "all with an L1 term, which needs a real image for each mask")?;
        if experiment == Experiment::Fig5 {
            let is_for_vectors = protocol.gan_loss != GanLossSetting::Segmentation;
            return must("protocol.gan_loss", is_for_vectors, "a loss other than segmentation: the data are not images");
        }
        within("data.downsampling", data.downsampling, 1..=1024, "from 1 to 1024")?;
        must("data.crop", data.crop >= 16 && data.crop.is_multiple_of(4), "a multiple of 4 and at least 16")?;
        within("data.size", data.size, data.crop..=16_384, "at least as large as data.crop, and at most 16384")?;
        within("synthesis.per_condition", synthesis.per_condition, 1..=10_000, "from 1 to 10000")?;
        must("segmenter.own_share", segmenter.own_share > 0.0 && segmenter.own_share < 1.0, "above 0 and below 1")?;
        within("segmenter.width", segmenter.width, 1..=1024, "from 1 to 1024")?;
        let halvings = segmenter.depth <= 6 && data.crop.is_multiple_of(1 << segmenter.depth);
        must("segmenter.depth", halvings, "at most 6, and data.crop a multiple of 2 to that power")?;
        within("segmenter.steps", segmenter.steps, 1..=1_000_000_000, "from 1 to 1000000000")?;
        within("segmenter.batch", segmenter.batch, 1..=65_536, "from 1 to 65536")?;
        within("segmenter.learning_rate", segmenter.learning_rate, 0.0..=1.0, "from 0 to 1")?;
        within("segmenter.colour_jitter", segmenter.colour_jitter, 0.0..=1.0, "from 0 to 1")?;
        within("segmenter.stain_jitter", segmenter.stain_jitter, 0.0..=1.0, "from 0 to 1")
    }
}

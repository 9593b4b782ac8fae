use std::collections::BTreeMap;

use asyndgan_task::{ImageKind, Task};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Experiment, Profile};

/// The adversarial loss of the generator and the discriminators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GanLoss {
    /// Binary cross-entropy, as in the paper.
    CrossEntropy,
    /// Hinge.
    Hinge,
    /// Least squares.
    LeastSquares,
    /// For segmenting discriminators, which classify every pixel by its class and as real or synthetic.
    Segmentation,
}

/// Every value that determines what a run computes; saved in the run record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(clippy::struct_excessive_bools, reason = "the choices are independent of each other")]
pub struct Settings {
    /// Number of sites; fewer if the data do not allow that many.
    pub sites: u32,
    /// Rows and columns of the stored image pairs.
    pub size: usize,
    /// Rows and columns of the crops that the networks see.
    pub crop: usize,
    /// Factor by which pictures are downsampled first.
    #[serde(alias = "shrink")]
    pub downsampling: usize,
    /// Channels after the generator's first convolution, or hidden units.
    pub generator_width: i64,
    /// Residual blocks of the generator.
    pub generator_blocks: usize,
    /// Channels after the discriminator's first convolution, or hidden units.
    pub discriminator_width: i64,
    /// Batch norm, as in the public code; otherwise instance norm.
    pub batch_norm: bool,
    /// The generator upsamples by nearest-neighbour resizing and a convolution; otherwise by transposed convolutions, as in the
    /// public code.
    pub resize_convolution: bool,
    /// Length of the latent code of an image. If it is above 0, noise enters at every scale and there is no dropout; 0 uses
    /// dropout only, as in the public code.
    pub noise_code: i64,
    /// Draw the code around a centre per site, so that the generator learns each site's appearance.
    pub site_code: bool,
    /// Spectral normalisation in the discriminators.
    pub spectral_norm: bool,
    /// The adversarial losses.
    pub gan_loss: GanLoss,
    /// Strength of the augmentation of real and synthetic images before the discriminator; 0 turns it off.
    pub augmentation: f64,
    /// Decay of the exponential moving average of the generator's weights. A run saves the averaged generator; 0 turns averaging off.
    pub average_decay: f64,
    /// The generator receives its condition at every upsampling step as well, not only at its first layer.
    pub guided: bool,
    /// The GAN's layers compute in bfloat16 instead of 32-bit floats: faster if the processor or GPU supports it.
    pub bfloat16: bool,
    /// Augment training pairs with quarter turns in addition to flips, for both generator and segmenter; otherwise flips only.
    pub quarter_turns: bool,
    /// Augment training pairs with flips, for both generator and segmenter; without flips, there are no quarter turns either. Sites
    /// must then allow a run without symmetry in their policy.
    #[serde(default = "yes")]
    pub flips: bool,
    /// Adam's learning rate for the generator.
    pub learning_rate: f64,
    /// Adam's learning rate for the discriminators.
    pub discriminator_learning_rate: f64,
    /// Adam's decay of the first moment.
    pub beta_1: f64,
    /// Adam's decay of the second moment.
    pub beta_2: f64,
    /// Number of rounds, with one generator step each.
    pub rounds: u64,
    /// Pairs per site and round; the GAN on all data uses the same total per round.
    pub batch: u32,
    /// Weight all sites equally, as in the public code; otherwise by their share of the cases.
    pub uniform_weights: bool,
    /// Weight of the L1 term.
    pub l1_weight: f64,
    /// Number of rounds between checkpoints, at the server and at the sites.
    pub checkpoint_every: u64,
    /// Synthetic images per condition: one from the condition itself, the others from a random crop of it. If conditions have an outline,
    /// the others have the classes of another slice inside of it.
    pub synthetic_per_condition: usize,
    /// Number of intermediate generators to keep. For each, a segmenter is trained with half the steps and scored, which gives
    /// Dice against rounds.
    pub curve_points: u64,
    /// Channels of the segmenter's first level.
    pub segmenter_width: i64,
    /// Downsampling steps of the segmenter.
    pub segmenter_depth: usize,
    /// The segmenter's optimiser steps.
    pub segmenter_steps: u64,
    /// Batch size of the segmenter.
    pub segmenter_batch: usize,
    /// The segmenter's learning rate.
    pub segmenter_learning_rate: f64,
    /// Maximum random scale and shift of each channel of the segmenter's images; the same in every arm.
    pub colour_jitter: f32,
    /// Maximum random change of the two stains in the segmenter's images, if the task has stain normalisation; the same in every arm.
    pub stain_jitter: f32,
    /// Phantom patients or tiles per site, if there are no real data; values per site in the toy experiment.
    pub phantoms_per_site: usize,
    /// Held-out phantom patients or tiles; values drawn for the histogram of the toy experiment.
    pub phantoms_held_out: usize,
    /// Threads over which the server distributes the sites of a round; each thread runs its own libtorch operations. If sites
    /// cannot be split (batch norm, a GPU), and for a segmenter trained outside an experiment: threads per libtorch operation.
    pub server_threads: u32,
    /// Threads per libtorch operation everywhere else: at a site, in a GAN on all data, in synthesis and in an experiment's
    /// segmenters. The threads busy-wait for each other: use more than one only for wide networks on an otherwise idle machine.
    pub site_threads: u32,
}

fn yes() -> bool {
    true
}

/// A setting that does not exist, or a value that a setting does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfitSetting(String);

impl std::fmt::Display for UnfitSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnfitSetting {}

impl UnfitSetting {
    pub(crate) fn new(fact: impl Into<String>) -> Self {
        Self(fact.into())
    }
}

impl Settings {
    /// Every setting by name, with its value.
    pub fn plain(&self) -> serde_json::Map<String, serde_json::Value> {
        // By way of text, in which a 32-bit float is as short as it was written.
        let text = serde_json::to_string(self).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Every setting's name and its documentation as one line, in order.
    pub fn documentation() -> Vec<(String, String)> {
        let schema = schemars::schema_for!(Settings);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let properties = schema.get("properties").and_then(serde_json::Value::as_object);
        let documented: BTreeMap<&str, String> =
            properties.into_iter().flatten().map(|(name, of)| (name.as_str(), text(&of["description"]))).collect();
        // In the order in which they are declared, which a schema may not keep.
        let declared = serde_json::to_string(&Self::new(Experiment::Table2, Profile::Desk)).unwrap_or_default();
        let mut ordered: Vec<(String, String)> = documented.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
        ordered.sort_by_key(|(name, _)| declared.find(&format!("\"{name}\":")));
        ordered
    }

    /// The settings of an experiment of the paper with a profile.
    ///
    /// # Reference
    /// The `paper` profile follows section 4 and the public code: batch 1 per site for brains, 4 for nuclei.
    pub fn new(experiment: Experiment, profile: Profile) -> Self {
        match experiment {
            Experiment::Fig5 => Self::toy(Self::desk(), profile),
            Experiment::Table2 => Self::of_images(ImageKind::Pictures, profile),
            Experiment::Table1 | Experiment::Custom => Self::of_images(ImageKind::Volumes, profile),
        }
    }

    /// The settings of a task of one's own with a profile.
    pub fn of_task(task: &Task, profile: Profile) -> Self {
        let paper = Self::of_images(task.images, profile);
        // Several patients in every batch, as a hospital's default policy requires.
        Self { batch: paper.batch.max(2), ..paper }
    }

    fn of_images(images: ImageKind, profile: Profile) -> Self {
        let desk = Self::desk();
        let by_images = match images {
            ImageKind::Volumes => desk,
            ImageKind::Pictures => Self {
                sites: 4,
                batch: if profile == Profile::Paper { 4 } else { 2 },
                // 16 patches of 286 at full resolution, as in the paper, are patches of 143 here.
                size: 143,
                quarter_turns: true,
                synthetic_per_condition: 20,
                stain_jitter: 0.2,
                phantoms_per_site: 4,
                phantoms_held_out: 40,
                ..desk
            },
        };
        match profile {
            Profile::Desk => by_images,
            Profile::Smoke => Self {
                rounds: 6,
                checkpoint_every: 3,
                generator_width: 4,
                generator_blocks: 1,
                discriminator_width: 4,
                synthetic_per_condition: 1,
                curve_points: 1,
                segmenter_width: 4,
                segmenter_steps: 12,
                segmenter_batch: 4,
                phantoms_per_site: 1,
                phantoms_held_out: 2,
                ..by_images
            },
            Profile::Paper => Self {
                size: 286,
                crop: 256,
                downsampling: 1,
                generator_width: 64,
                generator_blocks: 9,
                discriminator_width: 64,
                batch_norm: true,
                resize_convolution: false,
                noise_code: 0,
                site_code: false,
                spectral_norm: false,
                gan_loss: GanLoss::CrossEntropy,
                augmentation: 0.0,
                average_decay: 0.0,
                guided: false,
                quarter_turns: false,
                discriminator_learning_rate: 2e-4,
                stain_jitter: 0.0,
                synthetic_per_condition: 5,
                uniform_weights: true,
                // 200 epochs: of some 1,100 slices a site, of 64 patches a site in batches of 4.
                rounds: if images == ImageKind::Volumes { 220_000 } else { 3_200 },
                l1_weight: 100.0,
                checkpoint_every: 500,
                segmenter_width: 64,
                segmenter_depth: 4,
                segmenter_steps: 20_000,
                ..by_images
            },
        }
    }

    fn desk() -> Self {
        Self {
            sites: 10,
            size: 72,
            crop: 64,
            downsampling: 2,
            generator_width: 16,
            generator_blocks: 6,
            discriminator_width: 32,
            batch_norm: false,
            resize_convolution: true,
            noise_code: 16,
            site_code: true,
            spectral_norm: false,
            gan_loss: GanLoss::Segmentation,
            augmentation: 0.5,
            average_decay: 0.995,
            guided: true,
            bfloat16: false,
            quarter_turns: false,
            flips: true,
            learning_rate: 2e-4,
            discriminator_learning_rate: 8e-4,
            beta_1: 0.5,
            beta_2: 0.999,
            rounds: 5000,
            batch: 1,
            uniform_weights: false,
            l1_weight: 0.0,
            checkpoint_every: 100,
            synthetic_per_condition: 5,
            curve_points: 3,
            segmenter_width: 16,
            segmenter_depth: 3,
            segmenter_steps: 1200,
            segmenter_batch: 8,
            segmenter_learning_rate: 1e-3,
            colour_jitter: 0.1,
            stain_jitter: 0.0,
            phantoms_per_site: 5,
            phantoms_held_out: 40,
            server_threads: 2,
            site_threads: 1,
        }
    }

    /// Checks that networks and images can be built with these settings.
    ///
    /// # Errors
    /// [`UnfitSetting`] with the setting and its valid values.
    pub fn check(&self, experiment: Experiment) -> Result<(), UnfitSetting> {
        let must = |name: &str, holds: bool, what: &str| if holds { Ok(()) } else { Err(UnfitSetting(format!("{name} must be {what}"))) };
        let sane = |n: i64| (1..=1024).contains(&n);
        must("sites", (1..=64).contains(&self.sites), "from 1 to 64")?;
        must("rounds and batch", self.rounds > 0 && self.batch > 0, "at least 1")?;
        must("generator_width and discriminator_width", sane(self.generator_width) && sane(self.discriminator_width), "from 1 to 1024")?;
        must("noise_code", (0..=1024).contains(&self.noise_code), "from 0 to 1024")?;
        must("average_decay", (0.0..1.0).contains(&self.average_decay), "at least 0 and below 1")?;
        must("augmentation", (0.0..=1.0).contains(&self.augmentation), "from 0 to 1")?;
        if experiment == Experiment::Fig5 {
            return must("gan_loss", self.gan_loss != GanLoss::Segmentation, "a loss other than segmentation: the data are not images");
        }
        must("downsampling", self.downsampling > 0, "at least 1")?;
        must("crop", self.crop >= 16 && self.crop.is_multiple_of(4), "a multiple of 4 and at least 16")?;
        must("size", self.size >= self.crop, "at least as large as crop")?;
        must("segmenter_width", sane(self.segmenter_width), "from 1 to 1024")?;
        let halvings = self.segmenter_depth <= 6 && self.crop.is_multiple_of(1 << self.segmenter_depth);
        must("segmenter_depth", halvings, "at most 6, and crop a multiple of 2 to that power")?;
        must("segmenter_steps and segmenter_batch", self.segmenter_steps > 0 && self.segmenter_batch > 0, "at least 1")?;
        must("synthetic_per_condition", self.synthetic_per_condition > 0, "at least 1")
    }

    /// Parses a change of the form `NAME=VALUE`; words need no quotes.
    ///
    /// # Errors
    /// [`UnfitSetting`] when there is no `=`.
    pub fn change(text: &str) -> Result<(String, serde_json::Value), UnfitSetting> {
        let (name, value) = text.split_once('=').ok_or_else(|| UnfitSetting(format!("{text} has no =; use NAME=VALUE")))?;
        Ok((name.into(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
    }

    /// The rounds after which a generator is kept, including the last; empty if no intermediate generators are kept.
    ///
    /// # Example
    /// ```
    /// use asyndgan_paper::{Experiment, Profile, Settings};
    /// let settings = Settings { rounds: 100, curve_points: 3, ..Settings::new(Experiment::Table2, Profile::Desk) };
    /// assert_eq!(settings.curve_rounds(), [25, 50, 75, 100]);
    /// ```
    pub fn curve_rounds(&self) -> Vec<u64> {
        let parts = self.curve_points.min(self.rounds.saturating_sub(1)) + 1;
        if parts == 1 { Vec::new() } else { (1..=parts).map(|k| self.rounds * k / parts).collect() }
    }

    /// These settings with some of them replaced, by name.
    ///
    /// # Errors
    /// [`UnfitSetting`].
    ///
    /// # Example
    /// ```
    /// use asyndgan_paper::{Experiment, Profile, Settings};
    /// let desk = Settings::new(Experiment::Table2, Profile::Desk);
    /// assert_eq!(desk.with(Experiment::Table2, [("rounds", 7.into())])?.rounds, 7);
    /// for wrong in [("round", 7.into()), ("rounds", "many".into()), ("crop", 66.into())] {
    ///     assert!(desk.with(Experiment::Table2, [wrong]).is_err());
    /// }
    /// # Ok::<(), asyndgan_paper::UnfitSetting>(())
    /// ```
    pub fn with<'a>(
        &self,
        experiment: Experiment,
        changes: impl IntoIterator<Item = (&'a str, serde_json::Value)>,
    ) -> Result<Self, UnfitSetting> {
        let plain = |settings: &Self| serde_json::to_value(settings).map_err(|e| UnfitSetting(e.to_string()));
        let mut settings = self.clone();
        for (name, value) in changes {
            // Its name in the first version.
            let name = if name == "shrink" { "downsampling" } else { name };
            let mut all = plain(&settings)?;
            let names = all.as_object().map(|all| all.keys().cloned().collect::<Vec<_>>().join(", ")).unwrap_or_default();
            let Some(place) = all.get_mut(name) else {
                return Err(UnfitSetting(format!("unknown setting {name}; the settings are {names}")));
            };
            let said = format!("{name} = {value}");
            *place = value;
            settings = serde_json::from_value(all).map_err(|e| UnfitSetting(format!("{said}: {e}")))?;
        }
        settings.check(experiment)?;
        Ok(settings)
    }

    fn toy(desk: Self, profile: Profile) -> Self {
        let toy = Self {
            sites: 3,
            size: 0,
            crop: 0,
            generator_width: 64,
            generator_blocks: 0,
            discriminator_width: 64,
            noise_code: 0,
            site_code: false,
            guided: false,
            resize_convolution: false,
            spectral_norm: false,
            gan_loss: GanLoss::CrossEntropy,
            augmentation: 0.0,
            learning_rate: 1e-3,
            discriminator_learning_rate: 1e-3,
            rounds: 6_000,
            batch: 256,
            l1_weight: 0.0,
            checkpoint_every: 1_000,
            synthetic_per_condition: 1,
            curve_points: 0,
            phantoms_per_site: 10_000,
            phantoms_held_out: 30_000,
            server_threads: 1,
            ..desk
        };
        match profile {
            Profile::Smoke => Self { rounds: 60, checkpoint_every: 30, batch: 64, phantoms_per_site: 500, phantoms_held_out: 3_000, ..toy },
            Profile::Desk => toy,
            Profile::Paper => Self { rounds: 30_000, average_decay: 0.0, ..toy },
        }
    }
}

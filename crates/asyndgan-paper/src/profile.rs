use serde::{Deserialize, Serialize};

use crate::{Experiment, Profile};

/// Which game generator and discriminators play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GanLoss {
    /// Binary cross-entropy: the paper's.
    CrossEntropy,
    /// Hinge.
    Hinge,
    /// Least squares.
    LeastSquares,
    /// Of discriminators that segment: every pixel its class, and whether it is real or synthetic.
    Segmentation,
}

/// Every number that decides what a run computes; written into the run's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a choice by itself, to be taken or left")]
pub struct Settings {
    /// Sites, if the data allow as many.
    pub sites: u32,
    /// Rows and columns that pairs are stored with.
    pub size: usize,
    /// Rows and columns that networks see.
    pub crop: usize,
    /// Tiles are shrunk by this first (nuclei).
    pub shrink: usize,
    /// Channels after the generator's first convolution, or hidden units.
    pub generator_width: i64,
    /// Residual blocks of the generator.
    pub generator_blocks: usize,
    /// Channels after the discriminator's first convolution, or hidden units.
    pub discriminator_width: i64,
    /// Batch norm as in the public code; else instance norm.
    pub batch_norm: bool,
    /// The generator doubles rows and columns by copying pixels before a convolution; else by transposed convolutions, as in the public code.
    pub resize_convolution: bool,
    /// Values of the code that varies a whole image; with it noise enters at every scale, and there is no dropout. 0 is dropout alone, as in the
    /// public code.
    pub noise_code: i64,
    /// The code is drawn around a centre of each site, so that the generator learns each site's appearance.
    pub site_code: bool,
    /// Spectral norm at the discriminators.
    pub spectral_norm: bool,
    /// The adversarial losses.
    pub gan_loss: GanLoss,
    /// How strongly images are changed before a discriminator sees them, real and synthetic alike; 0 is not at all.
    pub augmentation: f64,
    /// Decay of the generator's exponential average, with which a run ends; 0 leaves the generator as it is.
    pub average_decay: f64,
    /// The generator is told its condition where it doubles rows and columns too, not at its first layer alone.
    pub guided: bool,
    /// The GAN's layers compute in bfloat16 instead of 32-bit floats: faster where the processor or GPU has it.
    pub bfloat16: bool,
    /// Pairs are also turned by quarters, in training of generator and segmenter; else mirrored only.
    pub quarter_turns: bool,
    /// Adam's step size of the generator.
    pub learning_rate: f64,
    /// Adam's step size of the discriminators.
    pub discriminator_learning_rate: f64,
    /// Adam's decay of the first moment.
    pub beta_1: f64,
    /// Adam's decay of the second moment.
    pub beta_2: f64,
    /// Rounds, one generator step each.
    pub rounds: u64,
    /// Pairs of every site in a round; a GAN on all data sees as many in all.
    pub batch: u32,
    /// Sites weigh the same, as in the public code; else by their share of cases.
    pub uniform_weights: bool,
    /// Weight of the L1 term.
    pub l1_weight: f64,
    /// Both ends keep a checkpoint after so many rounds.
    pub checkpoint_every: u64,
    /// Synthetic images made of every condition (of brains: one of the condition itself, the others with another slice's tumour).
    pub synthetic_per_condition: usize,
    /// Generators kept on the way, of which a segmenter is trained and scored too, with half the steps: Dice against rounds.
    pub curve_points: u64,
    /// Channels of the segmenter's first level.
    pub segmenter_width: i64,
    /// Halvings of the segmenter.
    pub segmenter_depth: usize,
    /// The segmenter's optimiser steps.
    pub segmenter_steps: u64,
    /// Images in a segmenter's step.
    pub segmenter_batch: usize,
    /// The segmenter's step size.
    pub segmenter_learning_rate: f64,
    /// Random scaling and shift of every channel of the segmenter's images, in every arm alike.
    pub colour_jitter: f32,
    /// Random amounts of the two stains in the segmenter's images of tissue, in every arm alike.
    pub stain_jitter: f32,
    /// Artificial patients or tiles of every site, when there are no real data; values of every site in the toy experiment.
    pub phantoms_per_site: usize,
    /// Artificial patients or tiles that are held out; values drawn for the toy's histogram.
    pub phantoms_held_out: usize,
    /// Threads that the server shares sites out to in a round, one libtorch operation each; of one operation where sites cannot be parted
    /// (batch norm, a GPU), and in a segmenter that is trained outside an experiment.
    pub server_threads: u32,
    /// Threads of one libtorch operation in all else: at a site, in a GAN on all data, in synthesis, in an experiment's segmenters. They wait
    /// for each other by spinning: more than one is for wide networks with nothing beside them.
    pub site_threads: u32,
}

/// A setting that does not exist or does not take a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfitSetting(String);

impl std::fmt::Display for UnfitSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnfitSetting {}

impl Settings {
    /// The settings of an experiment under a profile.
    ///
    /// # Reference
    /// The `paper` profile is section 4 and the public code; batch 1 a site for brains, 4 for nuclei.
    pub fn new(experiment: Experiment, profile: Profile) -> Self {
        let desk = Self::desk();
        let by_experiment = match experiment {
            Experiment::Table1 => desk,
            Experiment::Table2 => Self {
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
            Experiment::Fig5 => return Self::toy(desk, profile),
        };
        match profile {
            Profile::Desk => by_experiment,
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
                ..by_experiment
            },
            Profile::Paper => Self {
                size: 286,
                crop: 256,
                shrink: 1,
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
                rounds: if experiment == Experiment::Table1 { 220_000 } else { 3_200 },
                l1_weight: 100.0,
                checkpoint_every: 500,
                segmenter_width: 64,
                segmenter_depth: 4,
                segmenter_steps: 20_000,
                ..by_experiment
            },
        }
    }

    fn desk() -> Self {
        Self {
            sites: 10,
            size: 72,
            crop: 64,
            shrink: 2,
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

    /// Whether networks and images of these sizes can be.
    ///
    /// # Errors
    /// [`UnfitSetting`] naming the setting and what it must be.
    pub fn check(&self, experiment: Experiment) -> Result<(), UnfitSetting> {
        let must = |name: &str, holds: bool, what: &str| if holds { Ok(()) } else { Err(UnfitSetting(format!("{name} must be {what}"))) };
        let sane = |n: i64| (1..=1024).contains(&n);
        must("sites", (1..=64).contains(&self.sites), "from 1 to 64")?;
        must("rounds and batch", self.rounds > 0 && self.batch > 0, "at least 1")?;
        must("generator_width and discriminator_width", sane(self.generator_width) && sane(self.discriminator_width), "from 1 to 1024")?;
        must("noise_code", (0..=1024).contains(&self.noise_code), "from 0 to 1024")?;
        must("average_decay", (0.0..1.0).contains(&self.average_decay), "from 0 to below 1")?;
        must("augmentation", (0.0..=1.0).contains(&self.augmentation), "from 0 to 1")?;
        if experiment == Experiment::Fig5 {
            return must("gan_loss", self.gan_loss != GanLoss::Segmentation, "another than segmentation for data that are no images");
        }
        must("shrink", self.shrink > 0, "at least 1")?;
        must("crop", self.crop >= 16 && self.crop.is_multiple_of(4), "a multiple of 4, and at least 16")?;
        must("size", self.size >= self.crop, "at least crop")?;
        must("segmenter_width", sane(self.segmenter_width), "from 1 to 1024")?;
        let halvings = self.segmenter_depth <= 6 && self.crop.is_multiple_of(1 << self.segmenter_depth);
        must("segmenter_depth", halvings, "as many halvings as crop allows")?;
        must("segmenter_steps and segmenter_batch", self.segmenter_steps > 0 && self.segmenter_batch > 0, "at least 1")?;
        must("synthetic_per_condition", self.synthetic_per_condition > 0, "at least 1")
    }

    /// A change as people write it: `NAME=VALUE`; words need no quotes.
    ///
    /// # Errors
    /// [`UnfitSetting`] when there is no `=`.
    pub fn change(text: &str) -> Result<(String, serde_json::Value), UnfitSetting> {
        let (name, value) = text.split_once('=').ok_or_else(|| UnfitSetting(format!("{text} has no =; write it as rounds=100")))?;
        Ok((name.into(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
    }

    /// The rounds after which a generator is kept, the last included; none if none is kept on the way.
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
            let mut all = plain(&settings)?;
            let names = all.as_object().map(|all| all.keys().cloned().collect::<Vec<_>>().join(", ")).unwrap_or_default();
            let Some(place) = all.get_mut(name) else {
                return Err(UnfitSetting(format!("there is no setting {name}; there are {names}")));
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

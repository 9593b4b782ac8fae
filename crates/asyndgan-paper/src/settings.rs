//! The settings of a run, by concern.

mod check;
mod names;
mod profiles;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::UnknownName;

/// The adversarial loss of the generator and the discriminators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GanLossSetting {
    /// Binary cross-entropy, as in the paper.
    CrossEntropy,
    /// Hinge.
    Hinge,
    /// Least squares.
    LeastSquares,
    /// For U-Net discriminators, which classify every pixel by its class and as real or synthetic.
    Segmentation,
}

/// Every value that determines what a run computes; saved in the run record.
///
/// Read from JSON with a section per concern, or with the flat names of the first version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// Images and how they are augmented.
    pub data: DataSettings,
    /// The generator.
    pub generator: GeneratorSettings,
    /// The discriminators of the sites.
    pub discriminator: DiscriminatorSettings,
    /// Adam, for the generator and the discriminators.
    pub optimiser: OptimiserSettings,
    /// What the server and the sites do in a run.
    pub protocol: ProtocolSettings,
    /// Synthetic images, and intermediate generators.
    pub synthesis: SynthesisSettings,
    /// The segmenter and its training; the same in every arm.
    pub segmenter: SegmenterSettings,
    /// Precision and threads.
    pub compute: ComputeSettings,
    /// Differential privacy.
    #[serde(default)]
    pub privacy: PrivacySettings,
    /// Other methods to learn from several sites, to compare with.
    #[serde(default)]
    pub federated: FederatedSettings,
}

/// Images and how they are augmented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DataSettings {
    /// Number of sites; fewer if the data do not allow that many.
    pub sites: u32,
    /// Rows and columns of the stored image pairs.
    pub size: usize,
    /// Rows and columns of the crops that the networks see.
    pub crop: usize,
    /// Factor by which pictures are downsampled first.
    pub downsampling: usize,
    /// Augment training pairs with flips, for both generator and segmenter; without flips, there are no quarter turns
    /// either. Sites must then allow a run without symmetry in their policy.
    #[serde(default = "yes")]
    pub flips: bool,
    /// Augment training pairs with quarter turns in addition to flips, for both generator and segmenter; otherwise
    /// flips only.
    pub quarter_turns: bool,
    /// Phantom patients or tiles per site, if there are no real data; values per site in the toy experiment.
    pub phantoms_per_site: usize,
    /// Held-out phantom patients or tiles; values drawn for the histogram of the toy experiment.
    pub phantoms_held_out: usize,
}

/// The generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools, reason = "the choices are independent of each other")]
pub struct GeneratorSettings {
    /// Channels after the generator's first convolution, or hidden units.
    pub width: i64,
    /// Residual blocks of the generator.
    pub blocks: usize,
    /// Batch norm, as in the public code; otherwise instance norm.
    pub batch_norm: bool,
    /// The generator upsamples by nearest-neighbour resizing and a convolution; otherwise by transposed convolutions,
    /// as in the public code.
    pub resize_convolution: bool,
    /// Length of the latent code of an image. If it is above 0, noise enters at every scale and there is no dropout; 0
    /// uses dropout only, as in the public code.
    pub noise_code: i64,
    /// Draw the code around a centre per site, so that the generator learns each site's appearance.
    pub site_code: bool,
    /// The generator receives its condition at every upsampling step as well, not only at its first layer.
    pub guided: bool,
    /// Decay of the exponential moving average of the generator's weights. A run saves the averaged generator; 0 turns
    /// averaging off.
    pub average_decay: f64,
}

/// The discriminators of the sites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DiscriminatorSettings {
    /// Channels after the discriminator's first convolution, or hidden units.
    pub width: i64,
    /// Spectral normalisation in the discriminators.
    pub spectral_norm: bool,
    /// Strength of the augmentation of real and synthetic images before the discriminator; 0 turns it off.
    pub augmentation: f64,
}

/// Adam, for the generator and the discriminators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OptimiserSettings {
    /// Adam's learning rate for the generator.
    pub generator_learning_rate: f64,
    /// Adam's learning rate for the discriminators.
    pub discriminator_learning_rate: f64,
    /// Adam's decay of the first moment.
    pub beta_1: f64,
    /// Adam's decay of the second moment.
    pub beta_2: f64,
}

/// What the server and the sites do in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ProtocolSettings {
    /// Number of rounds, with one generator step each.
    pub rounds: u64,
    /// Pairs per site and round; the GAN on all data uses the same total per round.
    pub batch: u32,
    /// The adversarial losses.
    pub gan_loss: GanLossSetting,
    /// Weight of the L1 term.
    pub l1_weight: f64,
    /// Weight all sites equally, as in the public code; otherwise by their share of the cases.
    pub uniform_weights: bool,
    /// Number of rounds between checkpoints, at the server and at the sites.
    pub checkpoint_every: u64,
}

/// Synthetic images, and intermediate generators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SynthesisSettings {
    /// Synthetic images per condition: one from the condition itself, the others from a random crop of it. If
    /// conditions have an outline, the others have the classes of another slice inside of it.
    pub per_condition: usize,
    /// Make images of whole conditions, with rows and columns cut to a multiple of 4, instead of crops. The segmenter
    /// crops them at random in every step, as it does real images, and so sees more different ones. A whole image
    /// reveals more of the training image with the same condition: use it with recombined masks only.
    #[serde(default)]
    pub whole: bool,
    /// Number of intermediate generators to keep. For each, a segmenter is trained with half the steps and scored,
    /// which gives Dice against rounds.
    pub curve_points: u64,
}

/// The segmenter and its training; the same in every arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SegmenterSettings {
    /// Channels of the segmenter's first level.
    pub width: i64,
    /// Downsampling steps of the segmenter.
    pub depth: usize,
    /// The segmenter's optimiser steps.
    pub steps: u64,
    /// Batch size of the segmenter.
    pub batch: usize,
    /// The segmenter's learning rate.
    pub learning_rate: f64,
    /// Share of real images in each batch of the arms that mix them with synthetic ones.
    #[serde(default = "half")]
    pub own_share: f64,
    /// Maximum random scale and shift of each channel of the segmenter's images; the same in every arm.
    pub colour_jitter: f32,
    /// Maximum random change of the two stains in the segmenter's images, if the task has stain normalisation; the same
    /// in every arm.
    pub stain_jitter: f32,
}

/// Precision and threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ComputeSettings {
    /// In training, layers compute in bfloat16 instead of 32-bit floats: faster if the processor or GPU supports it.
    /// With the desk profile, `reproduce` and `experiment` enable it where a processor with AMX trains.
    pub bfloat16: bool,
    /// Threads over which the server distributes the sites of a round; each thread runs its own libtorch operations. If
    /// sites cannot be split (batch norm, a GPU), and for a segmenter trained outside an experiment: threads per
    /// libtorch operation.
    pub server_threads: u32,
    /// Threads per libtorch operation everywhere else: at a site, in a GAN on all data, in synthesis and in an
    /// experiment's segmenters. The threads busy-wait for each other: use more than one only for wide networks on an
    /// otherwise idle machine.
    pub site_threads: u32,
}

/// Differential privacy for the patients of each site, in the run of `AsynDGAN`. Other arms train without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PrivacySettings {
    /// Epsilon of the whole run for each patient; null for a run without differential privacy.
    pub epsilon: Option<f64>,
    /// The probability with which that bound may fail; far below one divided by the number of patients of a site.
    pub delta: f64,
    /// Largest norm of the gradient of one patient in a step.
    pub clipping_norm: f64,
    /// Expected number of patients in a step; all patients of a site that has fewer.
    pub patients_per_step: u32,
    /// Images of each patient in a step.
    pub images_per_patient: u32,
    /// Steps of a discriminator in each round.
    pub discriminator_steps: u32,
    /// Which masks leave a site, with or without differential privacy. In a run across hospitals, the policy of each
    /// site decides instead.
    pub masks: MaskSetting,
    /// Epsilon of the masks for each patient, if they are sampled; in addition to `privacy.epsilon`.
    #[serde(default = "two")]
    pub masks_epsilon: f64,
}

/// Other methods to learn from several sites: the arms FedAvg, FedGan and MdGan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FederatedSettings {
    /// Steps that each site takes before weights are averaged: of the segmenter in FedAvg, of both networks in
    /// FedGan.
    pub local_steps: u64,
    /// Rounds after which each site of MdGan passes its discriminator to the next site.
    pub exchange_every: u64,
}

impl Default for FederatedSettings {
    fn default() -> Self {
        Self { local_steps: 20, exchange_every: 100 }
    }
}

fn half() -> f64 {
    0.5
}

fn two() -> f64 {
    2.0
}

/// Which masks leave a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaskSetting {
    /// Masks as they are.
    All,
    /// Each mask randomly deformed.
    Deformed,
    /// Masks composed of several patients' masks, and deformed.
    Recombined,
    /// Masks drawn from a model of the shapes of the site's masks, with differential privacy.
    Sampled,
}

impl MaskSetting {
    /// Its name in a settings file.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Deformed => "deformed",
            Self::Recombined => "recombined",
            Self::Sampled => "sampled",
        }
    }
}

impl std::str::FromStr for MaskSetting {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let all = [Self::All, Self::Deformed, Self::Recombined, Self::Sampled];
        all.into_iter().find(|masks| masks.name() == name).ok_or_else(|| UnknownName::new(name, "all, deformed, recombined, sampled"))
    }
}

impl Default for PrivacySettings {
    /// Without differential privacy, and with masks as they are.
    fn default() -> Self {
        Self {
            epsilon: None,
            delta: 1e-5,
            clipping_norm: 1.0,
            patients_per_step: 16,
            images_per_patient: 1,
            discriminator_steps: 1,
            masks: MaskSetting::All,
            masks_epsilon: two(),
        }
    }
}

fn yes() -> bool {
    true
}

/// A setting that does not exist, or a value that a setting does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSetting(String);

impl std::fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidSetting {}

impl InvalidSetting {
    pub(crate) fn new(fact: impl Into<String>) -> Self {
        Self(fact.into())
    }
}

impl Settings {
    /// The rounds after which a generator is kept, including the last; empty if no intermediate generators are kept.
    ///
    /// # Example
    /// ```
    /// use asyndgan_paper::{Experiment, Profile, Settings};
    /// let mut settings = Settings::new(Experiment::Table2, Profile::Desk);
    /// settings.protocol.rounds = 100;
    /// settings.synthesis.curve_points = 3;
    /// assert_eq!(settings.curve_rounds(), [25, 50, 75, 100]);
    /// ```
    pub fn curve_rounds(&self) -> Vec<u64> {
        let rounds = self.protocol.rounds;
        let parts = self.synthesis.curve_points.min(rounds.saturating_sub(1)) + 1;
        if parts == 1 { Vec::new() } else { (1..=parts).map(|k| rounds * k / parts).collect() }
    }
}

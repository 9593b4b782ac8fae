mod check;

use serde::{Deserialize, Serialize};

pub(crate) use self::check::refused;
use crate::Dtype;

/// Which masks may leave a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConditionPolicy {
    /// The masks as they are.
    All,
    /// Each mask randomly deformed: rotated, scaled, shifted, bent, and eroded or dilated. Anyone who has the patient's
    /// mask can recognise it.
    Deformed,
    /// Only masks combined from several patients, and then deformed.
    Recombined,
    /// Only masks drawn from a model of the shapes of the site's masks, with differential privacy.
    Sampled,
}

/// Which scalar losses may leave a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossPolicy {
    /// None: the server learns from feedback only.
    None,
    /// The mean over this many answers, clipped to [-10, 10] and rounded to hundredths.
    Mean {
        /// At least [`LOSS_ROUNDS_MIN`].
        rounds: u32,
    },
    /// The exact losses of every round, each of which is a function of the few images in that round. Only for runs in
    /// one process; a policy file cannot select it.
    #[serde(skip)]
    Exact,
}

/// Losses leave as means over at least this many rounds.
pub const LOSS_ROUNDS_MIN: u32 = 50;

/// Kinds of discriminator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscriminatorFamily {
    /// Judges patches of condition and image.
    Patch,
    /// Assigns a class to every pixel, real or synthetic.
    #[serde(alias = "segmenting")]
    UNet,
    /// For data that are not images.
    #[serde(alias = "perceptron")]
    Mlp,
}

impl std::fmt::Display for DiscriminatorFamily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{self:?}").to_lowercase())
    }
}

/// The training that a run requests from a site, as far as a policy limits it. The worker reads it from
/// [`RunDescription::networks`](crate::RunDescription::networks).
#[derive(Debug, Clone, PartialEq)]
pub struct RequestedTraining {
    /// The kind of discriminator.
    pub family: DiscriminatorFamily,
    /// Channels after its first convolution, or hidden units.
    pub width: u64,
    /// Whether its weights are divided by their largest singular value.
    pub spectral_norm: bool,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Adam's decay rates of the first and second moments.
    pub betas: [f64; 2],
    /// Strength of the augmentation of images before the discriminator sees them.
    pub augmentation: f64,
    /// Approximate memory for weights, optimiser state and the activations of one batch.
    pub memory_bytes: u64,
    /// The differential privacy of the run; `None` for a run without.
    pub privacy: Option<RequestedPrivacy>,
}

/// The differential privacy that a run requests from a site, as far as a policy limits it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestedPrivacy {
    /// The budget of the run.
    pub budget: PrivacyBudget,
    /// Expected number of patients in a step of the discriminator.
    pub patients_per_step: u32,
    /// Images of each patient in a step.
    pub images_per_patient: u32,
    /// Steps of the discriminator in a round.
    pub discriminator_steps: u32,
}

/// A limit on what an observer can learn about one patient: (epsilon, delta)-differential privacy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivacyBudget {
    /// The logarithm of the largest ratio between the probabilities of an outcome with and without a patient.
    pub epsilon: f64,
    /// The probability with which that limit may fail.
    pub delta: f64,
}

/// What a site allows. The site's administrator decides, not the server. All limits are checked before anything is
/// computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SitePolicy {
    /// Maximum number of rounds of a run, and of answers without repeated rounds. Every answer reveals something about
    /// the site's images. Default: 100,000.
    pub rounds_max: u64,
    /// Maximum total number of different answers to rounds that were answered before: for other synthetic images, or by
    /// a discriminator that has learnt since. Default: 1,000.
    pub repeated_rounds_max: u64,
    /// Maximum number of different answers to the same round. The real images are the same each time. Default: 5.
    pub answers_per_round_max: u32,
    /// Maximum total number of starts from a checkpoint or from initial weights. After each, the server meets a
    /// discriminator state that it has seen before. Default: 200.
    pub restores_max: u64,
    /// Maximum number of rounds that a server may skip without a lost connection. A server that skips rounds can choose
    /// which cases it learns about. Default: 1,000.
    pub skipped_rounds_max: u64,
    /// Maximum total number of rounds that the site missed, including while it was disconnected. Default: 20,000.
    pub missed_rounds_max: u64,
    /// Maximum number of rounds that show the same case. Default: 200.
    pub case_rounds_max: u64,
    /// Maximum number of rounds that show the same patient. A patient that appears twice in a batch counts twice.
    /// Default: 20,000.
    pub patient_rounds_max: u64,
    /// Minimum number of cases at this site. A discriminator that sees few cases memorises each of them. Default: 32.
    pub cases_min: u32,
    /// Minimum number of images in a batch. Feedback mixes the information of all of them. Default: 2.
    pub batch_min: u32,
    /// Maximum number of images in a batch, to limit memory use at the site. Default: 64.
    pub batch_max: u32,
    /// Minimum number of different patients in a batch, so that no answer depends on a single patient. Default: 2.
    pub patients_per_batch_min: u32,
    /// Minimum rows and columns of a crop. A small crop reveals where in the image an answer comes from. Default: 64.
    pub crop_min: u32,
    /// Minimum rows and columns by which crops can move within the stored images, so that answers are not about one
    /// fixed position. Default: 8.
    pub crop_margin_min: u32,
    /// Whether images must be flipped at random, which hides where in the image an answer comes from. Default: true.
    pub require_symmetry: bool,
    /// Minimum strength of the augmentation before the discriminator sees an image, from 0 to 1. Augmentation reduces
    /// the memorisation of single images. Default: 0.25.
    pub augmentation_min: f64,
    /// Allowed kinds of discriminator. A patch discriminator sees the mask and can learn which patient it belongs to; a
    /// U-Net discriminator does not. Default: U-Net alone.
    pub discriminators: Vec<DiscriminatorFamily>,
    /// Maximum width of the discriminator. A wider one memorises more. Default: 128.
    pub width_max: u64,
    /// Whether the discriminator must use spectral normalization, which bounds its gain. Default: false.
    pub require_spectral_norm: bool,
    /// Minimum learning rate of the discriminator. A discriminator that does not learn is a fixed, known function of
    /// the images. Default: 1e-5.
    pub learning_rate_min: f64,
    /// Maximum learning rate of the discriminator. A very large step writes single images into the weights. Default:
    /// 1e-2.
    pub learning_rate_max: f64,
    /// Maximum number of rounds between two checkpoints, so that few rounds are repeated after a restart. Default:
    /// 1,000.
    pub checkpoint_every_max: u64,
    /// Maximum number of threads per operation. Default: 64.
    pub threads_max: u32,
    /// Maximum memory for the discriminator and its batches. Default: 8 GiB.
    pub memory_bytes_max: u64,
    /// Whether feedback may contain the gradient of an L1 term, which reveals real images. Default: false.
    pub allow_l1: bool,
    /// Allowed element types for tensors in transit. Default: all except `u8`.
    pub payloads: Vec<Dtype>,
    /// Which masks may leave. Default: recombined.
    pub conditions: ConditionPolicy,
    /// Epsilon of the masks for each patient, if they are sampled. It counts towards `epsilon_max`, once for the same
    /// data. Default: 2.
    pub conditions_epsilon: f64,
    /// Which scalar losses may leave. Default: none.
    pub losses: LossPolicy,
    /// Maximum Euclidean norm of the feedback for one image. A larger gradient is scaled down to it; infinity disables
    /// scaling. Default: 1.0.
    pub feedback_norm_max: f32,
    /// Maximum epsilon of this site's patients, for all runs together. With a limit, the site takes part only in runs
    /// that train with differential privacy, and leaves a run when the next round would exceed the limit. Infinity
    /// disables the limit. Default: infinity.
    pub epsilon_max: f64,
    /// The probability with which the bound `epsilon_max` may fail. The default is 1e-5; choose it far below one
    /// divided by the number of patients.
    pub delta: f64,
}

impl Default for SitePolicy {
    /// The default limits for a run across hospitals.
    fn default() -> Self {
        Self {
            rounds_max: 100_000,
            repeated_rounds_max: 1_000,
            answers_per_round_max: 5,
            restores_max: 200,
            skipped_rounds_max: 1_000,
            missed_rounds_max: 20_000,
            case_rounds_max: 200,
            patient_rounds_max: 20_000,
            cases_min: 32,
            batch_min: 2,
            batch_max: 64,
            patients_per_batch_min: 2,
            crop_min: 64,
            crop_margin_min: 8,
            require_symmetry: true,
            augmentation_min: 0.25,
            discriminators: vec![DiscriminatorFamily::UNet],
            width_max: 128,
            require_spectral_norm: false,
            learning_rate_min: 1e-5,
            learning_rate_max: 1e-2,
            checkpoint_every_max: 1_000,
            threads_max: 64,
            memory_bytes_max: 8 << 30,
            allow_l1: false,
            payloads: vec![Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::Q8],
            conditions: ConditionPolicy::Recombined,
            conditions_epsilon: 2.0,
            losses: LossPolicy::None,
            feedback_norm_max: 1.0,
            epsilon_max: f64::INFINITY,
            delta: 1e-5,
        }
    }
}

impl SitePolicy {
    /// Allows everything. For runs in one process, where all data are already in one place.
    pub fn unrestricted() -> Self {
        Self {
            rounds_max: u64::MAX,
            repeated_rounds_max: u64::MAX,
            answers_per_round_max: u32::MAX,
            restores_max: u64::MAX,
            skipped_rounds_max: u64::MAX,
            missed_rounds_max: u64::MAX,
            case_rounds_max: u64::MAX,
            patient_rounds_max: u64::MAX,
            cases_min: 0,
            batch_min: 1,
            batch_max: u32::MAX,
            patients_per_batch_min: 1,
            crop_min: 0,
            crop_margin_min: 0,
            require_symmetry: false,
            augmentation_min: 0.0,
            discriminators: vec![DiscriminatorFamily::Patch, DiscriminatorFamily::UNet, DiscriminatorFamily::Mlp],
            width_max: u64::MAX,
            require_spectral_norm: false,
            learning_rate_min: 0.0,
            learning_rate_max: f64::INFINITY,
            checkpoint_every_max: u64::MAX,
            threads_max: u32::MAX,
            memory_bytes_max: u64::MAX,
            allow_l1: true,
            conditions: ConditionPolicy::All,
            losses: LossPolicy::Exact,
            feedback_norm_max: f32::INFINITY,
            delta: 1.0 - f64::EPSILON,
            ..Self::default()
        }
    }

    /// This configuration with changed fields.
    ///
    /// # Example
    /// ```
    /// use asyndgan_protocol::SitePolicy;
    /// let policy = SitePolicy::default().with(|policy| policy.rounds_max = 500);
    /// assert_eq!(policy.rounds_max, 500);
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The privacy budget of the site's patients; `None` if it is not limited.
    pub fn budget(&self) -> Option<PrivacyBudget> {
        self.epsilon_max.is_finite().then_some(PrivacyBudget { epsilon: self.epsilon_max, delta: self.delta })
    }
}

use serde::{Deserialize, Serialize};

use crate::{Dtype, Error, RunDescription, SiteSummary, Symmetry, Waiting, error::readable};

/// Which masks may leave a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConditionPolicy {
    /// The masks as they are.
    All,
    /// Only masks put together from several patients', as far as their names tell patients apart: none leaves as it is. A brain's outline does.
    Recombined,
}

/// Which scalar losses may leave a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossPolicy {
    /// None: the server learns from feedback alone.
    None,
    /// After every so many answers their mean, clipped to [-10, 10] and rounded to hundredths.
    Mean {
        /// At least [`LOSS_ROUNDS_MIN`].
        rounds: u32,
    },
    /// Every round's, exactly: each is a function of the round's few images. Only for runs in one process; a policy file cannot ask for it.
    #[serde(skip)]
    Exact,
}

/// Losses leave as means over at least so many rounds.
pub const LOSS_ROUNDS_MIN: u32 = 50;

/// Kinds of discriminator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscriminatorFamily {
    /// Judges patches of condition and image.
    Patch,
    /// Assigns every pixel a class, real or synthetic.
    Segmenting,
    /// For data that are no images.
    Perceptron,
}

impl std::fmt::Display for DiscriminatorFamily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{self:?}").to_lowercase())
    }
}

/// What a run asks a site to train, as far as a policy bounds it: the worker reads it out of [`RunDescription::networks`].
#[derive(Debug, Clone, PartialEq)]
pub struct Learning {
    /// The kind of discriminator.
    pub family: DiscriminatorFamily,
    /// Channels after its first convolution, or hidden units.
    pub width: u64,
    /// Whether its weights are divided by their largest singular value.
    pub spectral_norm: bool,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Adam's decays of the first and the second moment.
    pub betas: [f64; 2],
    /// How strongly images are changed before the discriminator sees them.
    pub augmentation: f64,
    /// Memory that weights, optimiser and a batch's activations need, roughly.
    pub memory_bytes: u64,
}

/// What a site allows. Its administrator decides, not the server. All bounds are checked before anything is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SitePolicy {
    /// Rounds of a run, and answers in all but for repeated rounds: every answer reveals something about the site's images.
    pub rounds_max: u64,
    /// Answers to rounds that were answered before, to other synthetic images, in all.
    pub repeated_rounds_max: u64,
    /// Answers to one and the same round, to different synthetic images: its real images are the same each time.
    pub answers_per_round_max: u32,
    /// Starts from a checkpoint or from first weights, in all: after each, the server meets a discriminator that it has seen before.
    pub restores_max: u64,
    /// Rounds that a server may pass over without a lost connection: one that skips rounds can choose what it sees.
    pub skipped_rounds_max: u64,
    /// Rounds that the site missed in all, also while it was away.
    pub missed_rounds_max: u64,
    /// Rounds that show one case, so that no image is asked about without end.
    pub case_rounds_max: u64,
    /// Rounds that show one patient: a patient shown twice in a batch counts twice.
    pub patient_rounds_max: u64,
    /// Cases of this site: a discriminator that sees few memorises each of them.
    pub cases_min: u32,
    /// Images in a batch: feedback mixes what they say.
    pub batch_min: u32,
    /// Images in a batch, for the site's memory.
    pub batch_max: u32,
    /// Different patients in a batch, so that no answer depends on a single one.
    pub patients_per_batch_min: u32,
    /// Rows and columns of a crop: a small one says where in the image an answer comes from.
    pub crop_min: u32,
    /// Rows and columns by which crops move within the stored images, so that an answer is not about one fixed place.
    pub crop_margin_min: u32,
    /// Whether images must be flipped at random, which blurs where in the image an answer comes from.
    pub require_symmetry: bool,
    /// How strongly images must be changed before the discriminator sees them, from 0 to 1: it memorises single ones less.
    pub augmentation_min: f64,
    /// Kinds of discriminator. One that judges patches sees the mask, and can learn which patient it belongs to; one that segments does not.
    pub discriminators: Vec<DiscriminatorFamily>,
    /// The discriminator's width: a wider one memorises more.
    pub width_max: u64,
    /// Whether the discriminator must have spectral norm, which bounds how much it amplifies.
    pub require_spectral_norm: bool,
    /// The discriminator's least learning rate: one that does not learn answers as a fixed, known function of the images.
    pub learning_rate_min: f64,
    /// The discriminator's largest learning rate: a huge step writes single images into the weights.
    pub learning_rate_max: f64,
    /// Rounds between two checkpoints, so that little is asked again after a restart.
    pub checkpoint_every_max: u64,
    /// Threads of one operation.
    pub threads_max: u32,
    /// Memory for the discriminator and its batches.
    pub memory_bytes_max: u64,
    /// Whether feedback may hold the gradient of an L1 term, which gives real images away.
    pub allow_l1: bool,
    /// How tensors may travel.
    pub payloads: Vec<Dtype>,
    /// Which masks may leave.
    pub conditions: ConditionPolicy,
    /// Which scalar losses may leave.
    pub losses: LossPolicy,
    /// The largest Euclidean norm of the feedback for one image; a longer gradient is scaled down to it. Infinity leaves it as it is.
    pub feedback_norm_max: f32,
}

impl Default for SitePolicy {
    /// The bounds for a run across hospitals.
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
            discriminators: vec![DiscriminatorFamily::Segmenting],
            width_max: 128,
            require_spectral_norm: false,
            learning_rate_min: 1e-5,
            learning_rate_max: 1e-2,
            checkpoint_every_max: 1_000,
            threads_max: 64,
            memory_bytes_max: 8 << 30,
            allow_l1: false,
            payloads: vec![Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::Q8],
            conditions: ConditionPolicy::All,
            losses: LossPolicy::None,
            feedback_norm_max: 1.0,
        }
    }
}

/// A run's name is printed in logs and journals.
const NAME_CHARS_MAX: usize = 100;
/// No description of networks is longer.
const NETWORKS_BYTES_MAX: usize = 1 << 16;
/// A week: nobody waits longer for one round.
const DEADLINE_MS_MAX: u64 = 7 * 24 * 3_600_000;
const STALENESS_MAX: u64 = 1_000;
/// With a slower decay, one huge gradient stops Adam from learning.
const BETA_MAX: f64 = 0.9999;

impl SitePolicy {
    /// Allows everything: for runs in one process, where all data are in one place already.
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
            discriminators: vec![DiscriminatorFamily::Patch, DiscriminatorFamily::Segmenting, DiscriminatorFamily::Perceptron],
            width_max: u64::MAX,
            require_spectral_norm: false,
            learning_rate_min: 0.0,
            learning_rate_max: f64::INFINITY,
            checkpoint_every_max: u64::MAX,
            threads_max: u32::MAX,
            memory_bytes_max: u64::MAX,
            allow_l1: true,
            losses: LossPolicy::Exact,
            feedback_norm_max: f32::INFINITY,
            ..Self::default()
        }
    }

    /// Whether the policy itself makes sense.
    ///
    /// # Errors
    /// [`Error::Policy`] with the field and what it takes.
    pub fn validate(&self) -> Result<(), Error> {
        let ensure =
            |holds: bool, field: &'static str, takes: &'static str| if holds { Ok(()) } else { Err(Error::Policy { field, takes }) };
        ensure(self.feedback_norm_max > 0.0, "feedback_norm_max", "a number above 0, or inf")?;
        ensure((0.0..=1.0).contains(&self.augmentation_min), "augmentation_min", "a number from 0 to 1")?;
        ensure(self.learning_rate_min >= 0.0, "learning_rate_min", "a number from 0")?;
        ensure(self.learning_rate_max > self.learning_rate_min, "learning_rate_max", "a number above learning_rate_min")?;
        ensure(self.batch_max >= self.batch_min.max(1), "batch_max", "at least batch_min, and at least 1")?;
        let patients = (1..=self.batch_max).contains(&self.patients_per_batch_min);
        ensure(patients, "patients_per_batch_min", "a number from 1 to batch_max")?;
        ensure(self.answers_per_round_max > 0, "answers_per_round_max", "at least 1")?;
        let rounds = !matches!(self.losses, LossPolicy::Mean { rounds } if rounds < LOSS_ROUNDS_MIN);
        ensure(rounds, "losses.mean.rounds", "at least 50")
    }

    /// Whether a run may use this site's data, before anything is computed. `patients` has the patient of each case.
    ///
    /// # Errors
    /// [`Error::Refused`] with the bound and what the run asks for.
    pub fn check(&self, run: &RunDescription, learning: &Learning, summary: &SiteSummary, patients: &[u32]) -> Result<(), Error> {
        let refusals =
            [self.check_form(run), self.check_draws(run, summary, patients), self.check_learning(learning), self.check_payloads(run)];
        match refusals.into_iter().find_map(Result::err) {
            Some(fact) => Err(Error::Refused { run: shown(&run.name), fact }),
            None => Ok(()),
        }
    }

    /// What every run must fulfil.
    pub(crate) fn check_form(&self, run: &RunDescription) -> Result<(), String> {
        if run.name.chars().count() > NAME_CHARS_MAX || run.name.chars().any(char::is_control) {
            return Err(format!("its name has more than {NAME_CHARS_MAX} characters, or some that cannot be printed"));
        }
        if run.networks.len() > NETWORKS_BYTES_MAX {
            return Err(format!("its networks are described in {} bytes, at most {NETWORKS_BYTES_MAX} are read", run.networks.len()));
        }
        at_most("rounds_max", self.rounds_max, run.rounds, "rounds")?;
        at_least("checkpoint_every", 1, run.checkpoint_every, "rounds between checkpoints")?;
        at_most("checkpoint_every_max", self.checkpoint_every_max, run.checkpoint_every, "rounds between checkpoints")?;
        at_most("threads_max", self.threads_max.into(), run.site_threads.into(), "threads")?;
        match run.waiting {
            Waiting::All => Ok(()),
            Waiting::Quorum { deadline_ms, .. } => at_most("the deadline of a quorum in ms", DEADLINE_MS_MAX, deadline_ms, "ms"),
            Waiting::Staleness { rounds, .. } => at_most("staleness in rounds", STALENESS_MAX, rounds, "rounds"),
        }
    }

    fn check_draws(&self, run: &RunDescription, summary: &SiteSummary, patients: &[u32]) -> Result<(), String> {
        if summary.cases < self.cases_min {
            return Err(format!("cases_min is {}, this site has {}", self.cases_min, summary.cases));
        }
        at_least("batch_min", self.batch_min.into(), run.batch.into(), "images in a batch")?;
        at_most("batch_max", self.batch_max.into(), run.batch.into(), "images in a batch")?;
        at_least("patients_per_batch_min", self.patients_per_batch_min.into(), run.batch.into(), "images in a batch")?;
        at_least("crop_min", self.crop_min.into(), run.crop.into(), "rows and columns in a crop")?;
        let margin = run.size.saturating_sub(run.crop);
        at_least("crop_margin_min", self.crop_margin_min.into(), margin.into(), "rows and columns by which crops move")?;
        if self.require_symmetry && run.symmetry == Symmetry::None {
            return Err("require_symmetry is true, the run never flips its images".into());
        }
        let cases_of = cases_of_patients(patients);
        if self.patients_per_batch_min > 1 && cases_of.len() < self.patients_per_batch_min as usize {
            // What is refused, the server reads: how many there are is none of its business.
            return Err(format!("patients_per_batch_min is {}, and this site's cases are of fewer patients", self.patients_per_batch_min));
        }
        // What is shown on average, and six standard deviations: no run is to end early by chance. Each showing is counted besides.
        let shown = |cases: u64| {
            let mean = run.rounds.saturating_mul(run.batch.into()).saturating_mul(cases) / u64::from(summary.cases.max(1));
            mean.saturating_add(6 * mean.isqrt())
        };
        if shown(1) > self.case_rounds_max {
            // Where the mean and six standard deviations reach the bound.
            let mean = ((self.case_rounds_max as f64 + 9.0).sqrt() - 3.0).powi(2);
            let rounds = (mean * f64::from(summary.cases) / f64::from(run.batch.max(1))) as u64;
            let (limit, batch, cases, asked) = (self.case_rounds_max, run.batch, summary.cases, shown(1));
            return Err(format!(
                "case_rounds_max is {limit}, the run may show a case in {asked} rounds; with {batch} images a round and {cases} cases at this \
                 site, at most about {rounds} rounds are allowed"
            ));
        }
        let most = cases_of.into_iter().max().unwrap_or(0);
        if shown(most) > self.patient_rounds_max {
            return Err(format!("patient_rounds_max is {}, the run shows a patient more often", self.patient_rounds_max));
        }
        Ok(())
    }

    fn check_learning(&self, learning: &Learning) -> Result<(), String> {
        let Learning { family, width, spectral_norm, learning_rate, betas, augmentation, memory_bytes } = *learning;
        if !self.discriminators.contains(&family) {
            return Err(format!("discriminators do not list {family}, which the run uses"));
        }
        at_most("width_max", self.width_max, width, "channels in the discriminator's first layer")?;
        if self.require_spectral_norm && !spectral_norm {
            return Err("require_spectral_norm is true, the run's discriminator has none".into());
        }
        if !(self.learning_rate_min..=self.learning_rate_max).contains(&learning_rate) {
            let (least, most) = (self.learning_rate_min, self.learning_rate_max);
            return Err(format!("learning rates from {least} to {most} are allowed, the run's discriminator has {learning_rate}"));
        }
        if !betas.iter().all(|beta| (0.0..=BETA_MAX).contains(beta)) {
            return Err(format!("Adam's decays are {betas:?}, they must be from 0 to {BETA_MAX}"));
        }
        if !(self.augmentation_min..=1.0).contains(&augmentation) {
            let least = self.augmentation_min;
            return Err(format!("augmentation_min is {least}, the run changes images with strength {augmentation} (at most 1)"));
        }
        at_most("memory_bytes_max", self.memory_bytes_max, memory_bytes, "bytes of memory, roughly")
    }

    fn check_payloads(&self, run: &RunDescription) -> Result<(), String> {
        if run.l1_weight != 0.0 && !self.allow_l1 {
            return Err(format!("allow_l1 is false, the run has an L1 term of weight {}, which gives real images away", run.l1_weight));
        }
        if run.l1_weight != 0.0 && self.patients_per_batch_min > 1 {
            let least = self.patients_per_batch_min;
            return Err(format!("patients_per_batch_min is {least}, and with an L1 term the server chooses the real images of a batch"));
        }
        if run.l1_weight != 0.0 && self.conditions == ConditionPolicy::Recombined {
            return Err("conditions are re-combined, an L1 term needs an image for each".into());
        }
        for dtype in [run.synthetic_dtype, run.feedback_dtype] {
            if !self.payloads.contains(&dtype) {
                return Err(format!("payloads do not list {dtype}, in which the run's tensors travel"));
            }
        }
        if run.feedback_dtype == Dtype::Q8 || [run.synthetic_dtype, run.feedback_dtype].contains(&Dtype::U8) {
            return Err("q8 is for synthetic images, and u8 for masks".into());
        }
        Ok(())
    }
}

fn at_most(bound: &str, limit: u64, found: u64, what: &str) -> Result<(), String> {
    if found <= limit { Ok(()) } else { Err(format!("{bound} is {limit}, the run asks for {found} {what}")) }
}

fn at_least(bound: &str, limit: u64, found: u64, what: &str) -> Result<(), String> {
    if found >= limit { Ok(()) } else { Err(format!("{bound} is {limit}, the run has {found} {what}")) }
}

/// How many cases each patient has.
fn cases_of_patients(patients: &[u32]) -> Vec<u64> {
    let mut counts = std::collections::BTreeMap::<u32, u64>::new();
    for &patient in patients {
        *counts.entry(patient).or_default() += 1;
    }
    counts.into_values().collect()
}

/// A name that somebody else wrote, fit for a terminal.
fn shown(name: &str) -> String {
    readable(name).chars().take(NAME_CHARS_MAX).collect()
}

/// What a site refuses on its own, apart from its policy.
pub(crate) fn refused(run: &RunDescription, fact: impl Into<String>) -> Error {
    Error::Refused { run: shown(&run.name), fact: fact.into() }
}

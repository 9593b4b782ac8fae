//! Checks that a run may use a site's data.

use super::{ConditionPolicy, LOSS_ROUNDS_MIN, LossPolicy, RequestedTraining, SitePolicy};
use crate::{Dtype, Error, RunDescription, SiteSummary, Symmetry, Waiting, error::readable};

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
    /// Checks that the policy's own values are valid.
    ///
    /// # Errors
    /// [`Error::Policy`] with the field and its valid values.
    pub fn validate(&self) -> Result<(), Error> {
        let ensure =
            |holds: bool, field: &'static str, takes: &'static str| if holds { Ok(()) } else { Err(Error::Policy { field, takes }) };
        ensure(self.feedback_norm_max > 0.0, "feedback_norm_max", "a number above 0, or inf")?;
        ensure((0.0..=1.0).contains(&self.augmentation_min), "augmentation_min", "a number from 0 to 1")?;
        ensure(self.learning_rate_min >= 0.0, "learning_rate_min", "a number of at least 0")?;
        ensure(self.learning_rate_max > self.learning_rate_min, "learning_rate_max", "a number above learning_rate_min")?;
        ensure(self.batch_max >= self.batch_min.max(1), "batch_max", "at least batch_min, and at least 1")?;
        let patients = (1..=self.batch_max).contains(&self.patients_per_batch_min);
        ensure(patients, "patients_per_batch_min", "a number from 1 to batch_max")?;
        ensure(self.answers_per_round_max > 0, "answers_per_round_max", "at least 1")?;
        ensure(self.epsilon_max > 0.0, "epsilon_max", "a number above 0, or inf")?;
        ensure(self.delta > 0.0 && self.delta < 1.0, "delta", "a number above 0 and below 1")?;
        let masks = self.conditions_epsilon;
        ensure(masks > 0.0 && masks.is_finite(), "conditions_epsilon", "a number above 0")?;
        let fits = self.conditions != ConditionPolicy::Sampled || masks <= self.epsilon_max;
        ensure(fits, "conditions_epsilon", "at most epsilon_max")?;
        let rounds = !matches!(self.losses, LossPolicy::Mean { rounds } if rounds < LOSS_ROUNDS_MIN);
        ensure(rounds, "losses.mean.rounds", "at least 50")
    }

    /// Checks, before anything is computed, that a run may use this site's data. `patients` holds the patient of each
    /// case.
    ///
    /// # Errors
    /// [`Error::Refused`] with the limit and the value that the run asks for.
    pub fn check(&self, run: &RunDescription, training: &RequestedTraining, summary: &SiteSummary, patients: &[u32]) -> Result<(), Error> {
        let refusals = [
            self.check_form(run),
            self.check_draws(run, training, summary, patients),
            self.check_training(training),
            self.check_privacy(run, training),
            self.check_payloads(run),
        ];
        match refusals.into_iter().find_map(Result::err) {
            Some(fact) => Err(Error::Refused { run: shown(&run.name), fact }),
            None => Ok(()),
        }
    }

    /// Checks the requirements for every run.
    pub(crate) fn check_form(&self, run: &RunDescription) -> Result<(), String> {
        if run.name.chars().count() > NAME_CHARS_MAX || run.name.chars().any(char::is_control) {
            return Err(format!("the run's name has more than {NAME_CHARS_MAX} characters, or contains control characters"));
        }
        if run.networks.len() > NETWORKS_BYTES_MAX {
            return Err(format!("its description of the networks has {} bytes; the limit is {NETWORKS_BYTES_MAX}", run.networks.len()));
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

    fn check_draws(
        &self,
        run: &RunDescription,
        training: &RequestedTraining,
        summary: &SiteSummary,
        patients: &[u32],
    ) -> Result<(), String> {
        if summary.cases < self.cases_min {
            return Err(format!("cases_min is {}, but this site has {} cases", self.cases_min, summary.cases));
        }
        at_least("batch_min", self.batch_min.into(), run.batch.into(), "images in a batch")?;
        at_most("batch_max", self.batch_max.into(), run.batch.into(), "images in a batch")?;
        at_least("patients_per_batch_min", self.patients_per_batch_min.into(), run.batch.into(), "images in a batch")?;
        at_least("crop_min", self.crop_min.into(), run.crop.into(), "rows and columns in a crop")?;
        let margin = run.size.saturating_sub(run.crop);
        at_least("crop_margin_min", self.crop_margin_min.into(), margin.into(), "rows and columns by which crops move")?;
        if self.require_symmetry && run.symmetry == Symmetry::None {
            return Err("require_symmetry is true, but the run never flips its images".into());
        }
        let cases_of = cases_of_patients(patients);
        if self.patients_per_batch_min > 1 && cases_of.len() < self.patients_per_batch_min as usize {
            // What is refused, the server reads: how many there are is none of its business.
            return Err(format!("patients_per_batch_min is {}, but this site has fewer patients", self.patients_per_batch_min));
        }
        let mut images = u64::from(run.batch);
        if let Some(privacy) = &training.privacy {
            if self.epsilon_max.is_finite() {
                // The budget limits what is learnt about a patient, however often the patient is shown.
                return Ok(());
            }
            if self.patients_per_batch_min > 1 {
                return Err(format!(
                    "patients_per_batch_min is {}, but a step with differential privacy may use the images of one patient; set epsilon_max \
                     to the largest epsilon that the hospital accepts, or patients_per_batch_min to 1",
                    self.patients_per_batch_min
                ));
            }
            let patients = u64::from(privacy.patients_per_step).min(cases_of.len() as u64);
            images = [privacy.images_per_patient, privacy.discriminator_steps].iter().fold(patients, |n, &m| n.saturating_mul(m.into()));
        }
        // What is shown on average, and six standard deviations: no run is to end early by chance. Each showing is
        // counted besides.
        let shown = |cases: u64| {
            let mean = run.rounds.saturating_mul(images).saturating_mul(cases) / u64::from(summary.cases.max(1));
            mean.saturating_add(6 * mean.isqrt())
        };
        if shown(1) > self.case_rounds_max {
            // Where the mean and six standard deviations reach the bound.
            let mean = ((self.case_rounds_max as f64 + 9.0).sqrt() - 3.0).powi(2);
            let rounds = (mean * f64::from(summary.cases) / images.max(1) as f64) as u64;
            let (limit, cases, asked) = (self.case_rounds_max, summary.cases, shown(1));
            return Err(format!(
                "case_rounds_max is {limit}, but the run may show a case in {asked} rounds; with {images} images per round and {cases} \
                 cases at this site, at most about {rounds} rounds are allowed"
            ));
        }
        let most = cases_of.into_iter().max().unwrap_or(0);
        if shown(most) > self.patient_rounds_max {
            return Err(format!("patient_rounds_max is {}, but the run may show a patient more often", self.patient_rounds_max));
        }
        Ok(())
    }

    fn check_training(&self, training: &RequestedTraining) -> Result<(), String> {
        let RequestedTraining { family, width, spectral_norm, learning_rate, betas, augmentation, memory_bytes, .. } = *training;
        if !self.discriminators.contains(&family) {
            return Err(format!("discriminators does not list {family}, which the run uses"));
        }
        at_most("width_max", self.width_max, width, "channels in the discriminator's first layer")?;
        if self.require_spectral_norm && !spectral_norm {
            return Err("require_spectral_norm is true, but the run's discriminator does not use it".into());
        }
        if !(self.learning_rate_min..=self.learning_rate_max).contains(&learning_rate) {
            let (least, most) = (self.learning_rate_min, self.learning_rate_max);
            return Err(format!("learning rates from {least} to {most} are allowed, but the run's discriminator uses {learning_rate}"));
        }
        if !betas.iter().all(|beta| (0.0..=BETA_MAX).contains(beta)) {
            return Err(format!("Adam's betas are {betas:?}; they must be from 0 to {BETA_MAX}"));
        }
        if !(self.augmentation_min..=1.0).contains(&augmentation) {
            let least = self.augmentation_min;
            return Err(format!("augmentation_min is {least}, but the run augments images with strength {augmentation} (maximum 1)"));
        }
        at_most("memory_bytes_max", self.memory_bytes_max, memory_bytes, "bytes of memory (estimated)")
    }

    fn check_privacy(&self, run: &RunDescription, training: &RequestedTraining) -> Result<(), String> {
        if training.privacy.is_none() && self.epsilon_max.is_finite() {
            return Err(format!("epsilon_max is {}, but the run does not train with differential privacy", self.epsilon_max));
        }
        let Some(privacy) = training.privacy else { return Ok(()) };
        if privacy.budget.delta > self.delta {
            return Err(format!("delta is {}, but the noise of the run is planned for a delta of {}", self.delta, privacy.budget.delta));
        }
        at_most("batch_max", self.batch_max.into(), privacy.images_per_patient.into(), "images of one patient in a step")?;
        if run.l1_weight != 0.0 {
            return Err("the run has an L1 term, whose gradient depends on real images without the noise of differential privacy".into());
        }
        Ok(())
    }

    fn check_payloads(&self, run: &RunDescription) -> Result<(), String> {
        if run.l1_weight != 0.0 && !self.allow_l1 {
            return Err(format!("allow_l1 is false, but the run has an L1 term of weight {}, which reveals real images", run.l1_weight));
        }
        if run.l1_weight != 0.0 && self.patients_per_batch_min > 1 {
            let least = self.patients_per_batch_min;
            return Err(format!("patients_per_batch_min is {least}, but with an L1 term the server chooses the real images of a batch"));
        }
        if run.l1_weight != 0.0 && self.conditions != ConditionPolicy::All {
            return Err("conditions is not \"all\", but an L1 term needs a real image for each condition".into());
        }
        for dtype in [run.synthetic_dtype, run.feedback_dtype] {
            if !self.payloads.contains(&dtype) {
                return Err(format!("payloads does not list {dtype}, which the run uses for its tensors"));
            }
        }
        if run.feedback_dtype == Dtype::Q8 || [run.synthetic_dtype, run.feedback_dtype].contains(&Dtype::U8) {
            return Err("q8 is only for synthetic images, and u8 only for masks".into());
        }
        Ok(())
    }
}

fn at_most(bound: &str, limit: u64, found: u64, what: &str) -> Result<(), String> {
    if found <= limit { Ok(()) } else { Err(format!("{bound} is {limit}, but the run asks for {found} {what}")) }
}

fn at_least(bound: &str, limit: u64, found: u64, what: &str) -> Result<(), String> {
    if found >= limit { Ok(()) } else { Err(format!("{bound} is {limit}, but the run has {found} {what}")) }
}

/// How many cases each patient has.
fn cases_of_patients(patients: &[u32]) -> Vec<u64> {
    let mut counts = std::collections::BTreeMap::<u32, u64>::new();
    for &patient in patients {
        *counts.entry(patient).or_default() += 1;
    }
    counts.into_values().collect()
}

/// A run's name from the other end, safe to print.
fn shown(name: &str) -> String {
    readable(name).chars().take(NAME_CHARS_MAX).collect()
}

/// A refusal by the site for a reason other than its policy.
pub(crate) fn refused(run: &RunDescription, fact: impl Into<String>) -> Error {
    Error::Refused { run: shown(&run.name), fact: fact.into() }
}

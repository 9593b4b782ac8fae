//! Plans and checks the budget of differential privacy.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use asyndgan_privacy::{Budget, Composition, SubsampledGaussian};
use asyndgan_training::{DpSgd, PrivacyLedger, PrivateStep};

/// The training that a budget is planned for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PrivacyPlan {
    /// Budget, patients per step and steps per round.
    pub training: DpSgd,
    /// Number of patients of the site.
    pub patients: u32,
    /// Rounds of the run.
    pub rounds: u64,
}

/// What a plan amounts to.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct PlannedPrivacy {
    /// A step of the discriminator.
    pub step: SubsampledGaussian,
    /// Number of steps.
    pub steps: u64,
    /// The epsilon that all steps spend.
    pub epsilon: f64,
    /// The norm of the noise in the mean gradient, for each weight, as a share of the clipping norm.
    pub noise_per_weight: f64,
}

impl PrivacyPlan {
    /// A plan.
    pub fn new(training: DpSgd, patients: u32, rounds: u64) -> Self {
        Self { training, patients, rounds }
    }

    /// The noise that the budget requires.
    ///
    /// # Errors
    /// If a value is out of range, or no noise meets the budget.
    pub fn compute(&self) -> Result<PlannedPrivacy> {
        let Self { training, patients, rounds } = self;
        ensure!(*patients > 0 && *rounds > 0, "a plan needs at least one patient and one round");
        let step = training.step(*patients as usize, *rounds)?;
        self.with_step(step)
    }

    /// The epsilon of a given noise multiplier, instead of that of the budget.
    ///
    /// # Errors
    /// If a value is out of range.
    pub fn with_noise(&self, noise_multiplier: f64) -> Result<PlannedPrivacy> {
        self.with_step(SubsampledGaussian::new(self.training.sampling_rate(self.patients as usize), noise_multiplier)?)
    }

    fn with_step(&self, step: SubsampledGaussian) -> Result<PlannedPrivacy> {
        Budget::new(self.training.epsilon, self.training.delta)?;
        let steps = self.training.steps(self.rounds);
        let mut composition = Composition::new();
        composition.add(step, steps);
        let expected = step.sampling_rate() * f64::from(self.patients);
        let noise_per_weight = step.noise_multiplier() / expected;
        Ok(PlannedPrivacy { step, steps, epsilon: composition.epsilon(self.training.delta)?, noise_per_weight })
    }
}

/// The steps of a ledger, composed.
///
/// # Errors
/// If a step is not valid.
pub fn composition(steps: &[PrivateStep]) -> Result<Composition> {
    let mut composition = Composition::new();
    for step in steps {
        composition.add(SubsampledGaussian::new(step.sampling_rate, step.noise_multiplier)?, 1);
    }
    Ok(composition)
}

/// The epsilon that the steps of a ledger have spent, and how many steps there are in each run.
///
/// # Errors
/// If the ledger cannot be read, or delta is not above 0 and below 1.
pub fn spent(ledger: &Path, delta: f64) -> Result<(f64, Vec<(String, u64)>)> {
    let steps = PrivacyLedger::read(ledger).with_context(|| ledger.display().to_string())?;
    let mut runs: Vec<(String, u64)> = Vec::new();
    for step in &steps {
        match runs.iter_mut().find(|run| run.0 == step.run) {
            Some(run) => run.1 += 1,
            None => runs.push((step.run.clone(), 1)),
        }
    }
    Ok((composition(&steps)?.epsilon(delta)?, runs))
}

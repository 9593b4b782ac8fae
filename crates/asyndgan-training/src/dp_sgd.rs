//! Discriminator steps with differential privacy for patients.

use std::collections::BTreeMap;

use asyndgan_models::Parameters;
use asyndgan_privacy::{Budget, SubsampledGaussian};
use asyndgan_protocol::{Payload, PrivacyBudget, RequestedPrivacy, Stream, hex};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

use crate::{Error, tensors::to_payload};

/// Training of the discriminators with differential privacy for patients.
///
/// In every round, each patient of a site takes part with the same probability. The gradient of each patient's images
/// is clipped, and Gaussian noise is added to the sum. A site computes the noise from the budget, the rounds of the run
/// and the number of its patients.
///
/// # Reference
/// Abadi et al., Deep Learning with Differential Privacy, CCS 2016.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DpSgd {
    /// Epsilon of the whole run for each patient.
    pub epsilon: f64,
    /// The probability with which that bound may fail.
    pub delta: f64,
    /// Largest Euclidean norm of the gradient of one patient.
    pub clipping_norm: f64,
    /// Expected number of patients in a step; all patients of a site that has fewer.
    pub patients_per_step: u32,
    /// Images of each patient in a step. Their gradients are averaged before clipping, so more images cost no privacy.
    pub images_per_patient: u32,
    /// Steps of the discriminator in a round. Every one costs privacy; with a noisy discriminator, several steps on the
    /// same synthetic images before each feedback can be worth it.
    ///
    /// # Reference
    /// Bie, Kamath and Zhang, Private GANs, Revisited, TMLR 2023.
    #[serde(default = "one")]
    pub discriminator_steps: u32,
}

fn one() -> u32 {
    1
}

impl DpSgd {
    /// Training within a budget, with gradients clipped to norm 1, 16 patients per step, 1 image of each, and 1 step
    /// per round.
    pub fn new(epsilon: f64, delta: f64) -> Self {
        Self { epsilon, delta, clipping_norm: 1.0, patients_per_step: 16, images_per_patient: 1, discriminator_steps: 1 }
    }

    /// This configuration with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The budget.
    pub fn budget(&self) -> PrivacyBudget {
        PrivacyBudget { epsilon: self.epsilon, delta: self.delta }
    }

    /// What a policy limits of it.
    pub(crate) fn requested(&self) -> RequestedPrivacy {
        let Self { patients_per_step, images_per_patient, discriminator_steps, .. } = *self;
        RequestedPrivacy { budget: self.budget(), patients_per_step, images_per_patient, discriminator_steps }
    }

    /// Checks the values; returns what is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        Budget::new(self.epsilon, self.delta).map_err(|error| format!("privacy: {error}"))?;
        if !(1e-6..=1e6).contains(&self.clipping_norm) {
            return Err(format!("a clipping norm of {}; it must be from 1e-6 to 1e6", self.clipping_norm));
        }
        let counts = [self.patients_per_step, self.images_per_patient, self.discriminator_steps];
        if counts.iter().any(|count| !(1..=COUNT_MAX).contains(count)) {
            let [patients, images, steps] = counts;
            return Err(format!("{steps} steps of {patients} patients with {images} images each; use 1 to {COUNT_MAX}"));
        }
        Ok(())
    }

    /// The probability with which a patient takes part in a step.
    pub fn sampling_rate(&self, patients: usize) -> f64 {
        (f64::from(self.patients_per_step) / patients.max(1) as f64).min(1.0)
    }

    /// Steps of the discriminator in a run.
    pub fn steps(&self, rounds: u64) -> u64 {
        rounds.saturating_mul(self.discriminator_steps.into())
    }

    /// A step of a run at a site, with the smallest noise that stays within the budget.
    ///
    /// # Errors
    /// [`Error::Privacy`] if no noise meets the budget.
    pub fn step(&self, patients: usize, rounds: u64) -> Result<SubsampledGaussian, Error> {
        let (budget, rate) = (Budget::new(self.epsilon, self.delta)?, self.sampling_rate(patients));
        Ok(SubsampledGaussian::new(rate, asyndgan_privacy::noise_multiplier(budget, rate, self.steps(rounds))?)?)
    }
}

/// The largest number of patients or images in a step, or of steps in a round.
const COUNT_MAX: u32 = 4096;

/// The cases of each patient.
#[derive(Debug)]
pub(crate) struct Patients(Vec<Vec<u32>>);

impl Patients {
    /// Groups cases by patient.
    pub(crate) fn new(patients: &[u32]) -> Self {
        let mut cases = BTreeMap::<u32, Vec<u32>>::new();
        for (case, &patient) in (0..).zip(patients) {
            cases.entry(patient).or_default().push(case);
        }
        Self(cases.into_values().collect())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The patients of a step, each with some of its cases. Every patient takes part with the same probability,
    /// independently of the others.
    pub(crate) fn sample(&self, rate: f64, images: u32, rng: &mut Stream) -> Vec<Vec<u32>> {
        let mut sampled = Vec::new();
        for cases in &self.0 {
            if rng.random_bool(rate) {
                sampled.push((0..images).map(|_| cases[rng.random_range(0..cases.len())]).collect());
            }
        }
        sampled
    }
}

/// A gradient with a Euclidean norm of at most `limit`; 0 if it is not finite.
pub(crate) fn clipped(gradient: &Tensor, limit: f64) -> Tensor {
    let norm = gradient.norm().double_value(&[]);
    if norm.is_finite() { gradient * (limit / norm.max(1e-30)).min(1.0) } else { gradient.zeros_like() }
}

/// Identifies the state of a network: its weights and statistics.
pub(crate) fn state_of(parameters: &Parameters) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (name, tensor) in parameters.named() {
        hash.update(name);
        hash.update(to_payload(&tensor).sha256());
    }
    hash.finalize().into()
}

/// Identifies a step: the state before it, the sum of the clipped gradients, and the noise that is added to it. With
/// another noise multiplier, the noise must not be the same with another scale.
pub(crate) fn key_of(state: &[u8; 32], sum: &Tensor, step: SubsampledGaussian, clipping_norm: f64) -> [u8; 32] {
    let sum: Payload = to_payload(sum);
    let mut hash = Sha256::new().chain_update(state).chain_update(sum.sha256());
    for value in [step.sampling_rate(), step.noise_multiplier(), clipping_norm] {
        hash.update(value.to_le_bytes());
    }
    hash.finalize().into()
}

/// The key, as the ledger stores it.
pub(crate) fn named(key: &[u8; 32]) -> String {
    hex(key)
}

/// Gaussian noise of a standard deviation, in the shape of a flat gradient.
pub(crate) fn noise_like(gradient: &Tensor, deviation: f64, rng: &mut Stream) -> Tensor {
    let values: Vec<f32> = (0..gradient.numel())
        .map(|_| {
            let value: f64 = StandardNormal.sample(rng);
            (deviation * value) as f32
        })
        .collect();
    Tensor::from_slice(&values).to_device(gradient.device()).to_kind(Kind::Float)
}

#[cfg(test)]
mod tests {
    use asyndgan_protocol::{Role, stream};

    use super::*;

    #[test]
    fn patients_are_sampled_independently_with_cases_of_their_own() {
        let patients = Patients::new(&[4, 4, 9, 4, 7]);
        assert_eq!(patients.count(), 3);
        let mut counts = BTreeMap::<Vec<u32>, u32>::new();
        for round in 0..4_000 {
            let sampled = patients.sample(0.5, 2, &mut stream(1, Role::PrivateSample, 0, round));
            let who = |cases: &Vec<u32>| {
                let owner = |case: u32| [4, 4, 9, 4, 7][case as usize];
                assert!(cases.len() == 2 && owner(cases[0]) == owner(cases[1]));
                owner(cases[0])
            };
            *counts.entry(sampled.iter().map(who).collect()).or_default() += 1;
        }
        // All eight sets of patients are equally likely.
        assert_eq!(counts.len(), 8);
        assert!(counts.values().all(|&count| (400..600).contains(&count)), "{counts:?}");
        assert_eq!(patients.sample(1.0, 1, &mut stream(1, Role::PrivateSample, 0, 0)).len(), 3);
        assert!(patients.sample(0.0, 1, &mut stream(1, Role::PrivateSample, 0, 0)).is_empty());
    }

    #[test]
    fn gradients_are_clipped_and_never_spread_what_is_not_finite() {
        let gradient = Tensor::from_slice(&[3.0_f32, 4.0]);
        assert_eq!(clipped(&gradient, 10.0), gradient);
        assert!(clipped(&gradient, 1.0).allclose(&Tensor::from_slice(&[0.6_f32, 0.8]), 1e-6, 0.0, false));
        for value in [f32::NAN, f32::INFINITY] {
            assert_eq!(clipped(&Tensor::from_slice(&[3.0_f32, value]), 1.0), Tensor::from_slice(&[0.0_f32, 0.0]));
        }
        assert_eq!(clipped(&Tensor::from_slice(&[0.0_f32]), 1.0), Tensor::from_slice(&[0.0_f32]));
    }

    #[test]
    fn the_sampling_rate_is_that_of_the_expected_number_of_patients() {
        let sgd = DpSgd::new(1.0, 1e-5);
        assert!((sgd.sampling_rate(64) - 0.25).abs() < 1e-12 && (sgd.sampling_rate(3) - 1.0).abs() < 1e-12);
    }
}

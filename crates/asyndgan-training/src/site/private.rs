//! Rounds with differential privacy.

use asyndgan_privacy::{Budget, SubsampledGaussian};
use asyndgan_protocol::{Role, RunDescription, SiteId, draw_augmentations_of};
use tch::{Kind, Tensor};

use super::{Begun, SiteTrainer, shown};
use crate::{
    DpSgd, Error, PrivacyLedger, PrivateStep,
    augment::Augment,
    dp_sgd::{Patients, clipped, key_of, named, noise_like, state_of},
    tensors::one_hot_condition,
};

/// Why a site leaves a run whose privacy budget is spent.
pub(super) const BUDGET_SPENT: &str =
    "the privacy budget of the site's patients is spent: another round would exceed the epsilon of the run or the site's limit";

/// The steps of a site in a run with differential privacy.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct PrivateSteps {
    /// What a step does.
    pub mechanism: SubsampledGaussian,
    /// Steps that the epsilon of the run and the budget of the site still allow.
    pub left: u64,
    /// Steps in a round.
    pub per_round: u64,
}

/// What a run with differential privacy does in every step.
#[derive(Debug)]
pub(super) struct Private {
    pub(super) sgd: DpSgd,
    patients: Patients,
    mechanism: SubsampledGaussian,
    /// New steps that the epsilon of the run and the budget of the site allow.
    pub(super) steps_left: u64,
}

/// The synthetic images of a round.
pub(super) struct Synthetic<'a> {
    pub(super) condition: &'a Tensor,
    pub(super) images: &'a Tensor,
    /// The channels that the discriminator sees.
    pub(super) visible: Option<&'a Tensor>,
}

impl Begun {
    /// The mean of the gradients of the synthetic images, each clipped as those of patients are, so that both weigh the
    /// same; and the mean loss.
    fn synthetic_gradient(&self, condition: &Tensor, images: &Tensor, limit: f64) -> (Tensor, Tensor) {
        let (parameters, batch) = (&self.discriminator.parameters, images.size()[0]);
        let (mut sum, mut losses) = (parameters.flat().zeros_like(), Tensor::zeros([], (Kind::Float, images.device())));
        for i in 0..batch {
            let loss = self.config.gan_loss.on_synthetic(&self.logits(&condition.narrow(0, i, 1), &images.narrow(0, i, 1)));
            sum += clipped(&parameters.gradient(&loss), limit);
            losses += loss.detach();
        }
        (sum / batch as f64, losses / batch as f64)
    }
}

impl SiteTrainer {
    /// The steps of a run with differential privacy that has begun.
    pub fn private_steps(&self) -> Option<PrivateSteps> {
        let private = self.begun.as_ref()?.private.as_ref()?;
        let Private { mechanism, steps_left, .. } = *private;
        Some(PrivateSteps { mechanism, left: steps_left, per_round: private.sgd.discriminator_steps.into() })
    }

    pub(super) fn begin_private(&mut self, site: SiteId, run: &RunDescription, rounds_done: u64, sgd: DpSgd) -> Result<Private, Error> {
        let patients = Patients::new(&self.pairs.patients());
        let mechanism = match &self.planned {
            Some((id, mechanism)) if *id == run.id() => *mechanism,
            _ => sgd.step(patients.count(), run.rounds)?,
        };
        self.planned = Some((run.id(), mechanism));
        let beside_checkpoints = || self.folder.join(run.id()).join(format!("privacy-site-{}.jsonl", site.0 + 1));
        let path = self.privacy_ledger.clone().unwrap_or_else(beside_checkpoints);
        if self.ledger.is_none() {
            self.ledger = Some(PrivacyLedger::open(&path)?);
        }
        let ledger = self.ledger.as_ref().ok_or(Error::NotBegun)?;
        let taken = ledger.steps_of(&run.id());
        if rounds_done > 0 && taken == 0 {
            return Err(Error::LedgerLost { path });
        }
        // Rounds that are repeated with other images are new steps, and count towards the epsilon of the run, too.
        let mut steps_left = sgd.steps(run.rounds).saturating_sub(taken);
        if let Some(budget) = self.budget {
            let budget = Budget::new(budget.epsilon, budget.delta)?;
            steps_left = steps_left.min(ledger.spent().steps_left(budget, mechanism, sgd.steps(run.rounds))?);
        }
        Ok(Private { sgd, patients, mechanism, steps_left })
    }

    /// The gradient of the real images of one round with differential privacy.
    pub(super) fn private_gradient(
        &self,
        begun: &Begun,
        private: &Private,
        site: SiteId,
        round: u64,
    ) -> Result<(Tensor, PrivateStep), Error> {
        let (config, run, parameters) = (&begun.config, &begun.run, &begun.discriminator.parameters);
        let Private { sgd, patients, mechanism, .. } = private;
        let state = state_of(parameters);
        let mut rng = self.randomness.stream_of_state(run, Role::PrivateSample, site, round, &state);
        let mut sum = parameters.flat().zeros_like();
        for cases in patients.sample(mechanism.sampling_rate(), sgd.images_per_patient, &mut rng) {
            let crops = draw_augmentations_of(run, &self.summary, cases.len() as u32, &mut rng);
            let (images, label_maps) = self.pairs.choose(&cases, &crops, run.crop)?;
            let condition = one_hot_condition(&label_maps.to_device(self.device), config.condition_classes);
            let present = self.pairs.present(&cases).map(|present| present.to_device(self.device));
            let augment = Augment::draw(cases.len() as i64, config.augmentation, &mut rng);
            let (seen, images) = augment.apply(&condition, &shown(&images.to_device(self.device), present.as_ref()));
            let loss = config.gan_loss.on_real(&begun.logits(&seen, &shown(&images, present.as_ref())));
            sum += clipped(&parameters.gradient(&loss), sgd.clipping_norm);
        }
        let key = key_of(&state, &sum, *mechanism, sgd.clipping_norm);
        // Keyed by the sum itself, no two sums have the same noise.
        let mut rng = self.randomness.stream_of_state(run, Role::PrivateNoise, site, round, &key);
        let (rate, noise_multiplier) = (mechanism.sampling_rate(), mechanism.noise_multiplier());
        sum += noise_like(&sum, noise_multiplier * sgd.clipping_norm, &mut rng);
        let expected = rate * patients.count() as f64;
        let step = PrivateStep { run: run.id(), round, state: named(&state), key: named(&key), sampling_rate: rate, noise_multiplier };
        Ok((sum / expected, step))
    }

    /// The steps of a round with differential privacy, of which the first is prepared. Returns the mean loss on
    /// synthetic images in the last one, which depends on real images through the noisy weights only.
    pub(super) fn private_steps_of_round(
        &mut self,
        site: SiteId,
        mut prepared: (Tensor, PrivateStep),
        mut augment: Augment,
        synthetic: &Synthetic<'_>,
    ) -> Result<Tensor, Error> {
        let (steps, round) =
            (self.begun.as_ref().and_then(|b| b.private.as_ref()).map_or(1, |p| p.sgd.discriminator_steps), prepared.1.round);
        for number in 1.. {
            let (gradient, step) = prepared;
            let begun = self.begun.as_mut().ok_or(Error::NotBegun)?;
            let ledger = self.ledger.as_mut().ok_or(Error::NotBegun)?;
            let Some(private) = &mut begun.private else { return Err(Error::NotBegun) };
            if !ledger.contains(&step) {
                // Known only now if the server repeats a round with other images: its first step was recorded before.
                let spent = || Error::BudgetSpent { reason: BUDGET_SPENT.to_owned() };
                private.steps_left = private.steps_left.checked_sub(1).ok_or_else(spent)?;
            }
            let limit = private.sgd.clipping_norm;
            // Before anything depends on it.
            ledger.record(step)?;
            let (seen, images) = augment.apply(synthetic.condition, &shown(synthetic.images, synthetic.visible));
            let (on_synthetic, loss) = begun.synthetic_gradient(&seen, &shown(&images, synthetic.visible), limit);
            begun.learn(&((gradient + on_synthetic) * 0.5));
            if number >= steps {
                return Ok(loss);
            }
            let begun = self.begun.as_ref().ok_or(Error::NotBegun)?;
            let Some(private) = &begun.private else { return Err(Error::NotBegun) };
            prepared = self.private_gradient(begun, private, site, round)?;
            let state = state_of(&begun.discriminator.parameters);
            let mut rng = self.randomness.stream_of_state(&begun.run, Role::Discriminator, site, round, &state);
            augment = Augment::draw(synthetic.images.size()[0], begun.config.augmentation, &mut rng);
        }
        unreachable!("the last step returns")
    }
}

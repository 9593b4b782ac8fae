mod private;

use std::path::{Path, PathBuf};

use asyndgan_models::{Adam, Discriminator, Parameters};
use asyndgan_privacy::SubsampledGaussian;
use asyndgan_protocol::{
    CHECKPOINTS_KEPT, Draw, Losses, Payload, PrivacyBudget, Readiness, RequestedTraining, Role, RoundDraw, RunDescription, SiteId,
    SiteRandomness, SiteSummary, SiteWork,
};
use tch::{Device, Kind, Tensor};

pub use self::private::PrivateSteps;
use self::private::{BUDGET_SPENT, Private, Synthetic};
use crate::{
    Error, GanConfig, Pairs, PrivacyLedger, PrivateStep,
    augment::Augment,
    checkpoints::Checkpoints,
    collapse::CollapseCheck,
    config::learning_rate_scale,
    tensors::{choose, one_hot_condition, to_payload, to_payload_as, to_tensor},
};

/// The work of a site: holds its own cases and its discriminator, which never leave the site.
///
/// Where cases lack channels, the discriminator sees 0 in these channels of real and of synthetic images, before and
/// after augmentation. The feedback for such a channel is exactly 0.
#[derive(Debug)]
pub struct SiteTrainer {
    pairs: Pairs,
    /// The label maps that may leave the site: those of the pairs, or the same number of re-combined ones.
    shared: Tensor,
    summary: SiteSummary,
    feedback_norm_max: f32,
    randomness: SiteRandomness,
    device: Device,
    folder: PathBuf,
    checkpoints: Option<Checkpoints>,
    privacy_ledger: Option<PathBuf>,
    budget: Option<PrivacyBudget>,
    ledger: Option<PrivacyLedger>,
    /// The steps of a run with differential privacy, by its identity: computed once.
    planned: Option<(String, SubsampledGaussian)>,
    begun: Option<Begun>,
}

/// Options of a site that differ from a run in a single process.
#[derive(Debug)]
#[non_exhaustive]
pub struct SiteOptions {
    /// The label maps to send instead of those of the pairs, `[cases, 1, rows, columns]`.
    pub shared: Option<Tensor>,
    /// Largest Euclidean norm of the feedback for one image; larger feedback is scaled down.
    pub feedback_norm_max: f32,
    /// Source of randomness for initial weights, the choice of real cases, augmentation, and the noise of differential
    /// privacy. Privacy needs a secret: with the run's seed, everyone knows the noise.
    pub randomness: SiteRandomness,
    /// The ledger of steps with differential privacy. All runs on the same patients must share one; `None` for one
    /// beside the checkpoints of each run.
    pub privacy_ledger: Option<PathBuf>,
    /// The budget of the site's patients for all runs in the ledger; `None` for no limit.
    pub budget: Option<PrivacyBudget>,
}

impl SiteOptions {
    /// This configuration with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for SiteOptions {
    /// A run in a single process: own masks, feedback of any norm, all randomness from the run's seed.
    fn default() -> Self {
        let (shared, privacy_ledger, budget) = (None, None, None);
        Self { shared, feedback_norm_max: f32::INFINITY, randomness: SiteRandomness::Seed, privacy_ledger, budget }
    }
}

#[derive(Debug)]
struct Begun {
    config: GanConfig,
    run: RunDescription,
    collapse: CollapseCheck,
    discriminator: Discriminator,
    adam: Adam,
    /// In a run with differential privacy.
    private: Option<Private>,
    prepared: Option<Prepared>,
}

/// What the discriminator learns from the real images of a round.
#[derive(Debug)]
enum RealPart {
    /// The images; and the condition and the images as the discriminator sees them.
    Images { images: Tensor, seen: [Tensor; 2] },
    /// The mean of the clipped gradients of the patients, with noise; and the step that the ledger records.
    Gradient { gradient: Tensor, step: PrivateStep },
}

/// What is computed in a round before the synthetic images arrive.
#[derive(Debug)]
struct Prepared {
    round: u64,
    draw: RoundDraw,
    real: RealPart,
    /// The condition of the synthetic images.
    condition: Tensor,
    /// The channels of the synthetic images that the discriminator sees: those of the cases that the conditions belong
    /// to.
    visible: Option<Tensor>,
    /// Augmentations of the synthetic images: before the discriminator learns from them, and before it gives feedback.
    augments: [Augment; 2],
}

impl Begun {
    /// The discriminator's output.
    fn logits(&self, condition: &Tensor, image: &Tensor) -> Tensor {
        self.logits_of_each([[condition, image]]).swap_remove(0)
    }

    /// The discriminator's output for several batches of a condition and an image.
    fn logits_of_each<const N: usize>(&self, batches: [[&Tensor; 2]; N]) -> Vec<Tensor> {
        let batches = batches.map(|both| both.map(|x| self.config.precision.cast(x)));
        let outputs = self.discriminator.forward_each(&batches.each_ref().map(|[condition, image]| [condition, image]));
        outputs.into_iter().map(|output| output.to_kind(Kind::Float)).collect()
    }

    /// A step against a gradient.
    fn learn(&mut self, gradient: &Tensor) {
        let steps = self.private.as_ref().map_or(1, |private| private.sgd.discriminator_steps.into());
        // By what this discriminator has learnt, not by what the server calls the round: else it could be frozen at its
        // first weights.
        let scale = learning_rate_scale((self.adam.steps() / steps).min(self.run.rounds - 1), self.run.rounds);
        self.adam.step(&self.discriminator.parameters, gradient, scale);
        self.discriminator.update_spectral_norm();
    }
}

impl SiteTrainer {
    /// A trainer for the cases of one site, with a separate checkpoint folder per run.
    ///
    /// # Panics
    /// If the shape of the shared label maps differs from that of the pairs.
    pub fn new(pairs: Pairs, options: SiteOptions, folder: &Path, device: Device) -> Self {
        let SiteOptions { shared, feedback_norm_max, randomness, privacy_ledger, budget } = options;
        let shared = shared.unwrap_or_else(|| pairs.label_maps().shallow_clone());
        assert_eq!(shared.size(), pairs.label_maps().size(), "the shared conditions must have the shape of the own ones");
        let conditions_sha256 = to_payload(&shared.squeeze_dim(1)).sha256();
        let summary = SiteSummary { cases: pairs.count() as u32, image_dims: pairs.image_dims(), conditions_sha256 };
        let (folder, checkpoints, ledger, planned, begun) = (folder.into(), None, None, None, None);
        Self {
            pairs,
            shared,
            summary,
            feedback_norm_max,
            randomness,
            device,
            folder,
            checkpoints,
            privacy_ledger,
            budget,
            ledger,
            planned,
            begun,
        }
    }

    /// Counts and shapes of the site's cases.
    pub fn data(&self) -> &SiteSummary {
        &self.summary
    }

    /// Damaged checkpoints, which were renamed.
    pub fn damaged(&self) -> &[PathBuf] {
        self.checkpoints.as_ref().map_or(&[], Checkpoints::damaged)
    }

    /// The weights of the discriminator.
    pub(crate) fn discriminator(&mut self) -> Result<&mut Parameters, Error> {
        Ok(&mut self.begun.as_mut().ok_or(Error::NotBegun)?.discriminator.parameters)
    }

    fn checkpoints_of(&mut self, site: SiteId, run: &RunDescription) -> Result<&mut Checkpoints, Error> {
        // A site may be a round ahead of the server, and so keeps one more.
        let opened = Checkpoints::open(&self.folder.join(run.id()), format!("site-{}", site.0 + 1), CHECKPOINTS_KEPT + 1)?;
        Ok(self.checkpoints.insert(opened))
    }
}

impl SiteWork for SiteTrainer {
    type Error = Error;

    fn summary(&mut self) -> SiteSummary {
        self.summary.clone()
    }

    fn conditions(&mut self) -> Payload {
        to_payload(&self.shared.squeeze_dim(1))
    }

    fn patients(&mut self) -> Vec<u32> {
        self.pairs.patients()
    }

    fn randomness(&self) -> SiteRandomness {
        self.randomness.clone()
    }

    fn inspect(&mut self, _site: SiteId, run: &RunDescription) -> Result<RequestedTraining, Error> {
        let config = GanConfig::from_description(&run.networks)?;
        let unknown = self.pairs.unknown_patients();
        if config.privacy.is_some() && unknown > 0 {
            return Err(Error::UnknownPatients { cases: unknown });
        }
        let mismatch = config.images.as_ref().zip(self.pairs.description()).and_then(|(theirs, own)| theirs.mismatch(own));
        if let Some(mismatch) = mismatch {
            return Err(Error::Images { mismatch });
        }
        config.requested_training(run)
    }

    fn checkpoints(&mut self, site: SiteId, run: &RunDescription) -> Result<Vec<u64>, Error> {
        self.checkpoints_of(site, run)?.sound()
    }

    fn begin(&mut self, site: SiteId, run: &RunDescription, rounds_done: u64) -> Result<(), Error> {
        let config = GanConfig::from_description(&run.networks)?;
        let mut weights = self.randomness.stream(run, Role::DiscriminatorWeights, site, 0);
        let mut discriminator = Discriminator::new(&config.discriminator, self.device, &mut weights);
        let mut adam = Adam::new(config.discriminator_adam, &discriminator.parameters);
        if self.checkpoints.is_none() {
            self.checkpoints_of(site, run)?;
        }
        if let Some(checkpoints) = self.checkpoints.as_ref().filter(|_| rounds_done > 0) {
            let tensors = checkpoints.read(rounds_done)?;
            discriminator.parameters.load(&tensors)?;
            adam.restore("adam", &tensors)?;
        }
        asyndgan_models::set_threads(run.site_threads);
        let private = config.privacy.map(|sgd| self.begin_private(site, run, rounds_done, sgd)).transpose()?;
        let collapse = CollapseCheck::default();
        self.begun = Some(Begun { config, run: run.clone(), discriminator, adam, collapse, private, prepared: None });
        Ok(())
    }

    fn prepare(&mut self, round: u64, draw: &RoundDraw) -> Result<Readiness, Error> {
        let begun = self.begun.as_ref().ok_or(Error::NotBegun)?;
        if begun.prepared.as_ref().is_some_and(|p| p.round == round && p.draw == *draw) {
            return Ok(Readiness::Ready);
        }
        let (config, run) = (&begun.config, &begun.run);
        let Draw { site, cases, augmentations } = &draw.conditions;
        let shared = choose(&self.shared, cases, augmentations, run.crop);
        let planes = |codes: &Tensor| one_hot_condition(&codes.to_device(self.device), config.condition_classes);
        let condition = planes(&shared);
        let present = |cases: &[u32]| self.pairs.present(cases).map(|present| present.to_device(self.device));
        let visible = present(cases);
        let mut rng = self.randomness.stream(run, Role::Discriminator, *site, round);
        let [augment, learning, judging] = [(); 3].map(|()| Augment::draw(cases.len() as i64, config.augmentation, &mut rng));
        let real = if let Some(private) = &begun.private {
            let (gradient, step) = self.private_gradient(begun, private, *site, round)?;
            let is_enough = private.steps_left >= private.sgd.discriminator_steps.into();
            if !is_enough && !self.ledger.as_ref().is_some_and(|ledger| ledger.contains(&step)) {
                return Ok(Readiness::BudgetSpent { reason: BUDGET_SPENT.to_owned() });
            }
            RealPart::Gradient { gradient, step }
        } else {
            let (images, own) = self.pairs.choose(&draw.real.cases, &draw.real.augmentations, run.crop)?;
            let present = present(&draw.real.cases);
            let images = shown(&images.to_device(self.device), present.as_ref());
            let (condition, seen) = augment.apply(&planes(&own), &images);
            let seen = [condition, shown(&seen, present.as_ref())];
            RealPart::Images { images, seen }
        };
        let prepared = Prepared { round, draw: draw.clone(), real, condition, visible, augments: [learning, judging] };
        self.begun.as_mut().ok_or(Error::NotBegun)?.prepared = Some(prepared);
        Ok(Readiness::Ready)
    }

    fn step(&mut self, round: u64, draw: &RoundDraw, synthetic: &Payload) -> Result<(Payload, Losses), Error> {
        if let Readiness::BudgetSpent { reason } = self.prepare(round, draw)? {
            return Err(Error::BudgetSpent { reason });
        }
        let begun = self.begun.as_mut().ok_or(Error::NotBegun)?;
        let Prepared { real, condition, visible, augments: [learning, judging], .. } = begun.prepared.take().ok_or(Error::NotBegun)?;
        let synthetic = to_tensor(synthetic, self.device)?;

        let gan_loss = begun.config.gan_loss;
        let (real, discriminator_loss) = match real {
            RealPart::Images { images, seen: [own, real] } => {
                let (seen, image) = learning.apply(&condition, &shown(&synthetic, visible.as_ref()));
                let logits = begun.logits_of_each([[&own, &real], [&seen, &shown(&image, visible.as_ref())]]);
                let loss = gan_loss.discriminator(&logits[0], &logits[1]);
                begun.learn(&begun.discriminator.parameters.gradient(&loss));
                (Some(images), loss)
            }
            RealPart::Gradient { gradient, step } => {
                let synthetic = Synthetic { condition: &condition, images: &synthetic, visible: visible.as_ref() };
                (None, self.private_steps_of_round(draw.conditions.site, (gradient, step), learning, &synthetic)?)
            }
        };
        let begun = self.begun.as_mut().ok_or(Error::NotBegun)?;

        let synthetic = synthetic.set_requires_grad(true);
        let compared = shown(&synthetic, visible.as_ref());
        let (seen, image) = judging.apply(&condition, &compared);
        let logits = begun.logits(&seen, &shown(&image, visible.as_ref()));
        let Begun { run, collapse, private, .. } = begun;
        // Without real images there is no L1 term.
        let generator_loss = gan_loss.generator(&logits, &compared, real.as_ref().unwrap_or(&compared), run.l1_weight);
        // Only the gradient with respect to the images: none is computed for the weights.
        let feedback = Tensor::run_backward(&[&generator_loss], &[&synthetic], false, false).swap_remove(0);
        let losses = Losses { discriminator: scalar(&discriminator_loss), generator: scalar(&generator_loss) };
        tracing::trace!(round, discriminator = losses.discriminator, generator = losses.generator, "losses, which stay at the site");
        let finite = feedback.isfinite().all().int64_value(&[]) == 1;
        if !(finite && (losses.discriminator + losses.generator).is_finite()) {
            return Err(Error::Diverged { round });
        }
        // With an L1 term the generator still learns from a site whose discriminator has won.
        // With differential privacy there is no loss on real images to see it by.
        let is_judged = run.l1_weight == 0.0 && private.is_none();
        if let Some(rounds) = collapse.add(losses, gan_loss).filter(|_| is_judged) {
            return Err(Error::Collapsed { round, rounds });
        }
        let limit = self.feedback_norm_max;
        let feedback = if limit.is_finite() { scaled_down(&feedback, limit) } else { feedback };
        Ok((to_payload_as(&feedback, run.feedback_dtype), losses))
    }

    fn budget_spent(error: &Error) -> Option<String> {
        matches!(error, Error::BudgetSpent { .. }).then(|| error.to_string())
    }

    fn checkpoint(&mut self, rounds_done: u64) -> Result<(), Error> {
        let (Some(Begun { discriminator, adam, .. }), Some(checkpoints)) = (&self.begun, &self.checkpoints) else {
            return Err(Error::NotBegun);
        };
        let mut tensors = discriminator.parameters.named();
        tensors.extend(adam.state("adam"));
        checkpoints.write(rounds_done, &tensors)
    }
}

/// Images with 0 in the channels that are absent. No gradient passes through these.
fn shown(images: &Tensor, present: Option<&Tensor>) -> Tensor {
    present.map_or_else(|| images.shallow_clone(), |present| images * present)
}

fn scalar(loss: &Tensor) -> f32 {
    loss.double_value(&[]) as f32
}

/// Each image's gradient with a Euclidean norm of at most `limit`.
fn scaled_down(feedback: &Tensor, limit: f32) -> Tensor {
    let batch = feedback.size()[0];
    let norms = feedback.reshape([batch, -1]).square().sum_dim_intlist([1].as_slice(), false, Kind::Float).sqrt();
    let factor = (norms.clamp_min(1e-30).reciprocal() * f64::from(limit)).clamp_max(1.0);
    let mut shape = vec![1; feedback.dim()];
    shape[0] = batch;
    feedback * factor.view(&shape[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_is_scaled_down_however_it_lies_in_memory() {
        asyndgan_models::set_threads(1);
        let plain = Tensor::arange(2 * 3 * 4 * 5, (Kind::Float, Device::Cpu)).view([2, 3, 4, 5]);
        let channels_last = plain.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        let (one, other) = (scaled_down(&plain, 2.0), scaled_down(&channels_last, 2.0));
        assert!(one.allclose(&other, 1e-6, 1e-6, false));
        let norm = other.get(1).norm().double_value(&[]);
        assert!((norm - 2.0).abs() < 1e-5, "{norm}");
    }
}

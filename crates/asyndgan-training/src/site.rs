use std::path::{Path, PathBuf};

use asyndgan_models::{Adam, Discriminator};
use asyndgan_protocol::{
    CHECKPOINTS_KEPT, Draw, Losses, Payload, RequestedTraining, Role, RoundDraw, RunDescription, SiteId, SiteRandomness, SiteSummary,
    SiteWork,
};
use tch::{Device, Kind, Tensor};

use crate::{
    Error, GanConfig, Pairs,
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
    /// Source of randomness for initial weights, the choice of real cases, and augmentation.
    pub randomness: SiteRandomness,
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
        Self { shared: None, feedback_norm_max: f32::INFINITY, randomness: SiteRandomness::Seed }
    }
}

#[derive(Debug)]
struct Begun {
    config: GanConfig,
    run: RunDescription,
    collapse: CollapseCheck,
    discriminator: Discriminator,
    adam: Adam,
    prepared: Option<Prepared>,
}

/// A round's real images, and the discriminator's output for them: computed before the synthetic images arrive.
#[derive(Debug)]
struct Prepared {
    round: u64,
    draw: RoundDraw,
    real: Tensor,
    on_real: Tensor,
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
        let [condition, image] = [condition, image].map(|x| self.config.precision.cast(x));
        self.discriminator.forward(&condition, &image).to_kind(Kind::Float)
    }
}

impl SiteTrainer {
    /// A trainer for the cases of one site, with a separate checkpoint folder per run.
    ///
    /// # Panics
    /// If the shape of the shared label maps differs from that of the pairs.
    pub fn new(pairs: Pairs, options: SiteOptions, folder: &Path, device: Device) -> Self {
        let SiteOptions { shared, feedback_norm_max, randomness } = options;
        let shared = shared.unwrap_or_else(|| pairs.label_maps().shallow_clone());
        assert_eq!(shared.size(), pairs.label_maps().size(), "the shared conditions must have the shape of the own ones");
        let conditions_sha256 = to_payload(&shared.squeeze_dim(1)).sha256();
        let summary = SiteSummary { cases: pairs.count() as u32, image_dims: pairs.image_dims(), conditions_sha256 };
        Self { pairs, shared, summary, feedback_norm_max, randomness, device, folder: folder.into(), checkpoints: None, begun: None }
    }

    /// Counts and shapes of the site's cases.
    pub fn data(&self) -> &SiteSummary {
        &self.summary
    }

    /// Damaged checkpoints, which were renamed.
    pub fn damaged(&self) -> &[PathBuf] {
        self.checkpoints.as_ref().map_or(&[], Checkpoints::damaged)
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
        self.begun = Some(Begun { config, run: run.clone(), discriminator, adam, collapse: CollapseCheck::default(), prepared: None });
        Ok(())
    }

    fn prepare(&mut self, round: u64, draw: &RoundDraw) -> Result<(), Error> {
        let begun = self.begun.as_mut().ok_or(Error::NotBegun)?;
        let (config, run) = (&begun.config, &begun.run);
        let (real, own) = self.pairs.choose(&draw.real.cases, &draw.real.augmentations, run.crop)?;
        let Draw { site, cases, augmentations } = &draw.conditions;
        let shared = choose(&self.shared, cases, augmentations, run.crop);
        let planes = |codes: &Tensor| one_hot_condition(&codes.to_device(self.device), config.condition_classes);
        let (real, own, condition) = (real.to_device(self.device), planes(&own), planes(&shared));
        let present = |cases: &[u32]| self.pairs.present(cases).map(|present| present.to_device(self.device));
        let (present, visible) = (present(&draw.real.cases), present(cases));
        let real = shown(&real, present.as_ref());
        let mut rng = self.randomness.stream(run, Role::Discriminator, *site, round);
        let [augment, learning, judging] = [(); 3].map(|()| Augment::draw(real.size()[0], config.augmentation, &mut rng));
        let (seen, seen_real) = augment.apply(&own, &real);
        let on_real = begun.logits(&seen, &shown(&seen_real, present.as_ref()));
        begun.prepared = Some(Prepared { round, draw: draw.clone(), real, on_real, condition, visible, augments: [learning, judging] });
        Ok(())
    }

    fn step(&mut self, round: u64, draw: &RoundDraw, synthetic: &Payload) -> Result<(Payload, Losses), Error> {
        let ready = self.begun.as_ref().and_then(|b| b.prepared.as_ref()).is_some_and(|p| p.round == round && p.draw == *draw);
        if !ready {
            self.prepare(round, draw)?;
        }
        let begun = self.begun.as_mut().ok_or(Error::NotBegun)?;
        let Prepared { real, on_real, condition, visible, augments: [learning, judging], .. } =
            begun.prepared.take().ok_or(Error::NotBegun)?;
        let synthetic = to_tensor(synthetic, self.device)?;

        let (seen, image) = learning.apply(&condition, &shown(&synthetic, visible.as_ref()));
        let on_synthetic = begun.logits(&seen, &shown(&image, visible.as_ref()));
        let discriminator_loss = begun.config.gan_loss.discriminator(&on_real, &on_synthetic);
        let Begun { discriminator, adam, run, .. } = begun;
        let parameters = &discriminator.parameters;
        // By what this discriminator has learnt, not by what the server calls the round: else it could be frozen at its
        // first weights.
        let scale = learning_rate_scale(adam.steps().min(run.rounds - 1), run.rounds);
        adam.step(parameters, &parameters.gradient(&discriminator_loss), scale);
        discriminator.update_spectral_norm();

        let synthetic = synthetic.set_requires_grad(true);
        let compared = shown(&synthetic, visible.as_ref());
        let (seen, image) = judging.apply(&condition, &compared);
        let logits = begun.logits(&seen, &shown(&image, visible.as_ref()));
        let Begun { config, run, collapse, .. } = begun;
        let generator_loss = config.gan_loss.generator(&logits, &compared, &real, run.l1_weight);
        // Only the gradient with respect to the images: none is computed for the weights.
        let feedback = Tensor::run_backward(&[&generator_loss], &[&synthetic], false, false).swap_remove(0);
        let losses = Losses { discriminator: scalar(&discriminator_loss), generator: scalar(&generator_loss) };
        tracing::trace!(round, discriminator = losses.discriminator, generator = losses.generator, "losses, which stay at the site");
        let finite = feedback.isfinite().all().int64_value(&[]) == 1;
        if !(finite && (losses.discriminator + losses.generator).is_finite()) {
            return Err(Error::Diverged { round });
        }
        // With an L1 term the generator still learns from a site whose discriminator has won.
        if let Some(rounds) = collapse.add(losses, config.gan_loss).filter(|_| run.l1_weight == 0.0) {
            return Err(Error::Collapsed { round, rounds });
        }
        let limit = self.feedback_norm_max;
        let feedback = if limit.is_finite() { scaled_down(&feedback, limit) } else { feedback };
        Ok((to_payload_as(&feedback, run.feedback_dtype), losses))
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

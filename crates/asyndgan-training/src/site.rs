use std::path::Path;

use asyndgan_models::{Adam, Discriminator, loss};
use asyndgan_protocol::{Augmentation, Losses, Payload, Role, RunDescription, SiteId, SiteSummary, SiteWork, stream};
use tch::{Device, Tensor};

use crate::{
    Error, GanConfig, Pairs,
    checkpoints::Checkpoints,
    config::learning_rate_scale,
    tensors::{condition_planes, payload_of, tensor_of},
};

/// A site's work: holds its own cases and its discriminator, neither of which ever leaves.
#[derive(Debug)]
pub struct SiteTrainer {
    config: GanConfig,
    pairs: Pairs,
    device: Device,
    checkpoints: Checkpoints,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    run: RunDescription,
    discriminator: Discriminator,
    adam: Adam,
}

impl SiteTrainer {
    /// A trainer for one site's cases, with checkpoints in a folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(config: GanConfig, pairs: Pairs, site: SiteId, folder: &Path, device: Device) -> Result<Self, Error> {
        Ok(Self { config, pairs, device, checkpoints: Checkpoints::open(folder, format!("site-{}", site.0 + 1))?, begun: None })
    }
}

impl SiteWork for SiteTrainer {
    type Error = Error;

    fn summary(&mut self) -> SiteSummary {
        SiteSummary { cases: self.pairs.count() as u32, image_dims: self.pairs.image_dims(), checkpoints: self.checkpoints.rounds() }
    }

    fn conditions(&mut self) -> Payload {
        payload_of(&self.pairs.codes().squeeze_dim(1))
    }

    fn begin(&mut self, site: SiteId, run: &RunDescription, rounds_done: u64) -> Result<(), Error> {
        let mut weights = stream(run.seed, Role::DiscriminatorWeights, site.0, 0);
        let mut discriminator = Discriminator::new(&self.config.discriminator, self.device, &mut weights);
        let mut adam = Adam::new(self.config.discriminator_adam, &discriminator.parameters);
        if rounds_done > 0 {
            let tensors = self.checkpoints.read(rounds_done)?;
            discriminator.parameters.load(&tensors)?;
            adam.restore("adam", &tensors)?;
        }
        self.begun = Some(Begun { run: run.clone(), discriminator, adam });
        Ok(())
    }

    fn step(&mut self, round: u64, cases: &[u32], augmentations: &[Augmentation], synthetic: &Payload) -> Result<(Payload, Losses), Error> {
        let Begun { run, discriminator, adam } = self.begun.as_mut().ok_or(Error::NotBegun)?;
        let (real, codes) = self.pairs.choose(cases, augmentations, run.crop)?;
        let (real, condition) = (real.to_device(self.device), condition_planes(&codes.to_device(self.device), self.config.codes));
        let synthetic = tensor_of(synthetic, self.device)?;
        let parameters = &discriminator.parameters;

        let (on_real, on_synthetic) = discriminator.forward_both(&condition, &real, &synthetic);
        let discriminator_loss = loss::discriminator(&on_real, &on_synthetic);
        adam.step(parameters, &parameters.gradient(&discriminator_loss), learning_rate_scale(round, run.rounds));

        let synthetic = synthetic.set_requires_grad(true);
        let logits = discriminator.forward(&condition, &synthetic);
        let generator_loss = loss::generator(&logits, &synthetic, &real, run.l1_weight);
        // Only the gradient with respect to the images: none is computed for the weights.
        let feedback = Tensor::run_backward(&[&generator_loss], &[&synthetic], false, false).swap_remove(0);
        let losses = Losses { discriminator: scalar(&discriminator_loss), generator: scalar(&generator_loss) };
        if !(losses.discriminator + losses.generator).is_finite() {
            return Err(Error::Diverged { round });
        }
        Ok((payload_of(&feedback), losses))
    }

    fn checkpoint(&mut self, rounds_done: u64) -> Result<(), Error> {
        let Begun { discriminator, adam, .. } = self.begun.as_ref().ok_or(Error::NotBegun)?;
        let mut tensors = discriminator.parameters.named();
        tensors.extend(adam.state("adam"));
        self.checkpoints.write(rounds_done, &tensors)
    }
}

fn scalar(loss: &Tensor) -> f32 {
    loss.double_value(&[]) as f32
}

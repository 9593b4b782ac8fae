use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use asyndgan_models::{Adam, Generator, GeneratorConfig, Noise, Norm};
use asyndgan_protocol::{CHECKPOINTS_KEPT, Contribution, Draw, Payload, Role, RunDescription, ServerWork, SiteId, SiteSummary, stream};
use tch::{Device, Kind, Tensor};

use crate::{
    Error, GanConfig,
    checkpoints::Checkpoints,
    conditions::Conditions,
    config::learning_rate_scale,
    tensors::{choose, condition_planes, payload_as, tensor_of},
};

/// The server's work: holds the generator and the masks that sites sent, never an image of a patient.
#[derive(Debug)]
pub struct ServerTrainer {
    config: GanConfig,
    run: RunDescription,
    sites: u32,
    device: Device,
    checkpoints: Checkpoints,
    conditions: Conditions,
    generator: Generator,
    adam: Adam,
    /// The next round's conditions, got ready while sites work.
    prepared: Option<(u64, Vec<Draw>, Vec<Tensor>)>,
    /// Synthetic images of a round, with the graph that leads back to the generator.
    synthetic: BTreeMap<SiteId, (u64, Tensor)>,
    /// Losses of every round done, `[sites, 2]` each; not a number where a site did not contribute.
    losses: Vec<Vec<f32>>,
}

impl ServerTrainer {
    /// A trainer for `sites` sites with checkpoints in a folder, which it finds again when it is given the same run.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(config: GanConfig, run: RunDescription, sites: u32, folder: &Path, device: Device) -> Result<Self, Error> {
        let folder = folder.join(run.id());
        let (generator, adam) = Self::first(&config, &run, device);
        let checkpoints = Checkpoints::open(&folder, "server".into(), CHECKPOINTS_KEPT)?;
        let conditions = Conditions::open(&folder, sites, device)?;
        let (prepared, synthetic, losses) = (None, BTreeMap::new(), Vec::new());
        Ok(Self { config, run, sites, device, checkpoints, conditions, generator, adam, prepared, synthetic, losses })
    }

    fn first(config: &GanConfig, run: &RunDescription, device: Device) -> (Generator, Adam) {
        let generator = Generator::new(&config.generator, device, &mut stream(run.seed, Role::GeneratorWeights, 0, 0));
        let adam = Adam::new(config.generator_adam, &generator.parameters);
        (generator, adam)
    }

    /// The generator as it is.
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// Condition codes of every site, in order, `[cases, 1, rows, columns]` each.
    pub fn conditions(&self) -> impl Iterator<Item = (SiteId, &Tensor)> {
        self.conditions.all()
    }

    /// Losses of every round done: of every site in order the discriminator's, then the generator's; not a number where a site
    /// did not contribute.
    pub fn losses(&self) -> &[Vec<f32>] {
        &self.losses
    }

    /// The latest synthetic images, by site, `[batch, channels, rows, columns]`.
    pub fn latest(&self) -> impl Iterator<Item = (SiteId, &Tensor)> {
        self.synthetic.iter().map(|(&site, (_, images))| (site, images))
    }

    /// Checkpoints that were found damaged and set aside.
    pub fn damaged(&self) -> &[PathBuf] {
        self.checkpoints.damaged()
    }

    /// Samples of one image leave each other alone unless batch norm joins them.
    fn one_pass(&self) -> bool {
        !matches!(self.config.generator, GeneratorConfig::ResNet { norm: Norm::Batch, .. })
    }

    fn planes(&self, draws: &[Draw]) -> Result<Vec<Tensor>, Error> {
        let planes = |d: &Draw| {
            let codes = choose(self.conditions.of(d.site)?, &d.cases, &d.augmentations, self.run.crop);
            Ok(condition_planes(&codes, self.config.codes))
        };
        draws.iter().map(planes).collect()
    }

    fn forward(&self, round: u64, draws: &[Draw], planes: &[Tensor]) -> Vec<Tensor> {
        let noise = |(draw, planes): (&Draw, &Tensor)| (planes.size()[0], stream(self.run.seed, Role::Dropout, draw.site.0, round));
        let parts = draws.iter().zip(planes).map(noise);
        if self.one_pass() {
            let all = self.generator.forward(&Tensor::cat(planes, 0), &mut Noise::new(parts.collect()));
            let sizes: Vec<i64> = planes.iter().map(|p| p.size()[0]).collect();
            return all.split_with_sizes(&sizes, 0);
        }
        planes.iter().zip(parts).map(|(p, part)| self.generator.forward(p, &mut Noise::new(vec![part]))).collect()
    }

    /// The images that were answered, with their graph; of an earlier round made again, by the generator as it is now.
    fn answered(&self, contribution: &Contribution) -> Result<Tensor, Error> {
        let Contribution { round, draw, .. } = contribution;
        match self.synthetic.get(&draw.site) {
            Some((made, images)) if made == round => Ok(images.shallow_clone()),
            _ => {
                let draws = std::slice::from_ref(draw);
                Ok(self.forward(*round, draws, &self.planes(draws)?).swap_remove(0))
            }
        }
    }
}

impl ServerWork for ServerTrainer {
    type Error = Error;

    fn checkpoints(&mut self) -> Result<Vec<u64>, Error> {
        self.checkpoints.sound()
    }

    fn known(&mut self) -> Result<Vec<(SiteId, SiteSummary)>, Error> {
        Ok(self.conditions.known())
    }

    fn keep(&mut self, site: SiteId, summary: &SiteSummary, conditions: Payload) -> Result<(), Error> {
        self.conditions.keep(site, summary, &conditions)
    }

    fn begin(&mut self, rounds_done: u64) -> Result<(), Error> {
        (self.generator, self.adam) = Self::first(&self.config, &self.run, self.device);
        self.synthetic.clear();
        self.prepared = None;
        self.losses.clear();
        if rounds_done > 0 {
            let tensors = self.checkpoints.read(rounds_done)?;
            self.generator.parameters.load(&tensors)?;
            self.adam.restore("adam", &tensors)?;
            let width = 2 * self.sites as usize;
            let expected = vec![rounds_done as i64, width as i64];
            let losses = tensors.get("losses").filter(|l| l.size() == expected);
            let losses = losses.ok_or_else(|| asyndgan_models::Error::Mismatch {
                name: "losses".into(),
                expected,
                found: tensors.get("losses").map(Tensor::size),
            })?;
            let mut values = vec![0.0; losses.numel()];
            losses.copy_data(&mut values, losses.numel());
            self.losses = values.chunks_exact(width).map(<[f32]>::to_vec).collect();
        }
        Ok(())
    }

    fn prepare(&mut self, round: u64, draws: &[Draw]) -> Result<(), Error> {
        self.prepared = Some((round, draws.into(), self.planes(draws)?));
        Ok(())
    }

    fn synthesize(&mut self, round: u64, draws: &[Draw]) -> Result<Vec<Payload>, Error> {
        let planes = match self.prepared.take() {
            Some((prepared, of, planes)) if prepared == round && of == draws => planes,
            _ => self.planes(draws)?,
        };
        let synthetic = self.forward(round, draws, &planes);
        let payloads = synthetic.iter().map(|s| payload_as(s, self.run.synthetic_dtype)).collect();
        self.synthetic.extend(draws.iter().zip(synthetic).map(|(draw, images)| (draw.site, (round, images))));
        Ok(payloads)
    }

    fn update(&mut self, round: u64, contributions: &[Contribution]) -> Result<(), Error> {
        // The chain rule: the gradient of sum_j pi_j loss_j is the feedback, weighted and pushed through the generator.
        let mut pushed = Tensor::zeros([], (Kind::Float, self.device));
        let mut losses = vec![f32::NAN; 2 * self.sites as usize];
        for contribution in contributions {
            let feedback = tensor_of(&contribution.feedback, self.device)?;
            pushed += (self.answered(contribution)? * feedback).sum(Kind::Float) * contribution.weight;
            let at = 2 * contribution.draw.site.0 as usize;
            losses[at..at + 2].copy_from_slice(&[contribution.losses.discriminator, contribution.losses.generator]);
        }
        let gradient = self.generator.parameters.gradient(&pushed);
        if !gradient.sum(Kind::Float).double_value(&[]).is_finite() {
            return Err(Error::Diverged { round });
        }
        self.adam.step(&self.generator.parameters, &gradient, learning_rate_scale(round, self.run.rounds));
        for (made, images) in self.synthetic.values_mut() {
            // The graph has served; the images stay for people to look at.
            (*made, *images) = (u64::MAX, images.detach());
        }
        self.losses.push(losses);
        Ok(())
    }

    fn checkpoint(&mut self, rounds_done: u64) -> Result<(), Error> {
        let mut tensors: BTreeMap<String, Tensor> = self.generator.parameters.named();
        tensors.extend(self.adam.state("adam"));
        let flat: Vec<f32> = self.losses.concat();
        tensors.insert("losses".into(), Tensor::from_slice(&flat).view([self.losses.len() as i64, -1]));
        self.checkpoints.write(rounds_done, &tensors)
    }
}

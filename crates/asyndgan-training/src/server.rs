use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use asyndgan_models::{Adam, Generator, GeneratorConfig, Norm, ResNetConfig, loss::Game};
use asyndgan_protocol::{CHECKPOINTS_KEPT, Contribution, Draw, Payload, Role, RunDescription, ServerWork, SiteId, SiteSummary, stream};
use tch::{Device, Kind, Tensor};

use crate::{
    Error, GanConfig,
    checkpoints::Checkpoints,
    conditions::Conditions,
    config::learning_rate_scale,
    lanes::{Lanes, Part},
    tensors::{choose, condition_planes, payload_as, tensor_of},
};

/// A discriminator whose loss is below this for so many rounds on end has won.
const COLLAPSED_LOSS: f32 = 1e-3;
const COLLAPSED_ROUNDS: usize = 300;

/// The server's work: holds the generator and the masks that sites sent, never an image of a patient.
#[derive(Debug)]
pub struct ServerTrainer {
    config: GanConfig,
    run: RunDescription,
    sites: u32,
    device: Device,
    checkpoints: Checkpoints,
    conditions: Conditions,
    lanes: Lanes,
    generator: Generator,
    adam: Adam,
    /// The generator's weights, averaged over the rounds.
    average: Tensor,
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
    /// On a CPU sites' images are shared out to `threads` threads, whose number is part of a run's configuration: sums depend on it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Threads`].
    pub fn new(config: GanConfig, run: RunDescription, sites: u32, threads: u32, folder: &Path, device: Device) -> Result<Self, Error> {
        // Batch norm follows its running statistics site by site.
        let apart = device == Device::Cpu && joined(&config);
        let lanes = Lanes::new(if apart { sites } else { 1 }, threads)?;
        let folder = folder.join(run.id());
        let (generator, adam, average) = Self::first(&config, &run, device);
        let checkpoints = Checkpoints::open(&folder, "server".into(), CHECKPOINTS_KEPT)?;
        let conditions = Conditions::open(&folder, sites, device)?;
        let (prepared, synthetic, losses) = (None, BTreeMap::new(), Vec::new());
        Ok(Self { config, run, sites, device, checkpoints, conditions, lanes, generator, adam, average, prepared, synthetic, losses })
    }

    fn first(config: &GanConfig, run: &RunDescription, device: Device) -> (Generator, Adam, Tensor) {
        let generator = Generator::new(&config.generator, device, &mut stream(run.seed, Role::GeneratorWeights, 0, 0));
        let adam = Adam::new(config.generator_adam, &generator.parameters);
        let average = generator.parameters.flat().copy();
        (generator, adam, average)
    }

    /// The generator that a run ends with: the average of its weights over the last rounds, or as they are.
    ///
    /// # Panics
    /// Never: the average is of this network.
    ///
    /// # Reference
    /// Yazıcı et al., ICLR 2019.
    pub fn generator(&self) -> Generator {
        let (mut averaged, ..) = Self::first(&self.config, &self.run, self.device);
        let mut tensors = self.generator.parameters.named();
        tensors.extend(self.generator.parameters.named_in(&self.average));
        averaged.parameters.load(&tensors).expect("the same network");
        averaged
    }

    /// Sites of the run.
    pub fn sites(&self) -> u32 {
        self.sites
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

    fn planes(&self, draws: &[Draw]) -> Result<Vec<Tensor>, Error> {
        let planes = |d: &Draw| {
            let codes = choose(self.conditions.of(d.site)?, &d.cases, &d.augmentations, self.run.crop);
            Ok(condition_planes(&codes, self.config.codes))
        };
        draws.iter().map(planes).collect()
    }

    fn forward(&self, round: u64, draws: &[Draw], planes: &[Tensor]) -> Vec<Tensor> {
        let part = |(draw, planes): (&Draw, &Tensor)| Part {
            planes: self.config.precision.of(planes),
            stream: stream(self.run.seed, Role::Dropout, draw.site.0, round),
            site: self.config.site_code.then_some(draw.site.0),
        };
        let parts = draws.iter().zip(planes).map(|both| (both.0.site, part(both)));
        self.lanes.forward(&self.generator, self.lanes.share_out(self.sites, parts), joined(&self.config))
    }

    /// A discriminator whose loss stays at nothing has stopped to teach; with an L1 term the generator still learns from that.
    fn check_discriminators(&self, round: u64) -> Result<(), Error> {
        match collapsed(&self.losses, self.config.game).filter(|_| self.run.l1_weight == 0.0) {
            Some(site) => Err(Error::Collapsed { site, round, rounds: COLLAPSED_ROUNDS }),
            None => Ok(()),
        }
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

/// Whether several sites' samples may go through the generator together: they leave each other alone unless batch norm joins them.
fn joined(config: &GanConfig) -> bool {
    !matches!(config.generator, GeneratorConfig::ResNet(ResNetConfig { norm: Norm::Batch, .. }))
}

/// The first site whose discriminator has won for long. No loss of a discriminator is below zero, and what is none does not count; one that
/// segments never loses so little, for boundaries stay unsure: the generator's loss says how sure it is of synthetic pixels.
fn collapsed(losses: &[Vec<f32>], game: Game) -> Option<SiteId> {
    let last = &losses[losses.len().checked_sub(COLLAPSED_ROUNDS)?..];
    let sites = last.first()?.len() / 2;
    let won = |row: &[f32], site: usize| match game {
        Game::Segmentation => row[2 * site + 1] > -COLLAPSED_LOSS.ln(),
        _ => (0.0..COLLAPSED_LOSS).contains(&row[2 * site]),
    };
    (0..sites).find(|&site| last.iter().all(|row| won(row, site))).map(|site| SiteId(site as u32))
}

fn mismatch(name: &str, expected: Vec<i64>, tensors: &BTreeMap<String, Tensor>) -> asyndgan_models::Error {
    asyndgan_models::Error::Mismatch { name: name.into(), expected, found: tensors.get(name).map(Tensor::size) }
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
        (self.generator, self.adam, self.average) = Self::first(&self.config, &self.run, self.device);
        self.synthetic.clear();
        self.prepared = None;
        self.losses.clear();
        if rounds_done > 0 {
            let tensors = self.checkpoints.read(rounds_done)?;
            self.generator.parameters.load(&tensors)?;
            self.adam.restore("adam", &tensors)?;
            let average = tensors.get("average").filter(|a| a.size() == self.average.size());
            self.average = average.ok_or_else(|| mismatch("average", self.average.size(), &tensors))?.to_device(self.device);
            let width = 2 * self.sites as usize;
            let expected = vec![rounds_done as i64, width as i64];
            let losses = tensors.get("losses").filter(|l| l.size() == expected);
            let losses = losses.ok_or_else(|| mismatch("losses", expected, &tensors))?;
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
        let mut worths = Vec::new();
        let mut losses = vec![f32::NAN; 2 * self.sites as usize];
        for contribution in contributions {
            let feedback = tensor_of(&contribution.feedback, self.device)?;
            worths.push((contribution.draw.site, (self.answered(contribution)?, feedback * contribution.weight)));
            let at = 2 * contribution.draw.site.0 as usize;
            losses[at..at + 2].copy_from_slice(&[contribution.losses.discriminator, contribution.losses.generator]);
        }
        let gradient = self.lanes.gradient(&self.generator, self.lanes.share_out(self.sites, worths));
        if !gradient.sum(Kind::Float).double_value(&[]).is_finite() {
            return Err(Error::Diverged { round });
        }
        self.adam.step(&self.generator.parameters, &gradient, learning_rate_scale(round, self.run.rounds));
        for (made, images) in self.synthetic.values_mut() {
            // The graph has served; the images stay for people to look at.
            (*made, *images) = (u64::MAX, images.detach());
        }
        // The first rounds are left behind sooner than the decay says.
        let decay = self.config.average_decay.min((1.0 + round as f64) / (10.0 + round as f64));
        let _ = tch::no_grad(|| self.average.lerp_(self.generator.parameters.flat(), 1.0 - decay));
        self.losses.push(losses);
        self.check_discriminators(round)
    }

    fn checkpoint(&mut self, rounds_done: u64) -> Result<(), Error> {
        let mut tensors: BTreeMap<String, Tensor> = self.generator.parameters.named();
        tensors.extend(self.adam.state("adam"));
        tensors.insert("average".into(), self.average.shallow_clone());
        let flat: Vec<f32> = self.losses.concat();
        tensors.insert("losses".into(), Tensor::from_slice(&flat).view([self.losses.len() as i64, -1]));
        self.checkpoints.write(rounds_done, &tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discriminator_has_collapsed_when_it_has_lost_nothing_for_long() {
        let row = |first: f32, second: f32| vec![first, 1.0, second, 1.0];
        let mut losses = vec![row(0.7, 0.6); 50];
        losses.extend(vec![row(0.5, 1e-5); COLLAPSED_ROUNDS - 1]);
        let found = |losses: &[Vec<f32>]| collapsed(losses, Game::CrossEntropy);
        assert_eq!(found(&losses), None);
        losses.push(row(0.5, 0.0));
        assert_eq!(found(&losses), Some(SiteId(1)));
        // A round that the site was not in, or a loss that cannot be, says nothing.
        for odd in [f32::NAN, -1.0] {
            losses.push(row(0.5, odd));
            assert_eq!(found(&losses), None);
            losses.pop();
        }
    }

    #[test]
    fn a_discriminator_that_segments_has_won_when_the_generators_loss_is_high_for_long() {
        let mut losses = vec![vec![0.6, 0.1, 0.6, 7.0]; COLLAPSED_ROUNDS];
        assert_eq!(collapsed(&losses, Game::Segmentation), Some(SiteId(1)));
        assert_eq!(collapsed(&losses, Game::CrossEntropy), None);
        losses.push(vec![0.6, 0.1, 0.6, 6.0]);
        assert_eq!(collapsed(&losses, Game::Segmentation), None);
    }
}

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use asyndgan_files::{Access, write};
use asyndgan_models::{Adam, Generator, GeneratorConfig, Norm, Parameters, ResNetConfig};
use asyndgan_protocol::{
    CHECKPOINTS_KEPT, Contribution, Draw, FEEDBACK_ROUNDS_KEPT, Payload, Role, RunDescription, ServerWork, SiteId, SiteSummary, stream,
};
use tch::{Device, Kind, Tensor};

use crate::{
    Error, GanConfig,
    answers::Answers,
    checkpoints::Checkpoints,
    conditions::Conditions,
    config::learning_rate_scale,
    lanes::{Lanes, Part},
    tensors::{choose, one_hot_condition, to_payload_as, to_tensor},
};

/// Values of a site in a round: the discriminator's loss, the generator's, and the norm of the feedback.
const VALUES: usize = 3;
/// The server's work: holds the generator and the masks that sites sent, never an image of a patient.
#[derive(Debug)]
pub struct ServerTrainer {
    config: GanConfig,
    run: RunDescription,
    sites: u32,
    device: Device,
    checkpoints: Checkpoints,
    /// The file of sites that have left in order.
    retired: PathBuf,
    conditions: Conditions,
    lanes: Lanes,
    generator: Generator,
    adam: Adam,
    /// Exponential moving average of the generator's weights.
    average: Tensor,
    /// The next round's conditions, prepared while sites work.
    prepared: Option<(u64, Vec<Draw>, Vec<Tensor>)>,
    /// Synthetic images of a round, with the graph that leads back to the generator.
    synthetic: BTreeMap<SiteId, (u64, Tensor)>,
    /// The answers of the sites in every completed round, `[sites, 3]` each; NaN if a site did not contribute, or does
    /// not send losses.
    answers: Answers,
}

impl ServerTrainer {
    /// A trainer for `sites` sites, with checkpoints in a folder. With the same run, it finds its checkpoints again.
    ///
    /// On a CPU, the images of the sites are distributed over `threads` threads. Their number is part of a run's
    /// configuration, because sums depend on it.
    ///
    /// # Errors
    /// [`Error::Networks`] if a site would refuse the networks, [`Error::Io`], [`Error::Threads`].
    pub fn new(config: GanConfig, run: RunDescription, sites: u32, threads: u32, folder: &Path, device: Device) -> Result<Self, Error> {
        GanConfig::from_description(&config.description())?.requested_training(&run)?;
        // Batch norm follows its running statistics site by site.
        let apart = device == Device::Cpu && joined(&config);
        let lanes = Lanes::new(if apart { sites } else { 1 }, threads)?;
        check_no_other_run(folder, &run.id())?;
        let folder = folder.join(run.id());
        let (generator, adam, average) = Self::first(&config, &run, device);
        let checkpoints = Checkpoints::open(&folder, "server".into(), CHECKPOINTS_KEPT)?;
        let conditions = Conditions::open(&folder, sites)?;
        let answers = Answers::open(&folder.join("answers.f32"), VALUES * sites as usize)?;
        let (retired, prepared, synthetic) = (folder.join("retired.json"), None, BTreeMap::new());
        Ok(Self {
            config,
            run,
            sites,
            device,
            checkpoints,
            retired,
            conditions,
            lanes,
            generator,
            adam,
            average,
            prepared,
            synthetic,
            answers,
        })
    }

    fn first(config: &GanConfig, run: &RunDescription, device: Device) -> (Generator, Adam, Tensor) {
        let generator = Generator::new(&config.generator, device, &mut stream(run.seed, Role::GeneratorWeights, 0, 0));
        let adam = Adam::new(config.generator_adam, &generator.parameters);
        let average = generator.parameters.flat().copy();
        (generator, adam, average)
    }

    /// Removes what is stored about a site: its masks, and that it has left the run. Then another site can take its
    /// place, or the same one with other data.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn forget(&mut self, site: SiteId) -> Result<(), Error> {
        self.conditions.remove(site)?;
        let mut retired = self.retired()?;
        retired.retain(|(left, _)| *left != site);
        self.write_retired(&retired)
    }

    fn write_retired(&self, retired: &[(SiteId, u64)]) -> Result<(), Error> {
        let io = |source| Error::Io { path: self.retired.clone(), source };
        let bytes = serde_json::to_vec(retired).map_err(|error| io(error.into()))?;
        write(&self.retired, Access::Private, &bytes).map_err(io)
    }

    /// The final generator of a run: with the average of its weights over the last rounds, or with its current weights.
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

    /// Gives all trainers the weighted sum of their generators.
    pub(crate) fn average(trainers: &mut [Self], weights: &[f64]) -> Result<(), Error> {
        let each: Vec<_> = trainers.iter().map(|trainer| &trainer.generator.parameters).zip(weights.iter().copied()).collect();
        let sum = Parameters::weighted_sum(&each)?;
        let average: Tensor = trainers.iter().zip(weights).map(|(trainer, &weight)| &trainer.average * weight).sum();
        for trainer in trainers {
            trainer.generator.parameters.load(&sum)?;
            trainer.average.copy_(&average);
        }
        Ok(())
    }

    /// Number of sites of the run.
    pub fn sites(&self) -> u32 {
        self.sites
    }

    /// Label maps of the conditions of every site, in order, `[cases, 1, rows, columns]` each.
    pub fn conditions(&self) -> impl Iterator<Item = (SiteId, &Tensor)> {
        self.conditions.all()
    }

    /// The answers of the sites in every completed round, read from disk: for each site in order, the discriminator's
    /// loss, the generator's loss, and the norm of the feedback as it was used; NaN if a site did not contribute or
    /// does not send losses.
    ///
    /// # Errors
    /// [`Error::Io`], also for each round.
    pub fn answers(&self) -> Result<impl Iterator<Item = Result<Vec<f32>, Error>> + use<>, Error> {
        self.answers.all()
    }

    /// The answers in the last round that is completed, if there is one.
    pub fn last_answers(&self) -> Option<&[f32]> {
        self.answers.last().back().map(Vec::as_slice)
    }

    /// The latest synthetic images, by site, `[batch, channels, rows, columns]`.
    pub fn latest(&self) -> impl Iterator<Item = (SiteId, &Tensor)> {
        self.synthetic.iter().map(|(&site, (_, images))| (site, images))
    }

    /// Damaged checkpoints, which were renamed.
    pub fn damaged(&self) -> &[PathBuf] {
        self.checkpoints.damaged()
    }

    fn planes(&self, draws: &[Draw]) -> Result<Vec<Tensor>, Error> {
        let planes = |d: &Draw| {
            let codes = choose(self.conditions.label_maps(d.site)?, &d.cases, &d.augmentations, self.run.crop);
            Ok(one_hot_condition(&codes.to_device(self.device), self.config.condition_classes))
        };
        draws.iter().map(planes).collect()
    }

    fn forward(&self, round: u64, draws: &[Draw], planes: &[Tensor]) -> Vec<Tensor> {
        let part = |(draw, planes): (&Draw, &Tensor)| Part {
            planes: self.config.precision.cast(planes),
            stream: stream(self.run.seed, Role::Dropout, draw.site.0, round),
            site: self.config.site_code.then_some(draw.site.0),
        };
        let parts = draws.iter().zip(planes).map(|both| (both.0.site, part(both)));
        self.lanes.forward(&self.generator, self.lanes.share_out(self.sites, parts), joined(&self.config))
    }

    /// The images that a contribution is about, with their graph; those of an earlier round are generated again by the
    /// current generator.
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

/// Checkpoints of another run are in the folder if the run was begun by another version, or with other settings. It
/// would begin again.
fn check_no_other_run(folder: &Path, id: &str) -> Result<(), Error> {
    let io = |source| Error::Io { path: folder.into(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(io)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    for path in entries.iter().map(fs::DirEntry::path).filter(|path| path.is_dir() && !path.ends_with(id)) {
        if Checkpoints::exist_in(&path, "server")? {
            return Err(Error::OtherRun { path });
        }
    }
    Ok(())
}

/// Whether several sites' samples may go through the generator together: they do not affect each other
/// except under batch norm.
fn joined(config: &GanConfig) -> bool {
    !matches!(config.generator, GeneratorConfig::ResNet(ResNetConfig { norm: Norm::Batch, .. }))
}

fn mismatch(name: &str, expected: Vec<i64>, tensors: &BTreeMap<String, Tensor>) -> asyndgan_models::Error {
    asyndgan_models::Error::Mismatch { name: name.into(), expected, found: tensors.get(name).map(Tensor::size) }
}

impl ServerWork for ServerTrainer {
    type Error = Error;

    fn checkpoints(&mut self) -> Result<Vec<u64>, Error> {
        self.checkpoints.sound()
    }

    fn stored_conditions(&mut self) -> Result<Vec<(SiteId, SiteSummary)>, Error> {
        Ok(self.conditions.stored_conditions())
    }

    fn retired(&mut self) -> Result<Vec<(SiteId, u64)>, Error> {
        let io = |source| Error::Io { path: self.retired.clone(), source };
        match fs::read(&self.retired) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| io(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(io(error)),
        }
    }

    fn retire(&mut self, site: SiteId, round: u64) -> Result<(), Error> {
        let mut all = self.retired()?;
        all.push((site, round));
        self.write_retired(&all)
    }

    fn store_conditions(&mut self, site: SiteId, summary: &SiteSummary, conditions: Payload) -> Result<Option<String>, Error> {
        self.conditions.store_conditions(site, summary, &conditions)
    }

    fn begin(&mut self, rounds_done: u64) -> Result<Vec<Vec<f32>>, Error> {
        (self.generator, self.adam, self.average) = Self::first(&self.config, &self.run, self.device);
        self.synthetic.clear();
        self.prepared = None;
        tracing::debug!(rounds_done, "server trainer begins");
        if rounds_done > 0 {
            let tensors = self.checkpoints.read(rounds_done)?;
            self.generator.parameters.load(&tensors)?;
            self.adam.restore("adam", &tensors)?;
            let average = tensors.get("average").filter(|a| a.size() == self.average.size());
            self.average = average.ok_or_else(|| mismatch("average", self.average.size(), &tensors))?.to_device(self.device);
            let width = VALUES * self.sites as usize;
            let expected = vec![rounds_done.min(FEEDBACK_ROUNDS_KEPT as u64) as i64, width as i64];
            let answers = tensors.get("answers").filter(|a| a.size() == expected);
            let answers = answers.ok_or_else(|| mismatch("answers", expected, &tensors))?;
            let mut values = vec![0.0; answers.numel()];
            answers.copy_data(&mut values, answers.numel());
            self.answers.resume(rounds_done, values.chunks_exact(width).map(<[f32]>::to_vec).collect())?;
        } else {
            self.answers.resume(0, Vec::new())?;
        }
        let norms = |row: &Vec<f32>| row.iter().skip(VALUES - 1).step_by(VALUES).copied().collect();
        Ok(self.answers.last().iter().map(norms).collect())
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
        let payloads = synthetic.iter().map(|s| to_payload_as(s, self.run.synthetic_dtype)).collect();
        self.synthetic.extend(draws.iter().zip(synthetic).map(|(draw, images)| (draw.site, (round, images))));
        Ok(payloads)
    }

    fn update(&mut self, round: u64, contributions: &[Contribution]) -> Result<(), Error> {
        // The chain rule: the gradient of sum_j pi_j loss_j is the feedback, weighted and pushed through the generator.
        let mut worths = Vec::new();
        let mut answers = vec![f32::NAN; VALUES * self.sites as usize];
        for contribution in contributions {
            let feedback = to_tensor(&contribution.feedback, self.device)?;
            worths.push((contribution.draw.site, (self.answered(contribution)?, feedback * (contribution.weight * contribution.scale))));
            let [discriminator, generator] = contribution.losses.map_or([f32::NAN; 2], |l| [l.discriminator, l.generator]);
            let at = VALUES * contribution.draw.site.0 as usize;
            answers[at..at + VALUES].copy_from_slice(&[discriminator, generator, (contribution.norm * contribution.scale) as f32]);
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
        self.answers.push(answers)
    }

    fn checkpoint(&mut self, rounds_done: u64) -> Result<(), Error> {
        let mut tensors: BTreeMap<String, Tensor> = self.generator.parameters.named();
        tensors.extend(self.adam.state("adam"));
        tensors.insert("average".into(), self.average.shallow_clone());
        // The file before the checkpoint that needs it.
        self.answers.sync()?;
        let last = self.answers.last();
        let flat: Vec<f32> = last.iter().flatten().copied().collect();
        tensors.insert("answers".into(), Tensor::from_slice(&flat).view([last.len() as i64, VALUES as i64 * i64::from(self.sites)]));
        self.checkpoints.write(rounds_done, &tensors)
    }
}

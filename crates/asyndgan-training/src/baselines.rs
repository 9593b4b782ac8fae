//! Distributed GANs of the literature, to compare AsynDGAN with: the same networks, losses, augmentation and rounds, on
//! the data of the same sites, in one process.

use std::{
    collections::BTreeMap,
    num::NonZeroU64,
    path::{Path, PathBuf},
    thread,
};

use asyndgan_models::{Parameters, set_threads};
use asyndgan_protocol::{Contribution, Draw, Payload, RunDescription, ServerWork as _, SiteId, SiteSummary, SiteWork as _};
use tch::{Device, Tensor};

use crate::{Error, GanConfig, Pairs, ServerTrainer, SiteOptions, SiteTrainer};

/// A method to train a GAN on the data of several sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// Every site trains a generator and a discriminator. The weights of all sites are averaged after every
    /// `local_rounds` rounds, with the weights of the run.
    ///
    /// # Reference
    /// Rasouli et al., FedGAN, arXiv 2006.07228.
    FedGan {
        /// Rounds between two averages.
        local_rounds: NonZeroU64,
    },
    /// One generator, as in `AsynDGAN`. After every `exchange_every` rounds each site passes the weights of its
    /// discriminator to the next site; the moments of the optimiser stay.
    ///
    /// # Reference
    /// Hardy et al., MD-GAN, IPDPS 2019, with sites in a ring instead of a random order, one batch of synthetic images
    /// for both networks, and feedback with the weights of the run.
    MdGan {
        /// Rounds between two exchanges.
        exchange_every: NonZeroU64,
    },
}

impl Baseline {
    /// The folder of its checkpoints: another method, or another interval, does not resume from them.
    fn folder_name(self) -> String {
        match self {
            Self::FedGan { local_rounds } => format!("fed-gan-{local_rounds}"),
            Self::MdGan { exchange_every } => format!("md-gan-{exchange_every}"),
        }
    }
}

/// What one site sent and received, by kind: messages and their bytes.
pub type SiteBytes = BTreeMap<&'static str, (u64, u64)>;

/// The result of a baseline.
#[derive(Debug)]
#[non_exhaustive]
pub struct BaselineResult {
    /// The trainer of the generator. That of [`Baseline::FedGan`] has the averaged one.
    pub server: ServerTrainer,
    /// What each site sent and received since the start or the last interruption.
    pub bytes: Vec<SiteBytes>,
}

/// Training of a baseline with all sites in one process, without differential privacy.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BaselineJob {
    /// The method.
    pub baseline: Baseline,
    /// The networks.
    pub networks: GanConfig,
    /// The run; its field `networks` must be the description of `networks`.
    pub run: RunDescription,
    /// Threads over which a server with all sites distributes them.
    pub threads: u32,
    /// Folder of the checkpoints. Training resumes from the latest one of the same method.
    pub checkpoints: PathBuf,
    /// Where networks compute.
    pub device: Device,
}

impl BaselineJob {
    /// Training on the CPU with one server thread.
    pub fn new(baseline: Baseline, networks: GanConfig, run: RunDescription, checkpoints: impl Into<PathBuf>) -> Self {
        Self { baseline, networks, run, threads: 1, checkpoints: checkpoints.into(), device: Device::Cpu }
    }

    /// This job with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Trains with the images and masks of every site. `progress` receives the number of rounds done, first when
    /// training begins.
    ///
    /// # Errors
    /// An error of a trainer; [`Error::NoCases`] without sites; [`Error::Networks`] with differential privacy.
    pub fn train(&self, sites: Vec<Pairs>, progress: impl FnMut(u64)) -> Result<BaselineResult, Error> {
        train(self, sites, progress)
    }
}

fn train(job: &BaselineJob, sites: Vec<Pairs>, mut progress: impl FnMut(u64)) -> Result<BaselineResult, Error> {
    let BaselineJob { baseline, networks: config, run, device, .. } = job;
    let (baseline, device) = (*baseline, *device);
    if config.privacy.is_some() {
        return Err(Error::Networks { fact: "a baseline trains without differential privacy".into() });
    }
    let count = sites.len() as u32;
    if count == 0 {
        return Err(Error::NoCases);
    }
    let folder = &job.checkpoints.join(baseline.folder_name());
    let mut sites: Vec<Member> = (0..).map(SiteId).zip(sites).map(|(id, pairs)| Member::new(id, pairs, folder, device)).collect();
    // One generator at the server, or one at each site.
    let servers = if matches!(baseline, Baseline::FedGan { .. }) { count } else { 1 };
    let threads = if matches!(baseline, Baseline::FedGan { .. }) { run.site_threads } else { job.threads };
    let place = |k: u32| folder.join(format!("generator-{}", k + 1));
    let server = |k| ServerTrainer::new(config.clone(), run.clone(), count, threads, &place(k), device);
    let mut servers = (0..servers).map(server).collect::<Result<Vec<_>, _>>()?;
    for (k, server) in servers.iter_mut().enumerate() {
        // The first one makes the synthetic images in the end.
        for site in sites.iter_mut().filter(|site| k == 0 || k == site.id.0 as usize) {
            server.store_conditions(site.id, &site.summary, site.trainer.conditions())?;
        }
    }
    let begun = latest_of_all(&mut servers, &mut sites, run)?;
    for site in &mut sites {
        site.trainer.begin(site.id, run, begun)?;
        let bytes = site.trainer.conditions().compressed().bytes.len() as u64;
        site.count("conditions", 1, bytes);
    }
    for server in &mut servers {
        server.begin(begun)?;
    }
    if begun == 0 {
        // Averages need networks that begin with the same weights.
        let first = sites[0].trainer.discriminator()?.named();
        for site in sites.iter_mut().filter(|_| matches!(baseline, Baseline::FedGan { .. })) {
            site.trainer.discriminator()?.load(&first)?;
        }
    }
    progress(begun);
    for round in begun..run.rounds {
        let done = round + 1;
        match baseline {
            Baseline::FedGan { local_rounds } => {
                local_round(&mut servers, &mut sites, run, round)?;
                if done.is_multiple_of(local_rounds.get()) || done == run.rounds {
                    average(&mut servers, &mut sites, run)?;
                }
            }
            Baseline::MdGan { exchange_every } => {
                central_round(&mut servers[0], &mut sites, run, round)?;
                if done.is_multiple_of(exchange_every.get()) && done < run.rounds {
                    exchange(&mut sites)?;
                }
            }
        }
        if run.is_checkpoint(done) {
            for server in &mut servers {
                server.checkpoint(done)?;
            }
            for site in &mut sites {
                site.trainer.checkpoint(done)?;
            }
        }
        progress(done);
    }
    let bytes = sites.into_iter().map(|site| site.bytes).collect();
    Ok(BaselineResult { server: servers.swap_remove(0), bytes })
}

/// A site with what it has sent and received.
struct Member {
    id: SiteId,
    trainer: SiteTrainer,
    summary: SiteSummary,
    bytes: SiteBytes,
}

impl Member {
    fn new(id: SiteId, pairs: Pairs, folder: &Path, device: Device) -> Self {
        let mut trainer = SiteTrainer::new(pairs, SiteOptions::default(), folder, device);
        let summary = trainer.summary();
        Self { id, trainer, summary, bytes: SiteBytes::new() }
    }

    fn count(&mut self, kind: &'static str, messages: u64, bytes: u64) {
        let total = self.bytes.entry(kind).or_default();
        *total = (total.0 + messages, total.1 + bytes);
    }

    /// Trains the discriminator on synthetic images; returns the feedback.
    fn step(&mut self, run: &RunDescription, round: u64, synthetic: &Payload) -> Result<Payload, Error> {
        let (randomness, patients) = (self.trainer.randomness(), self.trainer.patients());
        let draw = run.round_draw(self.id, round, &self.summary, &randomness, &patients, 1);
        Ok(self.trainer.step(round, &draw, synthetic)?.0)
    }

    fn draw(&self, run: &RunDescription, round: u64) -> Draw {
        run.draw(self.id, round, &self.summary)
    }
}

/// The latest checkpoint that every trainer has, or 0.
fn latest_of_all(servers: &mut [ServerTrainer], sites: &mut [Member], run: &RunDescription) -> Result<u64, Error> {
    let mut lists = servers.iter_mut().map(ServerTrainer::checkpoints).collect::<Result<Vec<_>, _>>()?;
    for site in sites {
        lists.push(site.trainer.checkpoints(site.id, run)?);
    }
    let (first, others) = lists.split_first().expect("a server");
    Ok(first.iter().copied().filter(|round| others.iter().all(|list| list.contains(round))).max().unwrap_or(0))
}

fn contribution(round: u64, draw: Draw, weight: f64, feedback: Payload) -> Contribution {
    Contribution { round, draw, weight, norm: feedback.norm(), feedback, scale: 1.0, losses: None }
}

/// Every site trains its own generator with its own discriminator, on its own thread.
fn local_round(servers: &mut [ServerTrainer], sites: &mut [Member], run: &RunDescription, round: u64) -> Result<(), Error> {
    at_once(servers.iter_mut().zip(sites), run, |(server, site)| {
        let draw = site.draw(run, round);
        let synthetic = server.synthesize(round, std::slice::from_ref(&draw))?.swap_remove(0);
        let feedback = site.step(run, round, &synthetic)?;
        server.update(round, &[contribution(round, draw, 1.0, feedback)])
    })?;
    Ok(())
}

/// All sites answer one generator.
fn central_round(server: &mut ServerTrainer, sites: &mut [Member], run: &RunDescription, round: u64) -> Result<(), Error> {
    let draws: Vec<Draw> = sites.iter().map(|site| site.draw(run, round)).collect();
    let synthetic = server.synthesize(round, &draws)?;
    let weights = weights(sites, run);
    let answers = at_once(sites.iter_mut().zip(synthetic), run, |(site, synthetic)| {
        let feedback = site.step(run, round, &synthetic)?;
        site.count("round", 1, synthetic.compressed().bytes.len() as u64);
        site.count("feedback", 1, feedback.clone().compressed().bytes.len() as u64);
        Ok(feedback)
    })?;
    let parts = draws.into_iter().zip(weights).zip(answers);
    server.update(round, &parts.map(|((draw, weight), feedback)| contribution(round, draw, weight, feedback)).collect::<Vec<_>>())
}

fn weights(sites: &[Member], run: &RunDescription) -> Vec<f64> {
    run.weighting.weights(&sites.iter().map(|site| site.summary.cases).collect::<Vec<_>>())
}

/// Computes for every item on a thread of its own; the results are in order.
fn at_once<T: Send, R: Send>(
    items: impl Iterator<Item = T>,
    run: &RunDescription,
    work: impl Fn(T) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = items
            .map(|item| {
                scope.spawn(move || {
                    set_threads(run.site_threads);
                    work(item)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// Averages the networks of all sites.
fn average(servers: &mut [ServerTrainer], sites: &mut [Member], run: &RunDescription) -> Result<(), Error> {
    let weights = weights(sites, run);
    ServerTrainer::average(servers, &weights)?;
    let mut discriminators = sites.iter_mut().map(|site| site.trainer.discriminator()).collect::<Result<Vec<_>, _>>()?;
    let sum = Parameters::weighted_sum(&discriminators.iter().map(|own| &**own).zip(weights).collect::<Vec<_>>())?;
    for own in &mut discriminators {
        own.load(&sum)?;
    }
    // Both networks, to the server and back.
    let bytes = 2 * (servers[0].generator().parameters.bytes() + discriminators[0].bytes());
    for site in sites {
        site.count("weights", 2, bytes);
    }
    Ok(())
}

/// Each site passes the weights of its discriminator to the next one.
fn exchange(sites: &mut [Member]) -> Result<(), Error> {
    let mut discriminators = sites.iter_mut().map(|site| site.trainer.discriminator()).collect::<Result<Vec<_>, _>>()?;
    let copied = |own: &&mut Parameters| own.named().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
    let mut passed: Vec<BTreeMap<String, Tensor>> = discriminators.iter().map(copied).collect();
    passed.rotate_right(1);
    for (own, theirs) in discriminators.iter_mut().zip(&passed) {
        own.load(theirs)?;
    }
    let bytes = 2 * discriminators[0].bytes();
    for site in sites {
        site.count("weights", 2, bytes);
    }
    Ok(())
}

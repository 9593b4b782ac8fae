//! Trains an arm's generator. The server and the sites are the protocol's state machines, connected in memory; each
//! site runs on its own thread.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use asyndgan_data::CaseSet;
use asyndgan_models::{set_threads, write_described, write_tensors};
use asyndgan_paper::{Arm, KindTraffic, Step, TrainRecord};
use asyndgan_protocol::{Patience, Role, RunDescription, ServerPolicy, SiteId, SitePolicy, stream};
use asyndgan_training::{GanConfig, Pairs, ServerTrainer, SiteOptions, SiteTrainer, toy};
use asyndgan_transport::{Ledger, MemorySiteLink, ServerNews, ServerRecords, SiteRecords, in_memory, run_server, run_site};
use tch::Device;

use crate::{
    configure,
    curves::LossCurves,
    network_file::GeneratorCard,
    progress::{Progress, now},
    run_folder::{RunFolder, remove_folder, write_json},
};

/// A site that does not answer within this time counts as lost; a round of the paper's size takes minutes on a slow
/// CPU. A lost site never returns: its thread has ended.
const PATIENCE: Patience = Patience { answer: Duration::from_hours(1), absence: Duration::ZERO };

/// The data of one site, and nothing else.
enum Source {
    Folders(Vec<PathBuf>),
    /// Values of some of the toy's sites; each has its own condition, or all the first.
    Toy {
        sites: Vec<usize>,
        values: usize,
        overlapping: bool,
    },
}

impl Source {
    fn load(&self, seed: u64) -> Result<Pairs> {
        match self {
            Source::Folders(paths) => Ok(Pairs::of_cases(CaseSet::open(paths)?)?),
            Source::Toy { sites, values, overlapping } => {
                let drawn = |&site: &usize| toy::values(site, *values, &mut stream(seed, Role::Phantom, site as u32, 0));
                let code = |site: usize| if *overlapping { 1 } else { site as u8 + 1 };
                let codes: Vec<u8> = sites.iter().flat_map(|&site| vec![code(site); *values]).collect();
                Ok(Pairs::of_values(&sites.iter().flat_map(drawn).collect::<Vec<_>>(), &codes))
            }
        }
    }
}

/// Every site of an arm's run: all sites, or one that holds what the arm allows.
fn sources(folder: &RunFolder, arm: Arm, sites: u32) -> Vec<Source> {
    let one = |held: Vec<u32>| match folder.run.task() {
        None => {
            let (sites, overlapping) = (held.iter().map(|&s| s as usize - 1).collect(), arm == Arm::AsynDganOverlap);
            Source::Toy { sites, values: folder.run.settings.phantoms_per_site, overlapping }
        }
        Some(_) => Source::Folders(held.iter().map(|&s| folder.site(s)).collect()),
    };
    match arm {
        Arm::AsynDgan | Arm::AsynDganOverlap => (1..=sites).map(|site| one(vec![site])).collect(),
        Arm::SynSubset(site) | Arm::RealSubset(site) => vec![one(vec![site])],
        Arm::SynAll | Arm::RealAll => vec![one((1..=sites).collect())],
    }
}

struct Job {
    config: GanConfig,
    run: RunDescription,
    device: Device,
    server_threads: u32,
    checkpoints: PathBuf,
}

fn job(folder: &RunFolder, arm: Arm, seed: u64, sites: u32, checkpoints: PathBuf) -> Job {
    Job {
        config: configure::gan(&folder.run, arm),
        run: configure::description(&folder.run, arm, seed, sites),
        device: folder.device,
        server_threads: configure::server_threads(&folder.run, arm),
        checkpoints,
    }
}

pub(crate) fn train(folder: &RunFolder, arm: Arm, seed: u64) -> Result<()> {
    let place = folder.arm(arm, seed)?;
    let sites = folder.prepared()?.sites.len() as u32;
    let job = job(folder, arm, seed, sites, place.join("checkpoints"));
    let started = now();
    let mut bar = Progress::new(&Step::Train(arm, seed).label(), job.run.rounds);
    let mut first = None;
    let mut curves = LossCurves::new(&place);
    let mut unwritten = Ok(());
    let (server, ledger) = play(&job, sources(folder, arm, sites), |round, news, server| {
        first.get_or_insert(round);
        bar.set(round);
        if unwritten.is_ok() {
            unwritten = curves.hear(news, server).and_then(|()| keep(folder, arm, seed, round, server));
        }
    })?;
    unwritten?;
    write_results(folder, &place, &server)?;
    let record = TrainRecord {
        seconds: started.elapsed().as_secs_f64(),
        resumed_from_round: first.unwrap_or(0),
        bytes: traffic(&ledger),
        versions: folder.provenance(arm),
        events: Vec::new(),
    };
    write_json(&folder.proof(Step::Train(arm, seed)), &record)
}

/// Writes the results of a trained arm, except its losses: the generator, and the masks that the server received.
pub(crate) fn write_results(folder: &RunFolder, place: &Path, server: &ServerTrainer) -> Result<()> {
    write_described(
        &place.join("generator.safetensors"),
        &server.generator().parameters.named(),
        GeneratorCard::of(&folder.run, server.sites()).map(GeneratorCard::text).transpose()?,
    )?;
    let conditions = server.conditions().map(|(site, codes)| (format!("site-{:04}", site.0 + 1), codes.shallow_clone()));
    Ok(write_tensors(&place.join("conditions.safetensors"), &conditions.collect())?)
}

/// Keeps the generator after some rounds, so that its progress can be scored later.
fn keep(folder: &RunFolder, arm: Arm, seed: u64, rounds: u64, server: &ServerTrainer) -> Result<()> {
    // Only these are scored: of one arm, under the first seed.
    let scored = arm == Arm::AsynDgan && seed == folder.run.seeds[0];
    if scored && folder.run.settings.curve_rounds().contains(&rounds) {
        write_tensors(&Step::kept_generator(&folder.path, arm, seed, rounds), &server.generator().parameters.named())?;
    }
    Ok(())
}

/// Runs server and sites to the end of the run.
fn play(job: &Job, sources: Vec<Source>, mut progress: impl FnMut(u64, &ServerNews, &ServerTrainer)) -> Result<(ServerTrainer, Ledger)> {
    let sites = sources.len() as u32;
    let (mut link, site_links) = in_memory(sites);
    let mut server = ServerTrainer::new(job.config.clone(), job.run.clone(), sites, job.server_threads, &job.checkpoints, job.device)?;
    thread::scope(|scope| {
        let threads: Vec<_> = site_links
            .into_iter()
            .zip(sources)
            .enumerate()
            .map(|(i, (link, source))| scope.spawn(move || play_site(job, SiteId(i as u32), source, link)))
            .collect();
        set_threads(job.server_threads);
        let (policy, mut records) = (ServerPolicy::unrestricted(PATIENCE), ServerRecords::default());
        let served = run_server(&job.run, sites, policy, &mut link, &mut server, &mut records, |news, server, _| match news {
            ServerNews::Begun { rounds_done } | ServerNews::Round { rounds_done, .. } => progress(rounds_done, &news, server),
            _ => {}
        });
        drop(link);
        // A site's own error is more informative than the fact that it left.
        let mut site_errors = BTreeMap::new();
        for (i, thread) in threads.into_iter().enumerate() {
            let ended = thread.join().unwrap_or_else(|_| Err(anyhow!("its thread panicked")));
            if let Err(error) = ended {
                site_errors.insert(SiteId(i as u32), error);
            }
        }
        match served {
            Ok(()) => Ok((server, records.ledger)),
            Err(asyndgan_transport::Error::Protocol(asyndgan_protocol::Error::SiteLeft { site, round, reason })) => {
                let own = site_errors.remove(&site).map(|error| error.context(site));
                Err(own.unwrap_or_else(|| asyndgan_protocol::Error::SiteLeft { site, round, reason }.into()))
            }
            Err(error) => Err(error.into()),
        }
    })
}

fn play_site(job: &Job, id: SiteId, source: Source, mut link: MemorySiteLink) -> Result<()> {
    set_threads(job.run.site_threads);
    let pairs = source.load(job.run.seed).with_context(|| id.to_string())?;
    let mut site = SiteTrainer::new(pairs, SiteOptions::default(), &job.checkpoints, job.device);
    // In one process all data are in one place already: nothing gives away what is not there.
    Ok(run_site(SitePolicy::unrestricted(), &mut link, &mut site, &mut SiteRecords::default(), |_, _| {})?)
}

pub(crate) fn traffic(ledger: &Ledger) -> BTreeMap<String, asyndgan_paper::SiteTraffic> {
    let mut all = BTreeMap::<String, asyndgan_paper::SiteTraffic>::new();
    for (site, kind, t) in ledger.entries() {
        let kinds = all.entry(format!("site-{}", site.0 + 1)).or_default();
        kinds.insert(format!("{kind:?}").to_lowercase(), KindTraffic { messages: t.messages, bytes: t.bytes });
    }
    all
}

/// The record of an estimate.
#[derive(serde::Serialize)]
struct Estimate {
    seconds_per_round: f64,
    seconds_per_segmenter_step: f64,
    hours: f64,
}

/// Runs the first rounds and steps at full size and estimates the total time.
pub(crate) fn estimate(folder: &RunFolder) -> Result<()> {
    const ROUNDS: u64 = 3;
    let sites = folder.prepared()?.sites.len() as u32;
    let scratch = folder.path.join("estimate-scratch");
    remove_folder(&scratch)?;
    let mut job = job(folder, Arm::AsynDgan, 0, sites, scratch.clone());
    job.run.rounds = ROUNDS;
    let mut bar = Progress::new(&Step::Estimate.label(), ROUNDS);
    let mut times = Vec::new();
    let played = play(&job, sources(folder, Arm::AsynDgan, sites), |round, _, _| {
        times.push(now());
        bar.set(round);
    });
    remove_folder(&scratch)?;
    played?;
    // The first round also loads and warms up.
    let seconds_per_round = times[times.len() - 1].duration_since(times[1]).as_secs_f64() / (times.len() - 2) as f64;
    let generators = folder.run.arms(sites).iter().filter(|a| a.is_synthetic()).count() * folder.run.seeds.len();
    let training = folder.run.settings.rounds as f64 * generators as f64 * seconds_per_round;
    let seconds_per_step = crate::evaluate::seconds_per_step(folder)?;
    let segmenters = folder.run.arms(sites).len() * folder.run.seeds.len();
    // Those of the curve have half the steps.
    let whole = segmenters as f64 + folder.run.settings.curve_rounds().len() as f64 / 2.0;
    let segmenting = folder.run.settings.segmenter_steps as f64 * whole * seconds_per_step;
    let hours = (training + segmenting) / 3600.0;
    eprintln!(
        "estimate: {hours:.1} hours in total ({generators} generators at {seconds_per_round:.1} s per round, {segmenters} segmenters at \
         {seconds_per_step:.2} s per step)"
    );
    write_json(&folder.proof(Step::Estimate), &Estimate { seconds_per_round, seconds_per_segmenter_step: seconds_per_step, hours })
}

//! Trains an arm's generator.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use asyndgan_data::CaseSet;
use asyndgan_models::{write_tensors, write_with_metadata};
use asyndgan_paper::{Arm, KindTraffic, SiteTraffic, Step, TrainRecord};
use asyndgan_protocol::{Role, SiteId, stream};
use asyndgan_training::{Baseline, BaselineJob, Pairs, ServerTrainer, SiteBytes, toy};
use asyndgan_transport::Ledger;

use crate::{
    configure,
    curves::LossCurves,
    files::{remove_folder, write_json},
    in_process::InProcess,
    network_file::GeneratorCard,
    progress::{Progress, now},
    run::RunFolder,
};

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
            Source::Toy { sites, values: folder.run.settings.data.phantoms_per_site, overlapping }
        }
        Some(_) => Source::Folders(held.iter().map(|&s| folder.site(s)).collect()),
    };
    match arm {
        _ if arm.is_distributed() => (1..=sites).map(|site| one(vec![site])).collect(),
        Arm::SynSubset(site) | Arm::RealSubset(site) | Arm::OwnPlusSyn(site) => vec![one(vec![site])],
        _ => vec![one((1..=sites).collect())],
    }
}

fn in_process(folder: &RunFolder, arm: Arm, seed: u64, sites: u32, checkpoints: PathBuf) -> InProcess {
    let (networks, run) = (configure::gan(&folder.run, arm), configure::description(&folder.run, arm, seed, sites));
    let server_threads = configure::server_threads(&folder.run, arm);
    let (masks, masks_budget) = (configure::masks(&folder.run, arm), configure::masks_budget(&folder.run));
    InProcess { device: folder.device, server_threads, masks, masks_budget, ..InProcess::new(networks, run, checkpoints) }
}

/// The data of every site.
fn loaded(sources: &[Source], seed: u64) -> Result<Vec<Pairs>> {
    (0..).zip(sources).map(|(i, source)| source.load(seed).with_context(|| SiteId(i).to_string())).collect()
}

/// Trains the generator of an arm through the protocol; resumes from its last checkpoint.
///
/// # Errors
/// The error of the server or of a site, or that of a file that cannot be written.
pub fn train(folder: &RunFolder, arm: Arm, seed: u64) -> Result<()> {
    ensure!(arm.uses().is_none(), "{arm} has no generator of its own: train that of AsynDgan");
    ensure!(arm.is_synthetic(), "{arm} has no generator: evaluate it");
    let place = folder.arm(arm, seed)?;
    let sites = folder.prepared()?.sites.len() as u32;
    if let Some(baseline) = configure::baseline(&folder.run, arm) {
        return train_as(baseline, folder, arm, seed, sites, &place);
    }
    let job = in_process(folder, arm, seed, sites, place.join("checkpoints"));
    let started = now();
    let mut bar = Progress::new(&Step::Train(arm, seed).label(), job.run.rounds);
    let mut first = None;
    let mut curves = LossCurves::new(&place);
    let mut unwritten = Ok(());
    let (server, ledger) = job.train(loaded(&sources(folder, arm, sites), seed)?, |round, news, server| {
        first.get_or_insert(round);
        bar.set(round);
        // The curves are written again when training resumes; the generator of a round is there in that round only.
        let kept = keep(folder, arm, seed, round, server);
        if unwritten.is_ok() {
            unwritten = curves.on_event(news, server).and(kept);
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

/// Trains the generator of an arm that `AsynDGAN` is compared with.
fn train_as(baseline: Baseline, folder: &RunFolder, arm: Arm, seed: u64, sites: u32, place: &Path) -> Result<()> {
    let started = now();
    let (networks, run) = (configure::gan(&folder.run, arm), configure::description(&folder.run, arm, seed, sites));
    let mut bar = Progress::new(&Step::Train(arm, seed).label(), run.rounds);
    let mut first = None;
    let pairs = loaded(&sources(folder, arm, sites), seed)?;
    let job = BaselineJob::new(baseline, networks, run, place.join("checkpoints"))
        .with(|job| (job.threads, job.device) = (configure::server_threads(&folder.run, arm), folder.device));
    let result = job.train(pairs, |round| {
        first.get_or_insert(round);
        bar.set(round);
    })?;
    write_results(folder, place, &result.server)?;
    let kinds = |bytes: SiteBytes| {
        bytes.into_iter().map(|(kind, (messages, bytes))| (kind.to_owned(), KindTraffic { messages, bytes })).collect::<SiteTraffic>()
    };
    let record = TrainRecord {
        seconds: started.elapsed().as_secs_f64(),
        resumed_from_round: first.unwrap_or(0),
        bytes: (1..).zip(result.bytes).map(|(site, bytes)| (format!("site-{site}"), kinds(bytes))).collect(),
        versions: folder.provenance(arm),
        events: Vec::new(),
    };
    write_json(&folder.proof(Step::Train(arm, seed)), &record)
}

/// Writes the results of a trained arm, except its losses: the generator, and the masks that the server received.
pub(crate) fn write_results(folder: &RunFolder, place: &Path, server: &ServerTrainer) -> Result<()> {
    write_with_metadata(
        &place.join("generator.safetensors"),
        &server.generator().parameters.named(),
        GeneratorCard::from_run(&folder.run, server.sites()).map(GeneratorCard::text).transpose()?,
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

pub(crate) fn traffic(ledger: &Ledger) -> BTreeMap<String, SiteTraffic> {
    let mut all = BTreeMap::<String, SiteTraffic>::new();
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

/// Runs the first rounds and steps at full size, and estimates the total time.
///
/// # Errors
/// As [`train()`].
pub fn estimate(folder: &RunFolder) -> Result<()> {
    const ROUNDS: u64 = 3;
    let sites = folder.prepared()?.sites.len() as u32;
    let scratch = folder.path.join("estimate-scratch");
    remove_folder(&scratch)?;
    let mut job = in_process(folder, Arm::AsynDgan, 0, sites, scratch.clone());
    job.run.rounds = ROUNDS;
    let mut bar = Progress::new(&Step::Estimate.label(), ROUNDS);
    let mut times = Vec::new();
    let trained = job.train(loaded(&sources(folder, Arm::AsynDgan, sites), 0)?, |round, _, _| {
        times.push(now());
        bar.set(round);
    });
    remove_folder(&scratch)?;
    trained?;
    // The first round also loads and warms up.
    let seconds_per_round = times[times.len() - 1].duration_since(times[1]).as_secs_f64() / (times.len() - 2) as f64;
    let generators = folder.run.arms(sites).iter().filter(|a| a.is_synthetic()).count() * folder.run.seeds.len();
    let training = folder.run.settings.protocol.rounds as f64 * generators as f64 * seconds_per_round;
    let seconds_per_step = super::evaluate::seconds_per_step(folder)?;
    let segmenters = folder.run.arms(sites).len() * folder.run.seeds.len();
    // Those of the curve have half the steps.
    let whole = segmenters as f64 + folder.run.settings.curve_rounds().len() as f64 / 2.0;
    let segmenting = folder.run.settings.segmenter.steps as f64 * whole * seconds_per_step;
    let hours = (training + segmenting) / 3600.0;
    tracing::info!(
        "estimate: {hours:.1} hours in total ({generators} generators at {seconds_per_round:.1} s per round, {segmenters} segmenters at \
         {seconds_per_step:.2} s per step)"
    );
    write_json(&folder.proof(Step::Estimate), &Estimate { seconds_per_round, seconds_per_segmenter_step: seconds_per_step, hours })
}

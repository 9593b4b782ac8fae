//! Trains an arm's segmenter and scores it. For the toy experiment, measures the distance to the true mixture.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context, Result};
use asyndgan_data::CaseSet;
use asyndgan_evaluator::{TaskScores, predict, score, score_slices, train_segmenter};
use asyndgan_metrics::{summarise, wasserstein_1};
use asyndgan_models::{Segmenter, read_tensors, set_threads, write_tensors};
use asyndgan_paper::{Arm, ArmScores, CaseScores, SiteTraffic, Step};
use asyndgan_protocol::{Role, stream};
use asyndgan_training::toy;
use ndarray::{Array3, Axis};
use tch::Tensor;

use crate::{
    configure,
    files::{remove_folder, write_json, write_text},
    progress::{Progress, now},
    run::{
        RunFolder,
        synthesize::{self, Chosen},
    },
    segmenter::{SegmenterFiles, absent_everywhere},
};

/// Number of held-out cases whose predictions are kept for the pictures.
const PICTURED: usize = 4;

/// Trains the segmenter of an arm, and scores it on every held-out case.
///
/// # Errors
/// If the images cannot be read, or the results cannot be written.
pub fn evaluate(folder: &RunFolder, arm: Arm, seed: u64) -> Result<()> {
    let started = now();
    let Scored { training_images, cases, bytes } =
        if folder.run.task().is_none() { toy_scores(folder, arm, seed)? } else { segment(folder, arm, seed)? };
    let (seconds, versions) = (started.elapsed().as_secs_f64(), folder.provenance(arm));
    let scores = ArmScores { arm, seed, training_images, cases, seconds, bytes, versions };
    write_json(&folder.proof(Step::Evaluate(arm, seed)), &scores)
}

/// What an arm's segmenter learned from, its scores, and its traffic if it was trained at several sites.
struct Scored {
    training_images: usize,
    cases: Vec<CaseScores>,
    bytes: BTreeMap<String, SiteTraffic>,
}

fn segment(folder: &RunFolder, arm: Arm, seed: u64) -> Result<Scored> {
    let place = folder.arm(arm, seed)?;
    let sets = training_sets(folder, arm, seed)?;
    let sets: Vec<(&CaseSet, f64)> = sets.iter().map(|(cases, share)| (cases, *share)).collect();
    let steps = folder.run.settings.segmenter.steps;
    let mut bar = Progress::new(&Step::Evaluate(arm, seed).label(), steps + folder.test()?.len() as u64);
    let files = SegmenterFiles { folder: &place, name: "segmenter", run: &folder.run, seed, device: folder.device };
    let (segmenter, sent) = if arm == Arm::FedAvg {
        files.train_federated(&sets, |step| bar.set(step)).map(|(segmenter, sent)| (segmenter, Some(sent)))?
    } else {
        (files.train(&sets, |step| bar.set(step))?, None)
    };
    let of_site = |site: usize| (format!("site-{site}"), SiteTraffic::from([("weights".to_owned(), sent.clone().unwrap_or_default())]));
    let bytes = if sent.is_some() { (1..=sets.len()).map(of_site).collect() } else { BTreeMap::new() };
    let mut pictured = BTreeMap::new();
    let cases = scored(folder, &segmenter, &absent_everywhere(&sets), |i, prediction| {
        if i < PICTURED {
            let middle = prediction.index_axis(Axis(0), prediction.len_of(Axis(0)) / 2);
            let shape = [middle.nrows() as i64, middle.ncols() as i64];
            let labels: Vec<i64> = middle.iter().map(|&l| i64::from(l)).collect();
            pictured.insert(format!("{i}"), Tensor::from_slice(&labels).view(shape));
        }
        bar.set(steps + i as u64 + 1);
    })?;
    write_tensors(&place.join("predictions.safetensors"), &pictured)?;
    Ok(Scored { training_images: sets.iter().map(|(cases, _)| cases.len()).sum(), cases, bytes })
}

/// Scores a segmenter on every held-out case, without the channels that no training case had; `each` receives every
/// prediction.
fn scored(
    folder: &RunFolder,
    segmenter: &Segmenter,
    absent_channels: &[usize],
    mut each: impl FnMut(usize, &Array3<u32>),
) -> Result<Vec<CaseScores>> {
    let (task, test) = (configure::task(&folder.run)?, folder.test()?);
    let mut scores = Vec::new();
    for i in 0..test.len() {
        let case = &mut test.read(i)?;
        case.leave_out_channels(absent_channels);
        let case = &*case;
        let prediction = predict(segmenter, task, case, folder.run.settings.data.crop, folder.device);
        let slices = score_slices(task, case, &prediction);
        scores.push(case_scores(&case.id, score(task, case, &prediction), &slices));
        each(i, &prediction);
    }
    Ok(scores)
}

/// Trains and scores a segmenter for each generator that was kept during training, with half the steps: Dice against
/// rounds.
///
/// # Errors
/// As [`evaluate()`].
pub fn curve(folder: &RunFolder, arm: Arm, seed: u64) -> Result<()> {
    let place = folder.arm(arm, seed)?;
    let full = configure::segmenter(&folder.run)?;
    let training = full.with(|training| training.steps = (training.steps / 2).max(1));
    let task = configure::task(&folder.run)?;
    let metric = &folder.run.columns()[0].name;
    let rounds = folder.run.settings.curve_rounds();
    let mut bar = Progress::new(&Step::Curve(arm, seed).label(), rounds.len() as u64 * training.steps);
    let mut text = format!("round,{metric}\n");
    let chosen = Chosen { folder, conditions: synthesize::conditions(&place)?, seed };
    let made = place.join("curve-images");
    for (done, &round) in (0..).zip(&rounds) {
        let generator = synthesize::load(folder, &Step::kept_generator(&folder.path, arm, seed, round))?;
        chosen.images(&generator, &made, synthesize::A_FILE, |_| ())?;
        let cases = CaseSet::open(std::slice::from_ref(&made))?;
        let mut rng = stream(seed, Role::Segmenter, 0, 0);
        let progress = |step, _| bar.set(done * training.steps + step);
        let segmenter = train_segmenter(&training, task, &cases, folder.device, &mut rng, progress)?;
        let values: Vec<Option<f64>> = scored(folder, &segmenter, &[], |_, _| ())?.iter().map(|c| c.metrics[metric]).collect();
        let _ = writeln!(text, "{round},{}", summarise(&values).mean.map_or_else(String::new, |v| v.to_string()));
    }
    remove_folder(&made)?;
    write_text(&folder.proof(Step::Curve(arm, seed)), &text)
}

/// Seconds per training step of the segmenter, without the first step.
pub(crate) fn seconds_per_step(folder: &RunFolder) -> Result<f64> {
    set_threads(folder.run.settings.compute.site_threads);
    let cases = CaseSet::open(&[folder.site(1)])?;
    let training = configure::segmenter(&folder.run)?.with(|training| training.steps = 3);
    let mut times = Vec::new();
    let task = configure::task(&folder.run)?;
    train_segmenter(&training, task, &cases, folder.device, &mut stream(0, Role::Segmenter, 0, 0), |_, _| times.push(now()))?;
    Ok(times[2].duration_since(times[0]).as_secs_f64() / 2.0)
}

/// The cases that an arm's segmenter learns from: sets with their share of every batch, or the set of every site.
fn training_sets(folder: &RunFolder, arm: Arm, seed: u64) -> Result<Vec<(CaseSet, f64)>> {
    let sites = folder.prepared()?.sites.len() as u32;
    if arm == Arm::FedAvg {
        return (1..=sites).map(|site| Ok((CaseSet::open(&[folder.site(site)])?, 1.0))).collect();
    }
    let places: Vec<_> = match arm {
        Arm::RealAll => (1..=sites).map(|site| folder.site(site)).collect(),
        Arm::RealSubset(site) | Arm::OwnPlusSyn(site) => vec![folder.site(site)],
        _ => vec![synthesize::made(folder, arm, seed)?],
    };
    let first = CaseSet::open(&places)?;
    let Some(used) = arm.uses() else { return Ok(vec![(first, 1.0)]) };
    let share = folder.run.settings.segmenter.own_share;
    Ok(vec![(first, share), (CaseSet::open(&[synthesize::made(folder, used, seed)?])?, 1.0 - share)])
}

fn case_scores(case: &str, scores: TaskScores, slices: &[TaskScores]) -> CaseScores {
    let values = |scores: &TaskScores| scores.iter().map(|(name, value)| (name.clone(), value.ok())).collect();
    let undefined = scores.iter().filter_map(|(name, value)| Some((name.clone(), value.err()?.to_string()))).collect();
    CaseScores { case: case.into(), metrics: values(&scores), undefined, slices: slices.iter().map(values).collect() }
}

fn toy_scores(folder: &RunFolder, arm: Arm, seed: u64) -> Result<Scored> {
    let drawn = toy_values(folder, arm, seed)?;
    let count = folder.run.settings.data.phantoms_held_out;
    let scores = BTreeMap::from([
        ("wasserstein_1".to_owned(), wasserstein_1(&mixture(count), &drawn)),
        ("wasserstein_1_predicted".to_owned(), wasserstein_1(&predicted(arm, count), &drawn)),
    ]);
    let training_images = folder.run.settings.data.phantoms_per_site * toy::SITES.len();
    Ok(Scored { training_images, cases: vec![case_scores("mixture", scores, &[])], bytes: BTreeMap::new() })
}

/// The samples of an arm's generator.
pub(crate) fn toy_values(folder: &RunFolder, arm: Arm, seed: u64) -> Result<Vec<f64>> {
    let tensors = read_tensors(&synthesize::made(folder, arm, seed)?.join(synthesize::TOY))?;
    let values = tensors.get("values").context("the toy's synthetic file has no values: delete it and run synthesize again")?;
    let mut drawn = vec![0_f32; values.numel()];
    values.copy_data(&mut drawn, values.numel());
    Ok(drawn.into_iter().map(f64::from).collect())
}

/// The samples that theory predicts for an arm's generator.
pub(crate) fn predicted(arm: Arm, count: usize) -> Vec<f64> {
    let rng = |site: u32| stream(u64::MAX, Role::Phantom, site, 2);
    match arm {
        Arm::SynSubset(site) | Arm::RealSubset(site) | Arm::OwnPlusSyn(site) => toy::values(site as usize - 1, count, &mut rng(site - 1)),
        Arm::AsynDganOverlap => toy::barycentre_values(count, &mut rng(0)),
        _ => mixture(count),
    }
}

/// The true mixture, drawn from streams that no training uses.
pub(crate) fn mixture(count: usize) -> Vec<f64> {
    let sites = toy::SITES.len();
    (0..sites).flat_map(|site| toy::values(site, count / sites, &mut stream(u64::MAX, Role::Phantom, site as u32, 1))).collect()
}

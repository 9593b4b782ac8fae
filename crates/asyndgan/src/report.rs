//! Makes the table, its record, the pictures and the report from what the steps left.

mod page;
mod quality;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use asyndgan_metrics::{Convention, Profile, bootstrap_mean, summarise};
use asyndgan_paper::{Arm, ArmScores, Data, Experiment, ImageQuality, MetricSummary, Row, SPENT, Step, Table, TrainRecord};
use asyndgan_protocol::{Role, stream};

pub(crate) use self::quality::Samples;
use crate::{
    claims::{Values, claims},
    curves::read_csv,
    figures,
    run_folder::{RunFolder, read_json, write_json, write_text},
};

/// Resamples behind an interval.
const RESAMPLES: usize = 2000;

/// Makes each run's table and pictures anew, and one page of all.
pub(crate) fn report(runs: &[PathBuf], out: Option<PathBuf>) -> Result<()> {
    let out = match (out, runs) {
        (Some(out), _) => out,
        (None, [run]) => run.join("report.html"),
        _ => anyhow::bail!("several runs go into one report: say where with --out"),
    };
    let mut sections = Vec::new();
    for run in runs {
        let folder = RunFolder::open(run)?;
        let table = one(&folder)?;
        sections.push(page::section(&folder, &table)?);
        // The record comes last: it proves the step done.
        write_json(&folder.proof(Step::Report), &table)?;
    }
    write_text(&out, &page::page(sections)).with_context(|| format!("no report at {}", out.display()))
}

fn one(folder: &RunFolder) -> Result<Table> {
    let arms = folder.run.arms(folder.prepared()?.sites.len() as u32);
    let samples = Samples::of(folder, &arms)?;
    let table = table(folder, &arms, samples.as_ref().map_or_else(Vec::new, Samples::compare))?;
    let name = folder.run.experiment.name();
    write_text(&folder.path.join(format!("{name}.md")), &table.markdown())?;
    write_text(&folder.path.join(format!("{name}.csv")), &table.csv())?;
    if folder.run.experiment == Experiment::Fig5 {
        figures::histograms(folder, &table)?;
    } else {
        figures::synthetic(folder)?;
        figures::predictions(folder)?;
    }
    if let Some(samples) = samples.filter(|s| !s.synthetic.is_empty()) {
        figures::neighbours(folder, &samples)?;
    }
    Ok(table)
}

/// Dice against rounds, as the curve's step left it.
fn curve(folder: &RunFolder) -> Vec<(u64, Option<f64>)> {
    let path: &Path = &folder.proof(Step::Curve(Arm::AsynDgan, folder.run.seeds[0]));
    let rows = read_csv(path).map_or_else(|_| Vec::new(), |recorded| recorded.rows);
    rows.into_iter().map(|(round, values)| (round as u64, values.first().copied().flatten())).collect()
}

fn table(folder: &RunFolder, arms: &[Arm], image_quality: Vec<ImageQuality>) -> Result<Table> {
    let run = &folder.run;
    let prepared = folder.prepared()?;
    let sites = prepared.sites.len() as u32;
    let (mut scores, mut seconds, mut bytes) = (BTreeMap::<Arm, Vec<ArmScores>>::new(), BTreeMap::new(), BTreeMap::new());
    let mut counted_from_round = BTreeMap::new();
    for &seed in &run.seeds {
        for &arm in arms {
            let key = format!("seed-{seed}/{arm}");
            let found: ArmScores = read_json(&folder.proof(Step::Evaluate(arm, seed)))?;
            let mut spent = found.seconds;
            if arm.is_synthetic() {
                let train: TrainRecord = read_json(&folder.proof(Step::Train(arm, seed)))?;
                spent += train.seconds;
                counted_from_round.insert(key.clone(), train.counted_from_round);
                bytes.insert(key.clone(), train.bytes);
            }
            seconds.insert(key, spent);
            scores.entry(arm).or_default().push(found);
        }
    }
    let metrics = run.experiment.metrics();
    let by_metric: BTreeMap<&str, Values> =
        metrics.iter().map(|(name, _)| (*name, arms.iter().map(|arm| (*arm, over_seeds(&scores[arm], name))).collect())).collect();
    let row =
        |&arm: &Arm| Row { arm, metrics: metrics.iter().map(|(name, _)| ((*name).to_owned(), summary(&by_metric[name][&arm]))).collect() };
    Ok(Table {
        experiment: run.experiment,
        profile: run.profile,
        data: Data {
            kind: prepared.kind,
            train_cases: prepared.sites.iter().map(|s| s.patients.len()).sum(),
            test_cases: prepared.test.len(),
            sites: prepared.sites,
        },
        validation: run.validate,
        seeds: run.seeds.clone(),
        rows: arms.iter().map(row).collect(),
        claims: claims(run.experiment, &by_metric, &run.experiment.arms(sites)),
        image_quality,
        curve: curve(folder),
        convention: convention(run.experiment)?,
        bytes,
        seconds,
        counted_from_round,
        spent: spent(&fs::read_to_string(folder.path.join(SPENT)).unwrap_or_default()),
        versions: versions(folder),
        configuration: run.clone(),
    })
}

/// What the steps took, by subcommand; lines that say nothing are passed over.
fn spent(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines() {
        let parts: Vec<&str> = line.split(',').collect();
        if let [kind, _, seconds] = parts[..]
            && let Ok(seconds) = seconds.parse::<f64>()
        {
            *sums.entry(kind.to_owned()).or_default() += seconds;
        }
    }
    sums
}

fn versions(folder: &RunFolder) -> BTreeMap<String, String> {
    let device = if folder.device.is_cuda() { "cuda" } else { "cpu" };
    [("asyndgan", env!("CARGO_PKG_VERSION")), ("tch", "0.24.0"), ("libtorch", "2.11.0"), ("device", device)]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
}

/// Every case's mean over seeds; a case that is undefined under a seed stays undefined, and is counted.
fn over_seeds(scores: &[ArmScores], metric: &str) -> Vec<Option<f64>> {
    let cases = scores.first().map_or(0, |s| s.cases.len());
    let one = |case: usize| {
        let values: Option<Vec<f64>> = scores.iter().map(|s| s.cases.get(case)?.metrics.get(metric).copied().flatten()).collect();
        values.map(|v| v.iter().sum::<f64>() / v.len() as f64)
    };
    (0..cases).map(one).collect()
}

fn summary(values: &[Option<f64>]) -> MetricSummary {
    let s = summarise(values);
    let defined: Vec<f64> = values.iter().flatten().copied().collect();
    let interval = bootstrap_mean(&defined, RESAMPLES, &mut stream(0, Role::Bootstrap, 0, 0)).ok().filter(|_| defined.len() > 1);
    MetricSummary { mean: s.mean, sd: s.sd, interval: interval.map(|i| [i.low, i.high]), n: s.n, undefined: s.undefined }
}

fn convention(experiment: Experiment) -> Result<BTreeMap<String, String>> {
    let case = match experiment {
        Experiment::Fig5 => {
            return Ok([("wasserstein_1".to_owned(), "between empirical distributions of equally many samples".to_owned())].into());
        }
        Experiment::Table1 => "a volume: from its first to its last slice with at least 10 tumour pixels, on the original grid",
        Experiment::Table2 => "a tile, on the original grid",
    };
    Ok(serde_json::from_value(serde_json::to_value(Convention::of(Profile::Standard, case))?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_added_up_by_kind_of_step() {
        let text = "evaluate,RealAll: evaluate (seed 0),1.5\ntrain,SynAll: train generator (seed 0),4.0\nevaluate,SynAll: evaluate (seed 0),2.0\neval";
        assert_eq!(spent(text), [("evaluate".to_owned(), 3.5), ("train".to_owned(), 4.0)].into());
    }
}

//! Makes the table, its record and the pictures from what the steps left.

use std::collections::BTreeMap;

use anyhow::Result;
use asyndgan_metrics::{Convention, Profile, summarise};
use asyndgan_paper::{Arm, ArmScores, Data, Experiment, MetricSummary, Row, Step, Table, TrainRecord};

use crate::{
    claims::{Values, claims},
    figures,
    run_folder::{RunFolder, read_json, write_json, write_text},
};

pub(crate) fn report(folder: &RunFolder) -> Result<()> {
    let table = table(folder)?;
    let name = folder.run.experiment.name();
    write_text(&folder.path.join(format!("{name}.md")), &table.markdown())?;
    write_text(&folder.path.join(format!("{name}.csv")), &table.csv())?;
    if folder.run.experiment == Experiment::Fig5 {
        figures::histograms(folder, &table)?;
    } else {
        figures::synthetic(folder)?;
        figures::predictions(folder)?;
    }
    // The record comes last: it proves the step done.
    write_json(&folder.proof(Step::Report), &table)
}

fn table(folder: &RunFolder) -> Result<Table> {
    let run = &folder.run;
    let prepared = folder.prepared()?;
    let arms = run.arms(prepared.sites.len() as u32);
    let (mut scores, mut seconds, mut bytes) = (BTreeMap::<Arm, Vec<ArmScores>>::new(), BTreeMap::new(), BTreeMap::new());
    let mut counted_from_round = BTreeMap::new();
    for &seed in &run.seeds {
        for &arm in &arms {
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
        seeds: run.seeds.clone(),
        rows: arms.iter().map(row).collect(),
        claims: claims(run.experiment, &by_metric[metrics[0].0]),
        convention: convention(run.experiment)?,
        bytes,
        seconds,
        counted_from_round,
        versions: versions(folder),
        configuration: run.clone(),
    })
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
    MetricSummary { mean: s.mean, sd: s.sd, n: s.n, undefined: s.undefined }
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

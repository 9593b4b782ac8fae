//! Makes the table, its record, the pictures and the report from the results of the steps.

mod claims;
mod grids;
mod histogram;
mod page;
pub(crate) use page::html_page;
mod plots;
mod quality;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use asyndgan_files::{Access, write};
use asyndgan_metrics::{Convention, ConventionName, bootstrap_mean, summarise};
use asyndgan_paper::{
    Arm, ArmScores, CaseScores, Data, GroupTable, ImageQuality, MetricSummary, PerSlice, Row, Run, SPENT, Step, Table, TrainRecord,
};
use asyndgan_protocol::{Role, stream};
use asyndgan_task::{ImageKind, TestGroup};
use time::OffsetDateTime;

use self::{
    claims::{Values, claims},
    quality::Samples,
};
use crate::{
    curves::read_csv,
    files::{read_record, write_json, write_text},
    run::RunFolder,
};

/// Resamples behind an interval.
const RESAMPLES: usize = 2000;

/// Makes the table and pictures of each run, and one page with all runs: `out`, or `report.html` in the folder of a
/// single run.
///
/// # Errors
/// If a step of a run is not done, or a file cannot be written.
pub fn report(runs: &[PathBuf], out: Option<PathBuf>) -> Result<()> {
    let out = match (out, runs) {
        (Some(out), _) => out,
        (None, [run]) => run.join("report.html"),
        _ => anyhow::bail!("several runs make one report: give its path with --out"),
    };
    let (mut sections, mut tables) = (Vec::new(), Vec::new());
    for run in runs {
        let folder = RunFolder::open(run)?;
        let table = one(&folder)?;
        sections.push(page::section(&folder, &table)?);
        // The record is written last: its existence means that the step is done.
        write_json(&folder.proof(Step::Report), &table)?;
        tables.push(table);
    }
    // It shows images of patients.
    write(&out, Access::Private, page::page(&sections, &tables).as_bytes())
        .with_context(|| format!("cannot write the report {}", out.display()))
}

fn one(folder: &RunFolder) -> Result<Table> {
    // Runs of earlier versions have the rows of the paper only.
    let is_computed = |arm: Arm| folder.run.seeds.iter().any(|&seed| folder.proof(Step::Evaluate(arm, seed)).is_file());
    let arms = folder.run.arms(folder.prepared()?.sites.len() as u32);
    let arms: Vec<Arm> = arms.into_iter().filter(|arm| arm.is_of_paper() || is_computed(*arm)).collect();
    let samples = Samples::new(folder, &arms)?;
    let table = table(folder, &arms, samples.as_ref().map_or_else(Vec::new, Samples::compare))?;
    let name = folder.run.experiment.name();
    write_text(&folder.path.join(format!("{name}.md")), &table.markdown())?;
    write_text(&folder.path.join(format!("{name}.csv")), &table.csv())?;
    if folder.run.task().is_none() {
        histogram::histograms(folder, &table)?;
    } else {
        grids::synthetic(folder, &arms)?;
        grids::predictions(folder, &arms)?;
    }
    if let Some(samples) = samples.filter(|s| !s.synthetic.is_empty()) {
        grids::neighbours(folder, &samples)?;
    }
    Ok(table)
}

/// Dice against rounds, from the file of the curve's step.
fn curve(folder: &RunFolder) -> Vec<(u64, Option<f64>)> {
    let path: &Path = &folder.proof(Step::Curve(Arm::AsynDgan, folder.run.seeds[0]));
    let rows = read_csv(path).map_or_else(|_| Vec::new(), |recorded| recorded.rows);
    rows.into_iter().map(|(round, values)| (round as u64, values.first().copied().flatten())).collect()
}

/// Cases in the order of `names`, so that scores of several arms and seeds can be compared case by case.
fn by_name(cases: Vec<CaseScores>, names: &[String]) -> Result<Vec<CaseScores>> {
    let count = cases.len();
    let mut found: BTreeMap<String, CaseScores> = cases.into_iter().map(|case| (case.case.clone(), case)).collect();
    let same = count == names.len() && found.len() == count && names.iter().all(|name| found.contains_key(name));
    ensure!(same, "it has scores of other cases than the arm before: delete it, and run the evaluate step again");
    Ok(names.iter().filter_map(|name| found.remove(name)).collect())
}

fn table(folder: &RunFolder, arms: &[Arm], image_quality: Vec<ImageQuality>) -> Result<Table> {
    let run = &folder.run;
    let prepared = folder.prepared()?;
    let sites = prepared.sites.len() as u32;
    let (mut scores, mut seconds, mut bytes) = (BTreeMap::<Arm, Vec<ArmScores>>::new(), BTreeMap::new(), BTreeMap::new());
    let (mut resumed_from_round, mut versions) = (BTreeMap::new(), Vec::new());
    let mut names: Option<Vec<String>> = None;
    for &seed in &run.seeds {
        for &arm in arms {
            let key = format!("seed-{seed}/{arm}");
            let path = folder.proof(Step::Evaluate(arm, seed));
            let mut found: ArmScores = read_record(&path)?;
            let names = names.get_or_insert_with(|| found.cases.iter().map(|case| case.case.clone()).collect());
            found.cases = by_name(found.cases, names).with_context(|| path.display().to_string())?;
            let mut spent = found.seconds;
            if arm.is_synthetic() {
                let train: TrainRecord = read_record(&folder.proof(Step::Train(arm, seed)))?;
                spent += train.seconds;
                resumed_from_round.insert(key.clone(), train.resumed_from_round);
                bytes.insert(key.clone(), train.bytes);
                versions.push(train.versions);
            }
            if !found.bytes.is_empty() {
                bytes.insert(key.clone(), found.bytes.clone());
            }
            versions.push(found.versions.clone());
            seconds.insert(key, spent);
            scores.entry(arm).or_default().push(found);
        }
    }
    let columns = run.columns();
    let by_metric = by_metric_of(run, |name| arms.iter().map(|arm| (*arm, over_seeds(&scores[arm], name))).collect());
    // The toy has no cases: seeds take their place.
    let compared = match run.task() {
        None => by_metric_of(run, |name| arms.iter().map(|arm| (*arm, of_seeds(&scores[arm], name))).collect()),
        Some(_) => by_metric.clone(),
    };
    let patients = patients(names.as_deref().unwrap_or_default(), &prepared.test_patients);
    let row = |&arm: &Arm| Row { arm, metrics: columns.iter().map(|c| (c.name.clone(), summary(&by_metric[&c.name][&arm]))).collect() };
    let all = run.experiment.arms(sites);
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
        claims: claims(run, &by_patient(compared, &patients), &all),
        per_slice: per_slice(run, &scores, arms, &all, &patients)?,
        groups: groups(run, names.as_deref().unwrap_or_default(), &by_metric, &prepared.test_patients, arms, &all),
        image_quality,
        curve: curve(folder),
        convention: convention(run)?,
        bytes,
        seconds,
        resumed_from_round,
        seconds_by_step: seconds_by_step(&fs::read_to_string(folder.path.join(SPENT)).unwrap_or_default()),
        dates: dates(folder, arms)?,
        versions: together(&versions),
        configuration: run.clone(),
    })
}

/// The days on which the arms were scored, in order.
fn dates(folder: &RunFolder, arms: &[Arm]) -> Result<Vec<String>> {
    let mut days = BTreeSet::new();
    for (&seed, &arm) in folder.run.seeds.iter().flat_map(|seed| arms.iter().map(move |arm| (seed, arm))) {
        let path = folder.proof(Step::Evaluate(arm, seed));
        let modified = fs::metadata(&path).and_then(|m| m.modified()).with_context(|| format!("cannot read {}", path.display()))?;
        days.insert(OffsetDateTime::from(modified).date().to_string());
    }
    Ok(days.into_iter().collect())
}

/// Seconds per subcommand; the header and incomplete lines are ignored.
fn seconds_by_step(text: &str) -> BTreeMap<String, f64> {
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

/// The versions that computed trainings and scores; all values where they differ.
fn together(parts: &[BTreeMap<String, String>]) -> BTreeMap<String, String> {
    let names: BTreeSet<&str> = parts.iter().flatten().map(|(name, _)| name.as_str()).collect();
    let mut found = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (part, name) in parts.iter().flat_map(|part| names.iter().map(move |&name| (part, name))) {
        found.entry(name).or_default().insert(part.get(name).map_or("unknown", String::as_str));
    }
    found.into_iter().map(|(name, of)| (name.to_owned(), of.into_iter().collect::<Vec<_>>().join(", "))).collect()
}

fn by_metric_of(run: &Run, values: impl Fn(&str) -> Values) -> BTreeMap<String, Values> {
    run.columns().into_iter().map(|column| (column.name.clone(), values(&column.name))).collect()
}

/// The cases of each patient, by their indices in `names`; none if each case is of another patient.
fn patients(names: &[String], patient_of: &BTreeMap<String, String>) -> Vec<Vec<usize>> {
    let mut found = BTreeMap::<&str, Vec<usize>>::new();
    for (i, name) in names.iter().enumerate().filter(|_| !patient_of.is_empty()) {
        found.entry(patient_of.get(name).unwrap_or(name)).or_default().push(i);
    }
    found.into_values().collect()
}

/// The mean over the cases of every patient that have a value. Cases of one patient are not independent, so comparisons
/// of arms count patients.
fn by_patient(by_metric: BTreeMap<String, Values>, patients: &[Vec<usize>]) -> BTreeMap<String, Values> {
    if patients.is_empty() {
        return by_metric;
    }
    let of_arm = |values: &Vec<Option<f64>>| -> Vec<Option<f64>> {
        patients.iter().map(|cases| mean(cases.iter().filter_map(|&i| values.get(i)).filter(|v| v.is_some()).copied())).collect()
    };
    let of_metric = |values: Values| values.iter().map(|(arm, values)| (*arm, of_arm(values))).collect();
    by_metric.into_iter().map(|(name, values)| (name, of_metric(values))).collect()
}

/// Rows and claims for each list of held-out cases, if there are several in use.
fn groups(
    run: &Run,
    names: &[String],
    by_metric: &BTreeMap<String, Values>,
    patient_of: &BTreeMap<String, String>,
    arms: &[Arm],
    all: &[Arm],
) -> Vec<GroupTable> {
    let lists = run.lists.clone().or_else(|| run.experiment.lists());
    let of_group = |group: &TestGroup| {
        let cases: Vec<usize> = (0..names.len()).filter(|&i| group.cases.contains(&names[i])).collect();
        if cases.is_empty() || cases.len() == names.len() {
            return None;
        }
        let chosen = |values: &Values| values.iter().map(|(arm, of)| (*arm, cases.iter().map(|&i| of[i]).collect::<Vec<_>>())).collect();
        let by_metric: BTreeMap<String, Values> = by_metric.iter().map(|(name, values)| (name.clone(), chosen(values))).collect();
        let row =
            |&arm: &Arm| Row { arm, metrics: by_metric.iter().map(|(name, values)| (name.clone(), summary(&values[&arm]))).collect() };
        let own_names: Vec<String> = cases.iter().map(|&i| names[i].clone()).collect();
        let rows = arms.iter().map(row).collect();
        let claims = claims(run, &by_patient(by_metric.clone(), &patients(&own_names, patient_of)), all);
        Some(GroupTable { name: group.name.clone(), rows, claims })
    };
    lists.iter().flat_map(|lists| &lists.test_groups).filter_map(of_group).collect()
}

/// The mean over seeds of every case; a case that is undefined under a seed is undefined.
fn over_seeds(scores: &[ArmScores], metric: &str) -> Vec<Option<f64>> {
    let cases = scores.first().map_or(0, |s| s.cases.len());
    (0..cases).map(|case| mean(scores.iter().map(|s| s.cases.get(case)?.metrics.get(metric).copied().flatten()))).collect()
}

/// The mean over cases of every seed.
fn of_seeds(scores: &[ArmScores], metric: &str) -> Vec<Option<f64>> {
    scores.iter().map(|of_seed| mean(of_seed.cases.iter().map(|case| case.metrics.get(metric).copied().flatten()))).collect()
}

/// The mean over seeds of every slice, by case; a slice that is undefined under a seed is undefined.
fn slices_over_seeds(scores: &[ArmScores], metric: &str) -> Vec<Vec<Option<f64>>> {
    let slice = |case: usize, i: usize| mean(scores.iter().map(|s| s.cases.get(case)?.slices.get(i)?.get(metric).copied().flatten()));
    let cases = scores.first().map_or(&[][..], |s| &s.cases);
    cases.iter().enumerate().map(|(case, of_first)| (0..of_first.slices.len()).map(|i| slice(case, i)).collect()).collect()
}

/// The mean, if there are values and all are defined.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.collect::<Option<_>>()?;
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Rows and claims per slice, if all cases have slices.
fn per_slice(
    run: &Run,
    scores: &BTreeMap<Arm, Vec<ArmScores>>,
    arms: &[Arm],
    all: &[Arm],
    patients: &[Vec<usize>],
) -> Result<Option<PerSlice>> {
    let slices = |arm: &Arm, name: &str| slices_over_seeds(&scores[arm], name);
    let of_cases = |slices: &[Vec<Option<f64>>]| -> Vec<Option<f64>> {
        slices.iter().map(|of_case| mean(of_case.iter().filter(|v| v.is_some()).copied())).collect()
    };
    let row = |&arm: &Arm| {
        let of_metric = |name: &str| {
            let slices = slices(&arm, name);
            let (n, all) = (slices.iter().flatten().flatten().count(), slices.iter().map(Vec::len).sum::<usize>());
            MetricSummary { slices: Some([n, all - n]), ..summary(&of_cases(&slices)) }
        };
        Row { arm, metrics: run.columns().into_iter().map(|column| (column.name.clone(), of_metric(&column.name))).collect() }
    };
    let volumes = scores.values().flatten().all(|s| s.cases.iter().all(|case| !case.slices.is_empty()));
    if !volumes {
        return Ok(None);
    }
    let by_metric = by_metric_of(run, |name| arms.iter().map(|arm| (*arm, of_cases(&slices(arm, name)))).collect());
    Ok(Some(PerSlice {
        rows: arms.iter().map(row).collect(),
        claims: claims(run, &by_patient(by_metric, patients), all),
        convention: standard("a slice by itself, on the original grid, HD95 in its plane")?,
    }))
}

fn summary(values: &[Option<f64>]) -> MetricSummary {
    let s = summarise(values);
    let defined: Vec<f64> = values.iter().flatten().copied().collect();
    let interval = bootstrap_mean(&defined, RESAMPLES, &mut stream(0, Role::Bootstrap, 0, 0)).ok().filter(|_| defined.len() > 1);
    MetricSummary { mean: s.mean, sd: s.sd, interval: interval.map(|i| [i.low, i.high]), n: s.n, undefined: s.undefined, slices: None }
}

fn convention(run: &Run) -> Result<BTreeMap<String, String>> {
    let Some(task) = run.task() else {
        return Ok([("wasserstein_1".to_owned(), "between empirical distributions of equally many samples".to_owned())].into());
    };
    match task.images {
        ImageKind::Volumes => {
            let least = task.marked_pixels_min;
            standard(&format!("a volume: from its first to its last slice with at least {least} marked pixels, on the original grid"))
        }
        ImageKind::Pictures => standard("a picture, on the original grid"),
    }
}

fn standard(case: &str) -> Result<BTreeMap<String, String>> {
    Ok(serde_json::from_value(serde_json::to_value(Convention::new(ConventionName::Standard, case))?)?)
}

#[cfg(test)]
mod tests {
    use asyndgan_paper::{Experiment, Profile, Settings};
    use asyndgan_task::SiteLists;

    use super::*;

    #[test]
    fn cases_are_joined_by_name() {
        let case = |name: &str| CaseScores { case: name.into(), metrics: BTreeMap::new(), undefined: BTreeMap::new(), slices: Vec::new() };
        let names = ["a".to_owned(), "b".to_owned()];
        assert_eq!(by_name(vec![case("b"), case("a")], &names).expect("the same cases"), [case("a"), case("b")]);
        for other in [vec![case("a")], vec![case("a"), case("c")], vec![case("a"), case("a")], vec![case("a"), case("b"), case("c")]] {
            assert!(by_name(other, &names).is_err());
        }
    }

    #[test]
    fn lists_of_held_out_cases_are_scored_separately() {
        let lists = SiteLists::parse("a = [\"x\"]\ntest = [\"1\", \"2\"]\ntest_other = [\"3\"]\ntest_none = [\"4\"]").expect("lists");
        let run = Run { lists: Some(lists), ..run(Experiment::Table2) };
        let names = ["3", "1", "2"].map(str::to_owned);
        let values = |of: [f64; 3]| of.map(Some).to_vec();
        let values: Values = [(Arm::RealAll, values([0.9, 0.5, 0.7])), (Arm::AsynDgan, values([0.8, 0.4, 0.6]))].into();
        let by_metric: BTreeMap<String, Values> = [("dice".to_owned(), values)].into();
        let arms = [Arm::AsynDgan, Arm::RealAll];
        let found = groups(&run, &names, &by_metric, &BTreeMap::new(), &arms, &arms);
        let rows = |group: &GroupTable| group.rows.iter().map(|row| (row.arm, row.metrics["dice"].n)).collect::<Vec<_>>();
        assert_eq!(found.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["test", "test_other"]);
        assert_eq!(rows(&found[0]), [(Arm::AsynDgan, 2), (Arm::RealAll, 2)]);
        assert_eq!(found[1].rows[1].metrics["dice"].mean, Some(0.9));
        assert!(groups(&Run { lists: None, ..run }, &names, &by_metric, &BTreeMap::new(), &arms, &arms).is_empty(), "other cases");
    }

    #[test]
    fn arms_are_compared_by_patient() {
        let names = ["a1", "a2", "b", "a3"].map(str::to_owned);
        assert!(patients(&names, &BTreeMap::new()).is_empty());
        let of = |name: &str| (name.to_owned(), name[..1].to_owned());
        let patients = patients(&names, &names.iter().map(|name| of(name)).collect());
        assert_eq!(patients, [vec![0, 1, 3], vec![2]]);
        let values: Values = [(Arm::RealAll, vec![Some(0.2), None, Some(0.5), Some(0.4)]), (Arm::SynAll, vec![None; 4])].into();
        let found = by_patient([("dice".to_owned(), values)].into(), &patients);
        let close = |value: Option<f64>, to: f64| value.is_some_and(|value| (value - to).abs() < 1e-12);
        assert!(close(found["dice"][&Arm::RealAll][0], 0.3) && close(found["dice"][&Arm::RealAll][1], 0.5));
        assert_eq!(found["dice"][&Arm::SynAll], [None, None]);
    }

    fn run(experiment: Experiment) -> Run {
        Run::phantoms(experiment, Profile::Smoke, Settings::new(experiment, Profile::Smoke))
    }

    #[test]
    fn slices_are_averaged_over_seeds_then_in_their_case_and_those_without_value_are_counted() {
        let arm_scores = |arm, seed, cases: &[&[Option<f64>]]| {
            let slice = |dice: &Option<f64>, hd95: bool| {
                let of = |name: &str| dice.filter(|_| name != "hd95" || hd95);
                run(Experiment::Table1).columns().into_iter().map(|column| (column.name.clone(), of(&column.name))).collect()
            };
            let case = |slices: &&[Option<f64>]| CaseScores {
                case: String::new(),
                metrics: BTreeMap::new(),
                undefined: BTreeMap::new(),
                slices: slices.iter().map(|dice| slice(dice, slices.len() > 1)).collect(),
            };
            ArmScores {
                arm,
                seed,
                training_images: 1,
                cases: cases.iter().map(case).collect(),
                seconds: 0.0,
                bytes: BTreeMap::new(),
                versions: BTreeMap::new(),
            }
        };
        let arms = [Arm::SynAll, Arm::AsynDgan];
        let of = |arm, more: f64| {
            let first = arm_scores(arm, 0, &[&[Some(0.2 + more), Some(0.5), None], &[Some(0.9)]]);
            vec![first, arm_scores(arm, 1, &[&[Some(0.4 + more), None, Some(0.1)], &[Some(0.7)]])]
        };
        let scores = [(Arm::SynAll, of(Arm::SynAll, 0.0)), (Arm::AsynDgan, of(Arm::AsynDgan, 0.2))].into();
        let found =
            per_slice(&run(Experiment::Table1), &scores, &arms, &Experiment::Table1.arms(1), &[]).expect("a convention").expect("volumes");
        let dice = &found.rows[0].metrics["dice"];
        assert_eq!((dice.n, dice.undefined, dice.slices), (2, 0, Some([2, 2])));
        assert_eq!(dice.undefined_slices().as_deref(), Some("2 of 4 slices undefined"));
        // Nothing was found in the second case, so it has no distance under any seed.
        let hd95 = &found.rows[0].metrics["hd95"];
        assert_eq!((hd95.n, hd95.undefined, hd95.slices), (1, 1, Some([1, 3])));
        assert!(dice.mean.is_some_and(|mean| (mean - f64::midpoint(0.3, 0.8)).abs() < 1e-12), "{dice:?}");
        assert!((found.claims[2].comparisons[0].difference - 0.1).abs() < 1e-12, "{:?}", found.claims);
        let nuclei = [(Arm::SynAll, vec![arm_scores(Arm::SynAll, 0, &[&[]])])].into();
        assert_eq!(per_slice(&run(Experiment::Table2), &nuclei, &arms[..1], &arms, &[]).expect("nothing to state"), None);
    }

    #[test]
    fn whatever_computed_a_part_is_named() {
        let of = |device: &str, tch: &str| BTreeMap::from([("device", device), ("tch", tch)].map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(together(&[of("cuda", "1"), of("cpu", "1"), of("cuda", "1")]), of("cpu, cuda", "1"));
        assert_eq!(together(&[of("cuda", "1"), BTreeMap::new()]), of("cuda, unknown", "1, unknown"));
    }

    #[test]
    fn seconds_are_added_up_by_kind_of_step() {
        let text = "evaluate,RealAll: evaluate (seed 0),1.5\ntrain,SynAll: train generator (seed 0),4.0\nevaluate,SynAll: evaluate (seed 0),2.0\neval";
        assert_eq!(seconds_by_step(text), [("evaluate".to_owned(), 3.5), ("train".to_owned(), 4.0)].into());
    }
}

//! What differential privacy costs: the same experiment with several epsilons and numbers of patients.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use anyhow::{Context, Result, ensure};
use asyndgan_files::{Access, write};
use asyndgan_paper::{Arm, Experiment, MaskSetting, Run, Table, TradeOffPoint, TradeOffRecord};
use asyndgan_task::LabelKind;
use asyndgan_training::GanConfig;

use super::{ExperimentJob, share_prepared};
use crate::{
    audit::{AuditJob, SYNTHETIC_SET},
    configure,
    figures::{Panel, panels},
    files::{read_record, write_json},
};

/// The metric: Dice, or the first one of the experiment.
const METRIC: usize = 0;

/// What is varied in a trade-off.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct TradeOffAxes {
    /// Epsilons of each patient, in addition to a run without differential privacy.
    pub epsilons: Vec<f64>,
    /// Numbers of phantom patients per site; the data as they are by default.
    pub patients: Vec<usize>,
    /// Which masks leave the sites; those of the settings by default.
    pub masks: Vec<MaskSetting>,
}

impl TradeOffAxes {
    /// The options of the command, apart from those of the run.
    fn options(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, values: Vec<String>| {
            if !values.is_empty() {
                let _ = write!(text, " --{name} {}", values.join(","));
            }
        };
        add("epsilons", self.epsilons.iter().map(f64::to_string).collect());
        add("patients", self.patients.iter().map(usize::to_string).collect());
        add("masks", self.masks.iter().map(|masks| masks.name().to_owned()).collect());
        text
    }

    /// The same axes in one order, so that a run that is started again finds its folders.
    fn sorted(&self) -> Self {
        let mut axes = self.clone();
        axes.epsilons.sort_by(|a, b| b.total_cmp(a));
        axes.epsilons.dedup();
        axes.patients.sort_unstable();
        axes.patients.dedup();
        axes.masks.sort_unstable();
        axes.masks.dedup();
        axes
    }

    /// Each choice of patients and masks; `None` for that of the run.
    fn rows(&self) -> Vec<(Option<usize>, Option<MaskSetting>)> {
        fn given<T: Copy>(values: &[T]) -> Vec<Option<T>> {
            if values.is_empty() { vec![None] } else { values.iter().copied().map(Some).collect() }
        }
        let masks = given(&self.masks);
        given(&self.patients).into_iter().flat_map(|count| masks.iter().map(move |&masks| (count, masks))).collect()
    }
}

impl ExperimentJob {
    /// Runs the experiment without differential privacy and with each epsilon, for each number of patients per site and
    /// each choice of masks, and attacks every generator. Writes the record and a plot to the folder.
    ///
    /// # Errors
    /// As [`ExperimentJob::run`]; also if the number of patients of real images is to be changed.
    pub fn trade_off(&self, axes: &TradeOffAxes) -> Result<TradeOffRecord> {
        let base = &self.run;
        ensure!(base.experiment != Experiment::Fig5, "fig5 has no patients: use table1 or table2");
        ensure!(
            base.arms.is_none() && !base.validate,
            "a trade-off has arms of its own and held-out patients: remove --arms and --validate"
        );
        ensure!(base.data.is_none() || axes.patients.is_empty(), "real images have the patients that they have: remove --patients");
        let (axes, mut points, mut newest) = (axes.sorted(), Vec::new(), None);
        for (job, prepared) in self.jobs_of(&axes)? {
            tracing::info!("--- {}", job.folder.display());
            if let Some(prepared) = prepared {
                share_prepared(&prepared, &job.folder)?;
            }
            let (table, point) = job.point()?;
            points.push(point);
            newest = Some(table);
        }
        let table = newest.context("no run")?;
        let options = base.without_identities().options() + &axes.options();
        let command = format!("asyndgan privacy trade-off {}{options}", base.experiment.name());
        let metric = base.columns()[METRIC].heading.trim_end_matches([' ', '↑']).to_owned();
        let record = TradeOffRecord { command, data: table.data.kind, seeds: base.seeds.clone(), metric, points, versions: table.versions };
        write_json(&self.folder.join("trade-off.json"), &record)?;
        let plot = self.folder.join("trade-off.svg");
        write(&plot, Access::Shared, picture(&record)?.as_bytes()).with_context(|| format!("cannot write {}", plot.display()))?;
        Ok(record)
    }

    /// The run of each point, and the folder of the run whose prepared images it uses. All settings are checked before
    /// the first run starts.
    fn jobs_of(&self, axes: &TradeOffAxes) -> Result<Vec<(Self, Option<PathBuf>)>> {
        let (base, mut jobs) = (&self.run, Vec::new());
        // The first run of each number of patients prepares the images, and learns from all real ones.
        let mut first = BTreeMap::<Option<usize>, PathBuf>::new();
        for (count, masks) in axes.rows() {
            let mut place = self.folder.join(count.map_or_else(|| "patients".to_owned(), |count| format!("patients-{count}")));
            place.extend(masks.map(|masks| format!("masks-{}", masks.name())));
            for epsilon in std::iter::once(None).chain(axes.epsilons.iter().copied().map(Some)) {
                let folder = place.join(epsilon.map_or_else(|| "without".to_owned(), |epsilon| format!("epsilon-{epsilon}")));
                let mut changes = vec![("privacy.epsilon", epsilon.into())];
                changes.extend(count.map(|count| ("data.phantoms_per_site", count.into())));
                changes.extend(masks.map(|masks| ("privacy.masks", masks.name().into())));
                let settings = base.settings.with(base.experiment, changes)?;
                let (arms, shared) = match first.get(&count) {
                    Some(folder) => (vec![Arm::AsynDgan], Some(folder.clone())),
                    None => (vec![Arm::RealAll, Arm::AsynDgan], None),
                };
                first.entry(count).or_insert_with(|| folder.clone());
                let run = Run { settings, arms: Some(arms), ..base.clone() };
                GanConfig::from_description(&configure::gan(&run, Arm::AsynDgan).description())
                    .with_context(|| folder.display().to_string())?;
                let instances = run.task().is_some_and(|task| task.labels == LabelKind::Instances);
                ensure!(
                    !(instances && run.settings.privacy.masks == MaskSetting::Sampled),
                    "a model of shapes cannot draw many small objects: remove sampled from --masks"
                );
                jobs.push((Self { run, folder, ..self.clone() }, shared));
            }
        }
        Ok(jobs)
    }

    /// Runs one experiment, and attacks its generator and its synthetic images.
    fn point(&self) -> Result<(Table, TradeOffPoint)> {
        self.carry_out()?;
        let page = self.folder.join("audit.html");
        let record = page.with_extension("json");
        if !record.is_file() {
            tracing::info!("next: audit");
            // Feedback is attacked by an audit of its own, which takes longer.
            AuditJob { seed: self.run.seeds[0], answers: 0, ..AuditJob::new(&self.folder, page) }.audit()?;
        }
        let audit: asyndgan_paper::AuditRecord = read_record(&record)?;
        let table: Table = read_record(&self.folder.join(format!("{}.json", self.run.experiment.name())))?;
        let metric = &self.run.columns()[METRIC].name;
        let of = |arm: Arm| table.rows.iter().find(|row| row.arm == arm).and_then(|row| row.metrics.get(metric)).cloned();
        let point = TradeOffPoint {
            patients: table.data.train_cases,
            sites: table.data.sites.len(),
            masks: self.run.settings.privacy.masks,
            masks_epsilon: self.run.settings.privacy.masks_epsilon,
            epsilon: self.run.settings.privacy.epsilon,
            real: of(Arm::RealAll),
            synthetic: of(Arm::AsynDgan).context("the run has no row of AsynDgan")?,
            membership: audit.membership,
        };
        Ok((table, point))
    }
}

/// The metric, and how well an attack on the synthetic images finds patients, by epsilon.
fn picture(record: &TradeOffRecord) -> Result<String> {
    let mut epsilons = record.epsilons();
    epsilons.reverse();
    let columns = || -> Vec<Option<f64>> { epsilons.iter().copied().map(Some).chain([None]).collect() };
    let name = |epsilon: Option<f64>| epsilon.map_or_else(|| "no DP".to_owned(), |epsilon| format!("epsilon {epsilon}"));
    let names = || columns().into_iter().map(name);
    let by_row = |value: &dyn Fn(&TradeOffPoint) -> Option<f64>, real: bool| {
        let row = |row| {
            let mut values: Vec<Option<f64>> = columns().into_iter().map(|epsilon| record.point(row, epsilon).and_then(value)).collect();
            if real {
                let of_count = |point: &&TradeOffPoint| point.patients_per_site() == row.0;
                values.push(record.points.iter().filter(of_count).find_map(|point| point.real.as_ref()?.mean));
            }
            (record.name(row), values)
        };
        record.rows().into_iter().map(row).collect()
    };
    let auc = |point: &TradeOffPoint| point.membership.iter().find(|test| test.attack == SYNTHETIC_SET).map(|test| test.auc);
    panels(&[
        Panel {
            title: format!("{} ({})", record.metric, record.data.label().split(',').next().unwrap_or_default()),
            columns: names().chain(["real images".to_owned()]).collect(),
            joined: epsilons.len(),
            rows: by_row(&|point| point.synthetic.mean, true),
        },
        Panel {
            title: "membership from the synthetic images: AUC, 0.5 is a guess".to_owned(),
            columns: names().collect(),
            joined: epsilons.len(),
            rows: by_row(&auc, false),
        },
    ])
}

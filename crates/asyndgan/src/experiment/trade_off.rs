//! What differential privacy costs: the same experiment with several epsilons and numbers of patients.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result, ensure};
use asyndgan_files::{Access, write};
use asyndgan_paper::{Arm, Experiment, Run, Table, TradeOffPoint, TradeOffRecord};

use super::ExperimentJob;
use crate::{
    audit::AuditJob,
    figures::{Line, lines},
    files::{read_json, write_json},
};

/// The metric: Dice, or the first one of the experiment.
const METRIC: usize = 0;

impl ExperimentJob {
    /// Runs the experiment without differential privacy and with each epsilon, for each number of patients per site,
    /// and attacks every generator. Without numbers of patients, it uses the data as they are. Writes the record and a
    /// plot to the folder.
    ///
    /// # Errors
    /// As [`ExperimentJob::run`]; also if the number of patients of real images is to be changed.
    pub fn trade_off(&self, epsilons: &[f64], patients: &[usize]) -> Result<TradeOffRecord> {
        let base = &self.run;
        ensure!(base.experiment != Experiment::Fig5, "fig5 has no patients: use table1 or table2");
        ensure!(
            base.arms.is_none() && !base.validate,
            "a trade-off has arms of its own and held-out patients: remove --arms and --validate"
        );
        ensure!(base.data.is_none() || patients.is_empty(), "real images have the patients that they have: remove --patients");
        let mut points = Vec::new();
        let mut newest = None;
        let counts: Vec<Option<usize>> = if patients.is_empty() { vec![None] } else { patients.iter().copied().map(Some).collect() };
        for count in counts {
            let place = self.folder.join(count.map_or_else(|| "patients".to_owned(), |count| format!("patients-{count}")));
            let without = place.join("without");
            for epsilon in std::iter::once(None).chain(epsilons.iter().copied().map(Some)) {
                let folder = epsilon.map_or_else(|| without.clone(), |epsilon| place.join(format!("epsilon-{epsilon}")));
                let mut changes = vec![("privacy.epsilon", epsilon.into())];
                changes.extend(count.map(|count| ("data.phantoms_per_site", count.into())));
                let settings = base.settings.with(base.experiment, changes)?;
                let arms = if epsilon.is_none() { vec![Arm::RealAll, Arm::AsynDgan] } else { vec![Arm::AsynDgan] };
                tracing::info!("--- {}", folder.display());
                if epsilon.is_some() {
                    share_prepared(&without, &folder)?;
                }
                let run = Run { settings, arms: Some(arms), ..base.clone() };
                let job = Self { run, folder, ..self.clone() };
                let (table, point) = job.point(epsilon)?;
                points.push(point);
                newest = Some(table);
            }
        }
        let table = newest.context("no run")?;
        let list = |values: Vec<String>| values.join(",");
        let mut command = format!("asyndgan privacy trade-off {}{}", base.experiment.name(), base.without_identities().options());
        let _ = write!(command, " --epsilons {}", list(epsilons.iter().map(f64::to_string).collect()));
        if !patients.is_empty() {
            let _ = write!(command, " --patients {}", list(patients.iter().map(usize::to_string).collect()));
        }
        let metric = base.columns()[METRIC].heading.trim_end_matches([' ', '↑']).to_owned();
        let record = TradeOffRecord { command, data: table.data.kind, seeds: base.seeds.clone(), metric, points, versions: table.versions };
        write_json(&self.folder.join("trade-off.json"), &record)?;
        let plot = self.folder.join("trade-off.svg");
        write(&plot, Access::Shared, picture(&record)?.as_bytes()).with_context(|| format!("cannot write {}", plot.display()))?;
        Ok(record)
    }

    /// Runs one experiment, and attacks its generator and its synthetic images.
    fn point(&self, epsilon: Option<f64>) -> Result<(Table, TradeOffPoint)> {
        self.carry_out()?;
        let page = self.folder.join("audit.html");
        let record = page.with_extension("json");
        if !record.is_file() {
            tracing::info!("next: audit");
            // Feedback is attacked by an audit of its own, which takes longer.
            AuditJob { seed: self.run.seeds[0], answers: 0, ..AuditJob::new(&self.folder, page) }.audit()?;
        }
        let audit: asyndgan_paper::AuditRecord = read_json(&record)?;
        let table: Table = read_json(&self.folder.join(format!("{}.json", self.run.experiment.name())))?;
        let metric = &self.run.columns()[METRIC].name;
        let of = |arm: Arm| table.rows.iter().find(|row| row.arm == arm).and_then(|row| row.metrics.get(metric)).cloned();
        let point = TradeOffPoint {
            patients: table.data.train_cases,
            sites: table.data.sites.len(),
            epsilon,
            real: of(Arm::RealAll),
            synthetic: of(Arm::AsynDgan).context("the run has no row of AsynDgan")?,
            membership: audit.membership,
        };
        Ok((table, point))
    }
}

/// Lets a run use the images that were prepared for another with the same images.
pub(super) fn share_prepared(from: &Path, to: &Path) -> Result<()> {
    let prepared = to.join("prepared");
    if !prepared.exists() {
        fs::create_dir_all(to)
            .and_then(|()| std::os::unix::fs::symlink(from.join("prepared"), &prepared))
            .with_context(|| format!("cannot link {}", prepared.display()))?;
    }
    Ok(())
}

/// The metric by epsilon, a line for each number of patients; a run without differential privacy is at the right.
fn picture(record: &TradeOffRecord) -> Result<String> {
    let epsilons = record.epsilons();
    let doublings = |epsilon: f64| epsilon.log2();
    let right = epsilons.first().map_or(0.0, |&largest| doublings(largest) + 1.0);
    let of = |patients: usize| Line {
        name: format!("{patients} patients per site"),
        points: record
            .points
            .iter()
            .filter(|point| point.patients_per_site() == patients)
            .filter_map(|point| Some((point.epsilon.map_or(right, doublings), point.synthetic.mean?)))
            .collect(),
    };
    let found: Vec<Line> = record.patients().into_iter().map(of).collect();
    let across = "epsilon of each patient, as a power of 2; the last point has no differential privacy";
    lines(&format!("{} against epsilon ({})", record.metric, record.data.label()), across, &found)
}

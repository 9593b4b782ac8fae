use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Arm, Claim, DataKind, Experiment, Profile, Run, Settings, SiteTraffic, Table, Verdict};

/// The published record of a run: without paths of the machine and without names of real patients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The command that reproduced it when it was published.
    pub command: String,
    /// Pictures that are published with it: file names and captions.
    pub pictures: Vec<(String, String)>,
    /// The run's record.
    pub table: Table,
}

impl Published {
    /// The record of a run, with the pictures that are published with it.
    pub fn new(table: Table, pictures: Vec<(String, String)>) -> Self {
        let command = table.configuration.command();
        Self { command, pictures, table: without_identities(table) }
    }

    /// The page of the run, as Markdown.
    pub fn page(&self) -> String {
        let table = &self.table;
        let mut out = table.markdown();
        for (file, caption) in &self.pictures {
            let _ = writeln!(out, "\n![{caption}]({file})\n\n{caption}");
        }
        self.write_images(&mut out);
        self.write_curve(&mut out);
        self.write_traffic(&mut out);
        // With the profile as it is now, which may have changed since.
        let command = table.configuration.command();
        let _ = writeln!(out, "\n## How it was computed\n\n```\n{command}\n```\n");
        let minutes = table.seconds_by_step.values().sum::<f64>() / 60.0;
        let seconds = table.seconds_by_step.iter().map(|(step, seconds)| format!("{step} {seconds:.0}"));
        let _ = writeln!(out, "- date: {}", table.dates.join(", "));
        if minutes > 0.0 {
            let seconds = seconds.collect::<Vec<_>>().join(", ");
            let interrupted = table.resumed_from_round.values().any(|&round| round > 0);
            let note = if interrupted { "; training was interrupted, and the time before is not counted" } else { "" };
            let _ =
                writeln!(out, "- time: {minutes:.0} min over all steps, some of which ran in parallel{note}; seconds by step: {seconds}");
        }
        for (name, fact) in &table.versions {
            let _ = writeln!(out, "- {name}: {fact}");
        }
        out
    }

    fn write_images(&self, out: &mut String) {
        let images = &self.table.image_quality;
        if images.is_empty() {
            return;
        }
        let number = |v: Option<f64>| v.map_or_else(|| "–".into(), |v| format!("{v:.3}"));
        let _ = writeln!(out, "\n## Images\n\nIn the feature space of the RealAll segmenter, with the first seed.\n");
        let _ = writeln!(out, "|images of|FID ↓|KID ↓|precision ↑|recall ↑|nearest real, 5 %|median|\n|---|---:|---:|---:|---:|---:|---:|");
        for row in images {
            let name = row.arm.map_or_else(|| "held-out cases (real)".into(), |arm| arm.to_string());
            let [near, median] = [0, 1].map(|i| number(row.nearest_real.map(|n| n[i])));
            let cells = [row.fid, row.kid, row.precision, row.recall].map(number).join("|");
            let _ = writeln!(out, "|{name}|{cells}|{near}|{median}|");
        }
    }

    fn write_curve(&self, out: &mut String) {
        if self.table.curve.is_empty() {
            return;
        }
        let metric = &table_columns(&self.table)[0];
        let point = |(round, value): &(u64, Option<f64>)| format!("{round}: {}", value.map_or_else(|| "–".into(), |v| format!("{v:.3}")));
        let points = self.table.curve.iter().map(point).collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            out,
            "\n## {metric} against rounds\n\nAsynDgan with the first seed; segmenters with half the steps. Round and {metric}: {points}."
        );
    }

    fn write_traffic(&self, out: &mut String) {
        // All seeds move the same number of bytes, unless one was interrupted: the first one's are shown.
        let Some(seed) = self.table.seeds.first() else { return };
        let runs: Vec<_> =
            self.table.bytes.iter().filter_map(|(key, of)| Some((key, key.strip_prefix(&format!("seed-{seed}/"))?, of))).collect();
        if runs.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n## Bytes\n\nWith the first seed.\n\n|arm|sites|MB per site (mean)|\n|---|---:|---:|");
        let is_whole = |key: &str| self.table.is_whole(key);
        for (key, arm, sites) in &runs {
            let mean = if is_whole(key) { format!("{:.1}", mean_megabytes(sites)) } else { "–".into() };
            let _ = writeln!(out, "|{arm}|{}|{mean}|", sites.len());
        }
        if !runs.iter().all(|(key, ..)| is_whole(key)) {
            out.push_str("\n–: training was interrupted, and bytes were counted from there only.\n");
        }
    }

    /// The rows of this run in the table of all results: the claims with verdict, difference and interval.
    fn rows(&self, number: usize, out: &mut String) {
        for claim in &self.table.claims {
            let [_, difference, interval, _, _] = claim.cells();
            let other = claim.comparisons.first().filter(|c| c.other != c.arm).map_or_else(|| "–".into(), |c| c.other.to_string());
            let _ = writeln!(
                out,
                "|[{}][run{number}]|{}|{}|{other}|{difference}|{interval}|",
                self.subject(),
                claim.claim,
                claim.checked_verdict()
            );
        }
    }

    /// Experiment and data, in a few words.
    pub fn subject(&self) -> String {
        let table = &self.table;
        let data = match table.data.kind {
            DataKind::Phantom => "phantoms",
            DataKind::Brats => "BraTS",
            DataKind::Monuseg => "MoNuSeg",
            DataKind::Volumes => "volumes",
            DataKind::Pictures => "pictures",
            DataKind::Toy => "Gaussians",
        };
        let name = table.configuration.task.as_ref().map_or(table.experiment.name(), |task| task.name.as_str());
        format!("{name}, {data}")
    }
}

/// The table of all published results: one row per claim, with reference links. `folder` is the path of the pages,
/// relative to the file with the table.
pub fn results_table(published: &[(String, Published)], folder: &str) -> String {
    let mut out = String::from("|run|claim|verdict|nearest|difference|95 % interval|\n|---|---|---|---|---:|---|\n");
    for (number, (_, run)) in (1..).zip(published) {
        run.rows(number, &mut out);
    }
    out.push('\n');
    for (number, (name, _)) in (1..).zip(published) {
        let _ = writeln!(out, "[run{number}]: {folder}{name}.md");
    }
    out
}

/// The claims of all published results by verdict: one row per run. `folder` is the path of the pages, relative to the
/// file with the table.
pub fn results_summary(published: &[(String, Published)], folder: &str) -> String {
    let mut out = String::from("|run|held out, seeds|shown|not shown|contradicted|\n|---|---|---|---|---|\n");
    let words = |claim: &Claim| match claim.checked_verdict() {
        Verdict::NotMeasurable => format!("{} (not measurable)", claim.claim),
        Verdict::Shown | Verdict::NotShown | Verdict::Contradicted => claim.claim.clone(),
    };
    for (name, run) in published {
        let claims = |verdicts: &[Verdict]| {
            let found: Vec<_> = run.table.claims.iter().filter(|claim| verdicts.contains(&claim.checked_verdict())).map(words).collect();
            if found.is_empty() { "–".to_owned() } else { found.join("; ") }
        };
        let [shown, not_shown, contradicted] =
            [&[Verdict::Shown][..], &[Verdict::NotShown, Verdict::NotMeasurable], &[Verdict::Contradicted]].map(claims);
        let held_out = if run.table.data.kind == DataKind::Toy { "–".into() } else { run.table.data.test_cases.to_string() };
        let size = format!("{held_out}, {}", run.table.seeds.len());
        let _ = writeln!(out, "|[{}]({folder}{name}.md)|{size}|{shown}|{not_shown}|{contradicted}|", run.subject());
    }
    out
}

fn table_columns(table: &Table) -> Vec<String> {
    table.configuration.columns().into_iter().map(|column| column.heading).collect()
}

/// Numbers of cases are kept; paths and names of real images are removed.
fn without_identities(mut table: Table) -> Table {
    if table.configuration.data.is_some() {
        table.configuration = table.configuration.without_identities();
        for site in &mut table.data.sites {
            site.patients.clear();
        }
    }
    table
}

impl Run {
    /// The same run without the path of the data and without case names.
    #[must_use]
    pub fn without_identities(&self) -> Self {
        let mut run = self.clone();
        run.data = run.data.map(|_| PathBuf::from("DIR"));
        if let Some(lists) = &mut run.lists {
            lists.test.clear();
            lists.sites.iter_mut().for_each(|site| site.cases.clear());
        }
        run
    }

    /// The command that reproduces this run, with `DIR` for the folder of real data.
    pub fn command(&self) -> String {
        let command = match self.experiment {
            Experiment::Custom => "asyndgan experiment --task task.toml".to_owned(),
            paper => format!("cargo xtask reproduce {}", paper.name()),
        };
        command + &self.options()
    }

    /// The options of the command that reproduces this run, after its experiment.
    pub fn options(&self) -> String {
        let mut command = String::new();
        // The task file may name another profile.
        if self.profile != Profile::Desk || self.experiment == Experiment::Custom {
            let _ = write!(command, " --profile {}", self.profile.name());
        }
        if self.data.is_some() {
            command += " --data DIR";
        }
        match (&self.lists, self.experiment) {
            (Some(_), _) => command += " --sites SITES.toml",
            (None, Experiment::Custom) => drop(write!(command, " --sites {}", self.settings.data.sites)),
            _ => {}
        }
        if self.seeds.len() > 1 {
            let _ = write!(command, " --seeds {}", self.seeds.len());
        }
        if self.device != "auto" {
            let _ = write!(command, " --device {}", self.device);
        }
        if self.validate {
            command += " --validate";
        }
        if let Some(arms) = &self.arms {
            let _ = write!(command, " --arms {}", arms.iter().map(Arm::to_string).collect::<Vec<_>>().join(","));
        }
        // Else a processor with AMX would choose bfloat16.
        let has_choice = self.profile == Profile::Desk && self.experiment != Experiment::Fig5;
        if has_choice && !self.settings.compute.bfloat16 {
            command += " --set compute.bfloat16=false";
        }
        for changed in changed_settings(self) {
            let _ = write!(command, " --set {}", changed.replace('"', ""));
        }
        command
    }
}

/// Settings that differ from those of the profile, as NAME=VALUE.
pub(crate) fn changed_settings(run: &Run) -> Vec<String> {
    let of_profile =
        run.task.as_ref().map_or_else(|| Settings::new(run.experiment, run.profile), |task| Settings::of_task(task, run.profile));
    let of_profile = of_profile.plain();
    let changed = run.settings.plain().into_iter().filter(|(name, value)| of_profile.get(name) != Some(value));
    changed.map(|(name, value)| format!("{name}={value}")).collect()
}

/// Mean traffic of a site in MB.
fn mean_megabytes(sites: &BTreeMap<String, SiteTraffic>) -> f64 {
    let all: u64 = sites.values().flat_map(BTreeMap::values).map(|kind| kind.bytes).sum();
    all as f64 / 1e6 / sites.len().max(1) as f64
}

impl Table {
    /// What a site of an arm sends and receives under the first seed, on average over sites, in MB; `None` for an arm
    /// without traffic, or whose training was interrupted: bytes count from there only.
    pub fn megabytes_per_site(&self, arm: Arm) -> Option<f64> {
        let key = format!("seed-{}/{arm}", self.seeds.first()?);
        self.bytes.get(&key).filter(|_| self.is_whole(&key)).map(mean_megabytes)
    }

    /// Whether the bytes of a seed and arm are those of the whole training.
    fn is_whole(&self, key: &str) -> bool {
        self.resumed_from_round.get(key).is_none_or(|&round| round == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_a_run_makes_that_run() {
        let settings = Settings::new(Experiment::Table2, Profile::Desk);
        let changes = ["compute.bfloat16=true", "protocol.gan_loss=hinge"].map(|change| Settings::change(change).expect("NAME=VALUE"));
        let settings = settings.with(Experiment::Table2, changes.iter().map(|(n, v)| (n.as_str(), v.clone()))).expect("settings");
        let run = Run {
            data: Some(PathBuf::from("/secret/place")),
            seeds: vec![0, 1, 2],
            device: "auto".into(),
            arms: Some(vec![Arm::RealAll, Arm::RealSubset(2)]),
            ..Run::phantoms(Experiment::Table2, Profile::Desk, settings)
        };
        assert_eq!(
            run.command(),
            "cargo xtask reproduce table2 --data DIR --seeds 3 --arms RealAll,RealSubset-2 --set compute.bfloat16=true --set protocol.gan_loss=hinge"
        );
    }
}

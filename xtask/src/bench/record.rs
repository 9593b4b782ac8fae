//! The record of a comparison with PyTorch, and its page.

use std::{fmt::Write as _, fs, process::Command, thread};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::root;

/// What was measured, when and where.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The command that measured it.
    command: String,
    date: String,
    commit: String,
    processor: String,
    cores: usize,
    /// Version of PyTorch.
    torch: String,
    pub(crate) rows: Vec<Compared>,
    /// How the cost of a round grows, as Markdown.
    pub(crate) growth: String,
}

/// One row of the table.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Compared {
    work: String,
    unit: String,
    /// Minimum, median and maximum.
    ours: [f64; 3],
    theirs: [f64; 3],
    /// The best variant of PyTorch; empty for eager.
    variant: String,
    ratio: f64,
    target: f64,
}

impl Record {
    /// A record without rows, of this commit and machine.
    pub(crate) fn new(command: String, torch: String) -> Result<Self> {
        let line = |program: &str, arguments: &[&str]| -> Result<String> {
            let output = Command::new(program).args(arguments).current_dir(root()).output();
            let output = output.with_context(|| format!("cannot run {program}"))?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let date = line("date", &["--utc", "+%Y-%m-%d"])?;
        let mut commit = line("git", &["rev-parse", "--short", "HEAD"])?;
        if !line("git", &["status", "--porcelain"])?.is_empty() {
            commit += " with changes";
        }
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processor
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { command, date, commit, processor: processor.to_owned(), cores, torch, rows: Vec::new(), growth: String::new() })
    }

    /// The table, and how the cost grows, as Markdown.
    pub(crate) fn page(&self) -> String {
        let Self { command, date, commit, processor, cores, torch, rows, growth } = self;
        let mut text = String::from("|work|unit|ours|PyTorch|its best variant|ratio|target|met|\n|---|---|---:|---:|---|---:|---:|---|\n");
        text.extend(rows.iter().map(Compared::line));
        text += "\nMedian (minimum to maximum), ours and PyTorch interleaved, in the same precision; the best variant of PyTorch\n\
                 counts. Compiled variants warm up first, which takes a minute or more.\n";
        if !growth.is_empty() {
            let _ = write!(text, "\n{}", growth.trim_start());
        }
        let _ = write!(
            text,
            "\n```sh\n{command}\n```\n\n- date: {date}\n- commit: {commit}\n- processor: {processor}, {cores} cores\n- PyTorch: {torch}\n"
        );
        text
    }
}

impl Compared {
    pub(crate) fn new(work: &str, unit: &str, ours: &[f64], theirs: &[f64], target: f64) -> Result<Self> {
        let (ours, theirs) = (spread(ours).context("nothing was measured")?, spread(theirs).context("nothing was measured")?);
        Ok(Self { work: work.into(), unit: unit.into(), ours, theirs, variant: String::new(), ratio: ours[1] / theirs[1], target })
    }

    pub(crate) fn with_variant(self, variant: &str) -> Self {
        Self { variant: variant.to_owned(), ..self }
    }

    fn line(&self) -> String {
        let cell = |[least, median, most]: [f64; 3]| format!("{median:.3} ({least:.3} to {most:.3})");
        let met = if self.ratio <= self.target { "yes" } else { "no" };
        let Self { work, unit, ours, theirs, variant, ratio, target } = self;
        let variant = if variant.is_empty() { "eager".to_owned() } else { variant.replace(',', ", ") };
        format!("|{work}|{unit}|{}|{}|{variant}|{ratio:.2}|{target:.2}|{met}|\n", cell(*ours), cell(*theirs))
    }
}

/// Minimum, median and maximum.
pub(crate) fn spread(values: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let median = (sorted.get(n / 2)? + sorted.get(n.saturating_sub(1) / 2)?) / 2.0;
    Some([sorted[0], median, sorted[n - 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_between_the_two_in_the_middle() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some([1.0, 2.0, 3.0]));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some([1.0, 2.5, 4.0]));
        assert_eq!(spread(&[]), None);
    }
}

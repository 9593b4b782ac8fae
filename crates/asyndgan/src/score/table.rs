use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use anyhow::{Context, Result};
use asyndgan_metrics::{Convention, Interval, Scores, bootstrap_mean, summarise};
use asyndgan_protocol::{Role, stream};
use serde::Serialize;

use crate::figures::box_plot;

/// Resamples behind an interval.
const RESAMPLES: usize = 2000;

/// Width of a metric's column, by the longest name.
const CELL: usize = 17;

/// One class of one case.
#[derive(Debug, Serialize)]
pub(super) struct CaseRow {
    case: String,
    class: String,
    metrics: BTreeMap<String, Option<f64>>,
    undefined: BTreeMap<String, String>,
}

/// One metric of one class over all cases.
#[derive(Debug, Serialize)]
struct SummaryRow {
    class: String,
    metric: String,
    mean: Option<f64>,
    /// 95 % bootstrap interval of the mean.
    interval: Option<Interval>,
    median: Option<f64>,
    sd: Option<f64>,
    n: usize,
    undefined: usize,
    /// Over the elements or instances of all cases together, where that has a meaning.
    pooled: Option<f64>,
}

/// All scores, with the convention behind them; serialises to JSON.
#[derive(Debug, Serialize)]
pub struct Report {
    cases: Vec<CaseRow>,
    summary: Vec<SummaryRow>,
    convention: Convention,
    tolerance_mm: f64,
}

impl CaseRow {
    pub(super) fn new(case: &str, class: String, scores: &Scores) -> Self {
        let metrics = scores.iter().map(|(name, value)| ((*name).to_owned(), value.ok())).collect();
        let undefined = scores.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.err()?.to_string()))).collect();
        Self { case: case.into(), class, metrics, undefined }
    }
}

impl Report {
    pub(super) fn new(cases: Vec<CaseRow>, pooled: BTreeMap<String, Scores>, convention: Convention, tolerance_mm: f64) -> Self {
        let mut values: BTreeMap<(&str, &str), Vec<Option<f64>>> = BTreeMap::new();
        for row in &cases {
            for (metric, value) in &row.metrics {
                values.entry((&row.class, metric)).or_default().push(*value);
            }
        }
        let mut summary = Vec::new();
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by_key(|((class, _), _)| class.parse().unwrap_or(u32::MAX));
        for ((class, metric), values) in values {
            let s = summarise(&values);
            let defined: Vec<f64> = values.iter().flatten().copied().collect();
            let interval = bootstrap_mean(&defined, RESAMPLES, &mut stream(0, Role::Bootstrap, 0, 0)).ok();
            // A single value says nothing of how far others would lie.
            let interval = interval.filter(|_| defined.len() > 1);
            let pooled = pooled.get(class).and_then(|scores| scores.get(metric)?.ok());
            let (class, metric) = (class.to_owned(), metric.to_owned());
            summary.push(SummaryRow {
                class,
                metric,
                mean: s.mean,
                interval,
                median: s.median,
                sd: s.sd,
                n: s.n,
                undefined: s.undefined,
                pooled,
            });
        }
        Self { cases, summary, convention, tolerance_mm }
    }

    /// Draws a box plot of every metric, as PNG or SVG by the extension of the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn draw(&self, path: &Path) -> Result<()> {
        box_plot(&self.by_metric(), path).with_context(|| format!("cannot draw {}", path.display()))
    }

    /// Defined values by metric and class.
    fn by_metric(&self) -> BTreeMap<String, BTreeMap<String, Vec<f64>>> {
        let mut values: BTreeMap<String, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
        for row in &self.cases {
            for (metric, value) in &row.metrics {
                let of_class = values.entry(metric.clone()).or_default().entry(row.class.clone()).or_default();
                of_class.extend(value);
            }
        }
        values
    }

    /// The scores of every case as comma-separated values.
    pub fn csv(&self) -> String {
        let names: Vec<&String> = self.cases.first().map_or_else(Vec::new, |row| row.metrics.keys().collect());
        let mut out = format!("case,class,{}\n", names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(","));
        for row in &self.cases {
            let quoted = if row.case.contains([',', '"']) { format!("\"{}\"", row.case.replace('"', "\"\"")) } else { row.case.clone() };
            let cells: Vec<String> = row.metrics.values().map(|v| v.map_or_else(String::new, |v| v.to_string())).collect();
            let _ = writeln!(out, "{quoted},{},{}", row.class, cells.join(","));
        }
        out
    }

    /// All scores as tables for a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let names: Vec<&String> = self.cases.first().map_or_else(Vec::new, |row| row.metrics.keys().collect());
        let wide = self.cases.iter().map(|row| row.case.len()).max().unwrap_or(0).max(4);
        let columns: String = names.iter().fold(String::new(), |line, name| line + &format!(" {name:>CELL$}"));
        let _ = writeln!(out, "{:wide$} {:>9}{columns}", "case", "class");
        for row in &self.cases {
            let cells = row
                .metrics
                .values()
                .fold(String::new(), |line, v| line + &v.map_or_else(|| format!(" {:>CELL$}", "–"), |v| format!(" {v:>CELL$.4}")));
            let _ = writeln!(out, "{:wide$} {:>9}{cells}", row.case, row.class);
        }
        let _ = writeln!(
            out,
            "\n{:>9} {:>17} {:>10} {:>23} {:>10} {:>10} {:>5} {:>9} {:>10}",
            "class", "metric", "mean", "95 % interval", "median", "sd", "n", "undefined", "pooled"
        );
        let number = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"));
        for s in &self.summary {
            let interval = s.interval.map_or_else(|| "–".to_owned(), |i| format!("{:.4} to {:.4}", i.low, i.high));
            let _ = writeln!(
                out,
                "{:>9} {:>17} {:>10} {interval:>23} {:>10} {:>10} {:>5} {:>9} {:>10}",
                s.class,
                s.metric,
                number(s.mean),
                number(s.median),
                number(s.sd),
                s.n,
                s.undefined,
                number(s.pooled)
            );
        }
        let _ = writeln!(out, "\nconvention {}", self.convention.name);
        if names.iter().any(|name| *name == "nsd") {
            let _ = writeln!(
                out,
                "normalised surface distance (nsd) with a tolerance of {} mm (pixels for masks without spacing)",
                self.tolerance_mm
            );
        }
        out
    }
}

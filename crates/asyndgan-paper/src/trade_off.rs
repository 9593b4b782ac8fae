//! What differential privacy costs: Dice and attacks by epsilon and number of patients.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::{Deserialize, Serialize};

use crate::{DataKind, MaskSetting, MembershipRecord, MetricSummary};

/// The results of `AsynDgan` by epsilon and number of patients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TradeOffRecord {
    /// The command that computes it.
    pub command: String,
    /// Where the images come from.
    pub data: DataKind,
    /// Seeds of each run.
    pub seeds: Vec<u64>,
    /// The metric.
    pub metric: String,
    /// The runs, by number of patients, without differential privacy first.
    pub points: Vec<TradeOffPoint>,
    /// The software that computed the last run.
    pub versions: BTreeMap<String, String>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TradeOffPoint {
    /// Patients (volumes or tiles) at all sites.
    pub patients: usize,
    /// Number of sites.
    pub sites: usize,
    /// Which masks leave the sites.
    pub masks: MaskSetting,
    /// Epsilon of the masks, if they are sampled; in addition to that of training.
    pub masks_epsilon: f64,
    /// Epsilon of training for each patient; `None` without differential privacy.
    pub epsilon: Option<f64>,
    /// The metric of a segmenter that learnt from all real images; only in the first run of each number of patients.
    pub real: Option<MetricSummary>,
    /// The metric of a segmenter that learnt from the synthetic images.
    pub synthetic: MetricSummary,
    /// Attacks on the generator and on the synthetic images.
    pub membership: Vec<MembershipRecord>,
}

impl TradeOffPoint {
    /// Patients at each site, on average.
    pub fn patients_per_site(&self) -> usize {
        self.patients / self.sites.max(1)
    }
}

impl TradeOffRecord {
    /// The numbers of patients per site, ascending, with each choice of masks.
    pub fn rows(&self) -> BTreeSet<(usize, MaskSetting)> {
        self.points.iter().map(|point| (point.patients_per_site(), point.masks)).collect()
    }

    /// The name of a row.
    pub fn name(&self, (patients, masks): (usize, MaskSetting)) -> String {
        let one = self.points.iter().all(|point| point.masks == masks);
        let epsilon = self.points.iter().find(|point| point.masks == masks).map_or(0.0, |point| point.masks_epsilon);
        match masks {
            _ if one => format!("{patients} patients"),
            MaskSetting::Sampled => format!("{patients} patients, masks sampled (epsilon {epsilon})"),
            _ => format!("{patients} patients, masks {}", masks.name()),
        }
    }

    /// The epsilons, descending.
    pub fn epsilons(&self) -> Vec<f64> {
        let mut found: Vec<f64> = self.points.iter().filter_map(|point| point.epsilon).collect();
        found.sort_by(|a, b| b.total_cmp(a));
        found.dedup();
        found
    }

    /// The run of a row with an epsilon.
    pub fn point(&self, row: (usize, MaskSetting), epsilon: Option<f64>) -> Option<&TradeOffPoint> {
        self.points.iter().find(|point| (point.patients_per_site(), point.masks) == row && point.epsilon == epsilon)
    }

    /// A table of the metric and one of every attack.
    pub fn as_markdown(&self) -> String {
        let epsilons: Vec<Option<f64>> = std::iter::once(None).chain(self.epsilons().into_iter().map(Some)).collect();
        let mut out = String::new();
        let head = |out: &mut String, first: &str| {
            let names = epsilons.iter().map(|epsilon| epsilon.map_or_else(|| "no DP".to_owned(), |epsilon| format!("epsilon {epsilon}")));
            let _ = writeln!(out, "|per site|{first}{}|", names.collect::<Vec<_>>().join("|"));
        };
        let interval = |value: Option<f64>, interval: Option<[f64; 2]>| {
            let value = value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
            interval.map_or_else(|| value.clone(), |[low, high]| format!("{value} ({low:.2} to {high:.2})"))
        };
        let _ = writeln!(out, "{} (95 % interval over held-out cases), by epsilon of training for each patient:\n", self.metric);
        head(&mut out, "real images|");
        let _ = writeln!(out, "|---|---|{}", "---|".repeat(epsilons.len()));
        for row in self.rows() {
            let points = epsilons.iter().map(|epsilon| self.point(row, *epsilon));
            let real = points.clone().flatten().find_map(|point| point.real.as_ref());
            let cell = |of: Option<&MetricSummary>| of.map_or_else(String::new, |of| interval(of.mean, of.interval));
            let cells: Vec<String> = points.map(|point| cell(point.map(|point| &point.synthetic))).collect();
            let _ = writeln!(out, "|{}|{}|{}|", self.name(row), cell(real), cells.join("|"));
        }
        let attacks: BTreeSet<&str> = self.points.iter().flat_map(|point| &point.membership).map(|test| test.attack.as_str()).collect();
        for attack in attacks {
            let _ = writeln!(out, "\nAUC of membership (95 % interval, first seed), with {attack}:\n");
            head(&mut out, "");
            let _ = writeln!(out, "|---|{}", "---|".repeat(epsilons.len()));
            for row in self.rows() {
                let cell = |epsilon: &Option<f64>| {
                    let test = self.point(row, *epsilon)?.membership.iter().find(|test| test.attack == attack)?;
                    Some(interval(Some(test.auc), Some(test.auc_interval)))
                };
                let cells: Vec<String> = epsilons.iter().map(|epsilon| cell(epsilon).unwrap_or_default()).collect();
                let _ = writeln!(out, "|{}|{}|", self.name(row), cells.join("|"));
            }
        }
        let _ = writeln!(out, "\nData: {}; seeds {:?}.\n\n```sh\n{}\n```", self.data.label(), self.seeds, self.command);
        out
    }
}

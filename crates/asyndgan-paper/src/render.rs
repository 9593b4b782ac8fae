use std::fmt::{self, Write as _};

use crate::{Arm, Claim, Comparison, Experiment, MetricSummary, Profile, Row, Table, TableColumn, Verdict, published::changed_settings};

impl Table {
    /// The table's title, which labels phantom data.
    pub fn title(&self) -> String {
        let what = match self.experiment {
            Experiment::Fig5 => "Figure 5: a mixture of Gaussians from sites that hold one each".to_owned(),
            Experiment::Table1 => "Table 1: brain tumour segmentation".to_owned(),
            Experiment::Table2 => "Table 2: nuclei segmentation".to_owned(),
            Experiment::Custom => format!("{}: segmentation", self.configuration.task().map_or("", |task| task.name.as_str())),
        };
        let validation = if self.validation { ", VALIDATION: patients of the training sites" } else { "" };
        format!("{what} ({}, {} profile{validation})", self.data.kind.label(), self.profile.name())
    }

    /// The name of an arm's row: the arm, and the site if it has the images of one.
    pub fn row_name(&self, arm: Arm) -> String {
        let (Arm::RealSubset(site) | Arm::SynSubset(site) | Arm::OwnPlusSyn(site)) = arm else { return arm.to_string() };
        let name = self.data.sites.get(site.saturating_sub(1) as usize).map(|site| site.name.as_str());
        name.map_or_else(|| arm.to_string(), |name| format!("{arm} ({})", name.replace('|', "/")))
    }

    /// Settings that differ from those of the profile, as NAME=VALUE.
    pub fn changed_settings(&self) -> Vec<String> {
        changed_settings(&self.configuration)
    }

    /// The table as Markdown, with its claims, data and settings.
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n", self.title());
        self.write_rows(&mut out, &self.rows);
        let what = if self.experiment == Experiment::Fig5 {
            "distances to the true mixture, and to what theory predicts: the mixture, a subset's own Gaussian, and under overlapping conditions the \
             Jensen-Shannon barycentre"
        } else {
            "mean (standard deviation) over held-out cases, each averaged over seeds"
        };
        let (train, test) = (self.data.train_cases, self.data.test_cases);
        let _ = writeln!(
            out,
            "Cells: {what}. Data: {}; {train} training cases at {} sites, {test} held out; seeds {:?}.\n",
            self.data.kind.label(),
            self.data.sites.len(),
            self.seeds
        );
        if self.configuration.profile == Profile::Smoke {
            out.push_str("A smoke run shows that every step works; its numbers and verdicts mean nothing.\n\n");
        }
        for site in self.configuration.lists.iter().flat_map(|lists| &lists.sites).filter(|site| !site.absent.is_none()) {
            let lacks = site.absent.channels.iter().chain(&site.absent.classes).map(String::as_str).collect::<Vec<_>>().join(", ");
            let _ = writeln!(out, "Site {} lacks {lacks}.\n", site.name);
        }
        let changed = self.changed_settings();
        if !changed.is_empty() {
            let _ = writeln!(out, "Settings other than the profile's: {}.\n", changed.join(", "));
        }
        write_claims(&mut out, &self.claims);
        if let Some(per_slice) = &self.per_slice {
            let _ = writeln!(out, "\nPer slice. {PER_SLICE}\n");
            self.write_rows(&mut out, &per_slice.rows);
            write_claims(&mut out, &per_slice.claims);
        }
        for group in &self.groups {
            let _ = writeln!(out, "\nHeld-out cases of the list `{}` alone:\n", group.name);
            self.write_rows(&mut out, &group.rows);
            write_claims(&mut out, &group.claims);
        }
        let _ = writeln!(out, "\n{}", self.experiment.about_claims());
        out
    }

    /// The rows alone, as Markdown.
    pub fn rows_as_markdown(&self) -> String {
        let mut out = String::new();
        self.write_rows(&mut out, &self.rows);
        out.truncate(out.trim_end().len());
        out
    }

    fn write_rows(&self, out: &mut String, rows: &[Row]) {
        let columns = self.configuration.columns();
        let _ = write!(out, "|arm|");
        for TableColumn { heading, higher_is_better, .. } in &columns {
            let _ = write!(out, "{heading} {}|", if *higher_is_better { "↑" } else { "↓" });
        }
        let _ = writeln!(out, "n|undefined|\n|---|{}---:|---:|", "---:|".repeat(columns.len()));
        for row in rows {
            let _ = write!(out, "|{}|", self.row_name(row.arm));
            for TableColumn { name, .. } in &columns {
                let _ = match row.metrics.get(name).map(|m| (m.cell(), m.undefined_slices())) {
                    Some((cell, Some(undefined))) => write!(out, "{cell}, {undefined}|"),
                    Some((cell, None)) => write!(out, "{cell}|"),
                    None => write!(out, "–|"),
                };
            }
            let n = row.metrics.values().map(|m| m.n).max().unwrap_or(0);
            let undefined: usize = row.metrics.values().map(|m| m.undefined).sum();
            let _ = writeln!(out, "{n}|{undefined}|");
        }
        out.push('\n');
    }

    /// The rows as comma-separated values: arm, metric, of a whole case or per slice, mean and sd over cases, cases
    /// with and without a value, and slices.
    pub fn csv(&self) -> String {
        let mut out = format!("# {}\narm,metric,per,mean,sd,n,undefined,slices,slices_undefined\n", self.title().replace(',', ";"));
        let number = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v}"));
        let per_slice = self.per_slice.iter().flat_map(|per_slice| &per_slice.rows);
        for (per, row) in self.rows.iter().map(|row| ("case", row)).chain(per_slice.map(|row| ("slice", row))) {
            for (name, m) in &row.metrics {
                let slices = m.slices.map_or_else(|| ",".into(), |[n, undefined]| format!("{n},{undefined}"));
                let _ = writeln!(out, "{},{name},{per},{},{},{},{},{slices}", row.arm, number(m.mean), number(m.sd), m.n, m.undefined);
            }
        }
        out
    }
}

/// Explains the per-slice rows.
pub const PER_SLICE: &str = "Every slice is scored by itself, with HD95 in its plane, and averaged over seeds. Cells: mean (standard deviation) \
                             over held-out cases, each the mean over its slices that have a value. Slices without a value (the region is absent \
                             from the truth or from the prediction) are left out and counted. n and undefined count cases.";

/// How to read the claims.
const ABOUT_CLAIMS: &str = "A claim is shown if the 95 % interval of the paired difference supports it in every comparison, with p < 0.05 \
                                for each, contradicted if one interval excludes it with a corrected p < 0.05, and not shown otherwise. With \
                                fewer than six held-out patients, it is not measurable. The row gives the comparison that decides, or that \
                                supports the claim least; p is its two-sided Wilcoxon signed-rank test over held-out patients against the \
                                claim's limit, with Holm's correction over its comparisons.";

/// How to read the claims of the toy.
const ABOUT_TOY_CLAIMS: &str = "A claim is shown if it holds under every seed, contradicted if one comparison holds under none, and not shown otherwise. \
                                n counts seeds.";

impl Experiment {
    /// How to read its claims.
    pub fn about_claims(self) -> &'static str {
        if self == Experiment::Fig5 { ABOUT_TOY_CLAIMS } else { ABOUT_CLAIMS }
    }
}

fn write_claims(out: &mut String, claims: &[Claim]) {
    let _ = writeln!(out, "|claim|verdict|compared|difference|95 % interval|p|n|\n|---|---|---|---:|---|---:|---:|");
    for claim in claims {
        let _ = writeln!(out, "|{}|{}|{}|", claim.claim, claim.checked_verdict(), claim.cells().join("|"));
    }
}

impl MetricSummary {
    /// Mean and standard deviation as text.
    pub fn cell(&self) -> String {
        match (self.mean, self.sd) {
            (Some(mean), Some(sd)) => format!("{mean:.4} ({sd:.4})"),
            (Some(mean), None) => format!("{mean:.4}"),
            _ => "–".into(),
        }
    }

    /// The number of slices without a value as text, if there are any.
    pub fn undefined_slices(&self) -> Option<String> {
        let [n, undefined] = self.slices.filter(|[_, undefined]| *undefined > 0)?;
        Some(format!("{undefined} of {} slices undefined", n + undefined))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Verdict::Shown => "shown",
            Verdict::NotShown => "not shown",
            Verdict::Contradicted => "contradicted",
            Verdict::NotMeasurable => "not measurable",
        })
    }
}

impl Comparison {
    /// Both arms, the difference, its interval, p and the number of cases, as text.
    pub fn cells(&self) -> [String; 5] {
        let interval = self.interval.map_or_else(|| "–".into(), |[low, high]| format!("{low:+.4} to {high:+.4}"));
        let p = self.p.map_or_else(|| "–".into(), |p| format!("{p:.3}"));
        // The toy's overlapping arm is compared with itself: how far it is from either prediction.
        let compared = match self {
            Self { arm, other, .. } if arm == other => format!("{arm}: barycentre with mixture"),
            Self { arm, other, .. } => format!("{arm} with {other}"),
        };
        [compared, format!("{:+.4}", self.difference), interval, p, self.n.to_string()]
    }
}

impl Claim {
    /// The cells of the comparison that supports the claim least.
    pub fn cells(&self) -> [String; 5] {
        self.comparisons.first().map_or_else(|| [const { String::new() }; 5].map(|_| "–".into()), Comparison::cells)
    }
}

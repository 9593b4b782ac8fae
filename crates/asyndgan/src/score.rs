//! `asyndgan score`: scores segmentations from any source against the ground truth.

mod pairs;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Mutex,
};

use anyhow::{Context, Result, ensure};
use asyndgan_metrics::{Confusion, Convention, Overlaps, Profile, Scores, score_masks};
use clap::Args;
use rayon::prelude::*;

use self::{
    pairs::{Labels, Pair},
    table::{CaseRow, Report},
};
use crate::{figures::box_plot, progress::Progress, run_folder::write_text, stdout::print};

/// More labels than this suggest that they number instances, not classes.
const CLASSES_MAX: usize = 64;

#[derive(Args)]
#[command(after_help = "Examples:
  asyndgan score --truth labelsTs --prediction nnunet-output --out scores.json --plot scores.png
  asyndgan score --truth truth --prediction predicted --instances --out scores.csv
  asyndgan score --truth truth --prediction predicted --convention medpy --tolerance-mm 2

Files are matched by name without extension; masks may be NIfTI, NRRD, MetaImage, PNG or TIFF. Every label above 0 is a separate
class or, with --instances, an instance. Distances are in millimetres. PNG and TIFF have no spacing, so their distances are in pixels,
unless nnU-Net's spacing file is next to the mask. A volume of one slice is scored as a 2D image.")]
pub(crate) struct ScoreArguments {
    /// Folder of ground-truth masks, or one file.
    #[arg(long)]
    truth: PathBuf,
    /// Folder of predicted masks, one per ground-truth mask, or one file.
    #[arg(long)]
    prediction: PathBuf,
    /// Labels are instance numbers: compute AJI, AJI+, PQ, SQ, F1 and object Dice.
    #[arg(long)]
    instances: bool,
    /// Ignore label of the ground truth, as in nnU-Net: its voxels count as background in truth and prediction.
    #[arg(long, value_name = "LABEL")]
    ignore: Option<u32>,
    /// Convention where implementations of the metrics disagree: standard, paper, monai or medpy.
    #[arg(long, default_value = "standard")]
    convention: Profile,
    /// Tolerance of the normalised surface distance.
    #[arg(long, default_value_t = 1.0)]
    tolerance_mm: f64,
    /// Where to write all scores: .json or .csv.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where to draw a box plot of every metric: .png or .svg.
    #[arg(long)]
    plot: Option<PathBuf>,
}

pub(crate) fn score(arguments: &ScoreArguments) -> Result<()> {
    let ends = |path: &Option<PathBuf>, endings: [&str; 2]| {
        path.as_ref().is_none_or(|p| endings.iter().any(|e| p.extension().is_some_and(|x| x == *e)))
    };
    ensure!(ends(&arguments.out, ["json", "csv"]), "--out must end in .json or .csv");
    ensure!(ends(&arguments.plot, ["png", "svg"]), "--plot must end in .png or .svg");
    ensure!(arguments.tolerance_mm >= 0.0 && arguments.tolerance_mm.is_finite(), "--tolerance-mm must be 0 or more");
    ensure!(arguments.ignore != Some(0), "--ignore 0 would exclude the background; use the label of voxels that are not annotated");
    let pairs = pairs::find(&arguments.truth, &arguments.prediction)?;
    for path in arguments.out.iter().chain(&arguments.plot) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        ensure!(folder.is_none_or(std::path::Path::is_dir), "{}: its folder does not exist; create it first", path.display());
    }
    let found = check(&pairs, arguments.ignore)?;
    if let Some(warning) = found.disagreement().filter(|_| !arguments.instances) {
        eprintln!("{warning}");
    }
    let mut classes = found.classes();
    if classes.is_empty() {
        // Nothing is marked anywhere: the cases still count.
        classes.insert(1);
    }
    ensure!(
        arguments.instances || classes.len() <= CLASSES_MAX,
        "{} different labels: if they are instance numbers, use --instances",
        classes.len()
    );
    let convention = Convention::of(arguments.convention, "a file");
    let bar = Mutex::new((Progress::new("score", pairs.len() as u64), 0));
    let scored: Vec<(Vec<CaseRow>, Pooled)> = pairs
        .par_iter()
        .map(|pair| {
            let (truth, prediction) = pair.read(arguments.ignore)?;
            let all = if arguments.instances {
                Scored::instances(&truth, &prediction, &convention)
            } else {
                Scored::classes(&truth, &prediction, &classes, arguments.tolerance_mm, &convention)
            };
            if let Ok(mut bar) = bar.lock() {
                bar.1 += 1;
                let done = bar.1;
                bar.0.set(done);
            }
            Ok((all.rows.into_iter().map(|(class, scores)| CaseRow::new(&pair.case, class, &scores)).collect(), all.pooled))
        })
        .collect::<Result<_>>()?;
    drop(bar);
    let (mut rows, mut pooled) = (Vec::new(), Pooled::default());
    for (of_case, counts) in scored {
        rows.extend(of_case);
        pooled.add(counts);
    }
    let report = Report::new(rows, pooled.values(&convention), convention, arguments.tolerance_mm);
    print(&report.text())?;
    if let Some(path) = &arguments.out {
        let text = if path.extension().is_some_and(|e| e == "json") { serde_json::to_string_pretty(&report)? + "\n" } else { report.csv() };
        write_text(path, &text)?;
    }
    if let Some(path) = &arguments.plot {
        box_plot(&report.by_metric(), path).with_context(|| format!("cannot draw {}", path.display()))?;
    }
    Ok(())
}

/// Labels above 0 that masks hold, over all cases.
#[derive(Default)]
struct Found {
    truth: BTreeSet<u32>,
    prediction: BTreeSet<u32>,
}

impl Found {
    fn classes(&self) -> BTreeSet<u32> {
        &self.truth | &self.prediction
    }

    /// A warning if one side never has a label that the other has.
    fn disagreement(&self) -> Option<String> {
        let listed = |labels: &BTreeSet<u32>| {
            let all: Vec<String> = labels.iter().map(u32::to_string).collect();
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        };
        (self.truth != self.prediction).then(|| {
            let (truth, prediction) = (listed(&self.truth), listed(&self.prediction));
            format!("warning: the truth has the labels {truth}, predictions have {prediction}; if they mean the same classes, convert one")
        })
    }
}

/// Checks every pair before any is scored.
fn check(pairs: &[Pair], ignore: Option<u32>) -> Result<Found> {
    let of_pair = |pair: &Pair| {
        let (truth, prediction) = pair.read(ignore)?;
        Ok(Found { truth: labels_in(&truth), prediction: labels_in(&prediction) })
    };
    let found = pairs.par_iter().map(of_pair).collect::<Result<Vec<_>>>()?;
    Ok(found
        .into_iter()
        .fold(Found::default(), |all, one| Found { truth: &all.truth | &one.truth, prediction: &all.prediction | &one.prediction }))
}

fn labels_in(map: &Labels) -> BTreeSet<u32> {
    // Neighbours are mostly alike: only changes are looked up.
    let (mut labels, mut last) = (BTreeSet::new(), 0);
    for &label in &map.voxels {
        if label != last {
            labels.insert(label);
            last = label;
        }
    }
    labels.remove(&0);
    labels
}

/// The scores of one case, and its contribution to the pooled scores.
struct Scored {
    rows: Vec<(String, Scores)>,
    pooled: Pooled,
}

impl Scored {
    fn classes(truth: &Labels, prediction: &Labels, classes: &BTreeSet<u32>, tolerance_mm: f64, convention: &Convention) -> Self {
        let mut scored = Self { rows: Vec::new(), pooled: Pooled::default() };
        for &class in classes {
            let (truth_mask, prediction_mask) = (truth.voxels.mapv(|l| l == class), prediction.voxels.mapv(|l| l == class));
            let scores = score_masks(truth_mask.view(), prediction_mask.view(), &truth.spacing_mm, tolerance_mm, convention);
            scored.rows.push((class.to_string(), scores));
            scored.pooled.overlap.insert(class.to_string(), Confusion::of(truth_mask.view(), prediction_mask.view()));
        }
        scored
    }

    fn instances(truth: &Labels, prediction: &Labels, convention: &Convention) -> Self {
        let overlaps = Overlaps::of(truth.voxels.view(), prediction.voxels.view());
        let counts = (overlaps.aji(), overlaps.aji_plus(), overlaps.matching(0.5));
        Self {
            rows: vec![("instances".into(), overlaps.scores(convention))],
            pooled: Pooled { overlap: BTreeMap::new(), instances: vec![counts] },
        }
    }
}

/// Counts that add up over cases.
#[derive(Default)]
struct Pooled {
    overlap: BTreeMap<String, Confusion>,
    instances: Vec<(asyndgan_metrics::Aggregate, asyndgan_metrics::Aggregate, asyndgan_metrics::Matching)>,
}

impl Pooled {
    fn add(&mut self, other: Self) {
        for (class, counts) in other.overlap {
            let sum = self.overlap.entry(class).or_default();
            *sum = *sum + counts;
        }
        self.instances.extend(other.instances);
    }

    /// By class: the metrics of all cases taken together.
    fn values(&self, convention: &Convention) -> BTreeMap<String, Scores> {
        let of_counts = |n: &Confusion| {
            let values = [
                ("dice", n.dice()),
                ("jaccard", n.jaccard()),
                ("sensitivity", n.sensitivity()),
                ("specificity", n.specificity()),
                ("precision", n.precision()),
                ("volume_similarity", n.volume_similarity()),
            ];
            values.into_iter().map(|(name, value)| (name, convention.settle(value))).collect()
        };
        let mut values: BTreeMap<String, Scores> = self.overlap.iter().map(|(class, n)| (class.clone(), of_counts(n))).collect();
        if !self.instances.is_empty() {
            let aji: asyndgan_metrics::Aggregate = self.instances.iter().map(|i| i.0).sum();
            let aji_plus: asyndgan_metrics::Aggregate = self.instances.iter().map(|i| i.1).sum();
            let matching: asyndgan_metrics::Matching = self.instances.iter().map(|i| i.2).sum();
            let all =
                [("aji", aji.value()), ("aji_plus", aji_plus.value()), ("pq", matching.pq()), ("sq", matching.sq()), ("f1", matching.f1())];
            values.insert("instances".into(), all.into_iter().map(|(name, value)| (name, convention.settle(value))).collect());
        }
        values
    }
}

//! Scores segmentations from any source against the ground truth.

mod pairs;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Mutex,
};

use anyhow::{Result, ensure};
use asyndgan_metrics::{Confusion, Convention, ConventionName, Overlaps, Scores, score_masks};
use rayon::prelude::*;

pub use self::table::Report;
use self::{
    pairs::{Labels, Pair},
    table::CaseRow,
};
use crate::progress::Progress;

/// More labels than this suggest that they number instances, not classes.
const CLASSES_MAX: usize = 64;

/// How masks are scored.
///
/// # Example
/// ```no_run
/// use std::path::Path;
///
/// use asyndgan::score::{ScoreOptions, score_folders};
///
/// let scores = score_folders(Path::new("labelsTs"), Path::new("predictions"), &ScoreOptions::default())?;
/// println!("{}", scores.text());
/// # Ok::<(), asyndgan::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ScoreOptions {
    /// Labels are instance numbers: AJI, AJI+, PQ, SQ, F1 and object Dice instead of scores per class.
    pub instances: bool,
    /// Ignore label of the ground truth: its voxels count as background in truth and prediction.
    pub ignore: Option<u32>,
    /// The convention where implementations of the metrics disagree.
    pub convention: ConventionName,
    /// Tolerance of the normalised surface distance, in millimetres (pixels for pictures without a spacing).
    pub tolerance_mm: f64,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self { instances: false, ignore: None, convention: ConventionName::Standard, tolerance_mm: 1.0 }
    }
}

/// Scores masks in a folder, or one file, against ground truth. Files are matched by name without extension; masks may
/// be NIfTI, NRRD, MetaImage, PNG or TIFF.
///
/// # Errors
/// If a mask has no counterpart, cannot be read, or lies on another grid.
pub fn score_folders(truth: &Path, prediction: &Path, options: &ScoreOptions) -> Result<Report> {
    ensure!(options.tolerance_mm >= 0.0 && options.tolerance_mm.is_finite(), "the tolerance must be 0 mm or more");
    ensure!(options.ignore != Some(0), "label 0 would exclude the background; use the label of voxels that are not annotated");
    let pairs = pairs::find(truth, prediction)?;
    let found = check(&pairs, options.ignore)?;
    if let Some(warning) = found.disagreement().filter(|_| !options.instances) {
        tracing::warn!("{warning}");
    }
    let mut classes = found.classes();
    if classes.is_empty() {
        // Nothing is marked anywhere: the cases still count.
        classes.insert(1);
    }
    ensure!(
        options.instances || classes.len() <= CLASSES_MAX,
        "{} different labels: if they are instance numbers, use --instances",
        classes.len()
    );
    let convention = Convention::new(options.convention, "a file");
    let bar = Mutex::new((Progress::new("score", pairs.len() as u64), 0));
    let scored: Vec<(Vec<CaseRow>, Pooled)> = pairs
        .par_iter()
        .map(|pair| {
            let (truth, prediction) = pair.read(options.ignore)?;
            let all = if options.instances {
                Scored::instances(&truth, &prediction, &convention)
            } else {
                Scored::classes(&truth, &prediction, &classes, options.tolerance_mm, &convention)
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
    Ok(Report::new(rows, pooled.values(&convention), convention, options.tolerance_mm))
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
            format!("the truth has the labels {truth}, predictions have {prediction}; if they mean the same classes, convert one")
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
            scored.pooled.overlap.insert(class.to_string(), Confusion::new(truth_mask.view(), prediction_mask.view()));
        }
        scored
    }

    fn instances(truth: &Labels, prediction: &Labels, convention: &Convention) -> Self {
        let overlaps = Overlaps::new(truth.voxels.view(), prediction.voxels.view());
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
            values.into_iter().map(|(name, value)| (name, convention.apply(value))).collect()
        };
        let mut values: BTreeMap<String, Scores> = self.overlap.iter().map(|(class, n)| (class.clone(), of_counts(n))).collect();
        if !self.instances.is_empty() {
            let aji: asyndgan_metrics::Aggregate = self.instances.iter().map(|i| i.0).sum();
            let aji_plus: asyndgan_metrics::Aggregate = self.instances.iter().map(|i| i.1).sum();
            let matching: asyndgan_metrics::Matching = self.instances.iter().map(|i| i.2).sum();
            let all =
                [("aji", aji.value()), ("aji_plus", aji_plus.value()), ("pq", matching.pq()), ("sq", matching.sq()), ("f1", matching.f1())];
            values.insert("instances".into(), all.into_iter().map(|(name, value)| (name, convention.apply(value))).collect());
        }
        values
    }
}

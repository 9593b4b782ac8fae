use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Arm, Experiment, Profile, Run};

/// Where a run's images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataKind {
    /// Artificial patients or tiles.
    Phantom,
    /// BraTS patients.
    Brats,
    /// Tiles in the MoNuSeg layout.
    Monuseg,
    /// Volumes with masks in another layout than BraTS's.
    Volumes,
    /// Pictures with masks in another layout than MoNuSeg's.
    Pictures,
    /// The toy's three Gaussians.
    Toy,
}

impl DataKind {
    /// Its name in tables and reports.
    pub fn label(self) -> &'static str {
        match self {
            DataKind::Phantom => "PHANTOM DATA, artificial patients: not a medical result",
            DataKind::Brats => "BraTS patients",
            DataKind::Monuseg => "Multi-Organ nuclei tiles",
            DataKind::Volumes => "volumes with masks",
            DataKind::Pictures => "pictures with masks",
            DataKind::Toy => "three Gaussians",
        }
    }
}

/// A site's prepared cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedSite {
    /// The site's name in the published lists, or a number.
    pub name: String,
    /// Volumes or tiles, by name: two visits of one patient are two.
    pub patients: Vec<String>,
    /// Slices or patches cut from them.
    pub cases: usize,
}

/// The result of preparing data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Where the images come from.
    pub kind: DataKind,
    /// The sites, in order.
    pub sites: Vec<PreparedSite>,
    /// Held-out volumes or tiles.
    pub test: Vec<String>,
    /// The patient of each held-out volume or tile; empty where each is of another patient, or patients are unknown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub test_patients: BTreeMap<String, String>,
}

/// Messages of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindTraffic {
    /// How many.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Traffic between the server and one site, by kind of message.
pub type SiteTraffic = BTreeMap<String, KindTraffic>;

/// The record of training an arm's generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// Wall seconds of the last part.
    pub seconds: f64,
    /// The round that the last part began with: 0 unless the run was interrupted; seconds count from there, and bytes
    /// unless a ledger was kept, as a consortium's is.
    #[serde(alias = "counted_from_round")]
    pub resumed_from_round: u64,
    /// Traffic by site, from 1.
    pub bytes: BTreeMap<String, SiteTraffic>,
    /// Versions of the software that computed the last part, and the device; empty in records that predate this field.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// Events that change the result: sites that lost their state or were dismissed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
}

/// One case's metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseScores {
    /// The patient or tile.
    pub case: String,
    /// Values by metric; none where undefined.
    pub metrics: BTreeMap<String, Option<f64>>,
    /// Why a metric has no value.
    pub undefined: BTreeMap<String, String>,
    /// Metrics per slice; empty for pictures, and in records that predate this field.
    #[serde(default)]
    pub slices: Vec<BTreeMap<String, Option<f64>>>,
}

/// An arm's scores under one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmScores {
    /// The arm.
    pub arm: Arm,
    /// The seed.
    pub seed: u64,
    /// Number of images that the segmenter learned from.
    pub training_images: usize,
    /// Every held-out case.
    pub cases: Vec<CaseScores>,
    /// Wall seconds of segmenter and scoring.
    pub seconds: f64,
    /// Traffic of training the segmenter by site, from 1; empty unless it was trained at several sites.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bytes: BTreeMap<String, SiteTraffic>,
    /// Versions of the software that computed it, and the device; empty in records that predate this field.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
}

/// A metric over all held-out cases, each averaged over seeds first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricSummary {
    /// Mean over cases.
    pub mean: Option<f64>,
    /// Standard deviation over cases.
    pub sd: Option<f64>,
    /// 95 % bootstrap interval of the mean; none for a single case.
    pub interval: Option<[f64; 2]>,
    /// Cases with a value.
    pub n: usize,
    /// Cases without a value.
    pub undefined: usize,
    /// Slices with and without a value, where a case's value is the mean over its slices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<[usize; 2]>,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The arm.
    pub arm: Arm,
    /// Its metrics.
    pub metrics: BTreeMap<String, MetricSummary>,
}

/// The verdict on a claim, from the intervals and p-values of its comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every comparison's interval supports it, and each p-value without correction is below 0.05.
    Shown,
    /// Neither shown nor contradicted.
    NotShown,
    /// The interval of at least one comparison excludes it, and its corrected p-value is below 0.05.
    Contradicted,
    /// A row is missing, or a comparison has fewer than six held-out patients: with so few, no p-value is below 0.05.
    NotMeasurable,
}

/// One arm against another, paired by held-out case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The arm that the claim is about.
    pub arm: Arm,
    /// The arm that it is compared with.
    pub other: Arm,
    /// Mean paired difference, `arm` minus `other`.
    pub difference: f64,
    /// Its 95 % bootstrap interval over patients; none for a single case.
    pub interval: Option<[f64; 2]>,
    /// Pairs: patients with a value in both arms.
    pub n: usize,
    /// Two-sided p-value of the Wilcoxon signed-rank test against the claim's limit, with Holm's correction over the
    /// claim's comparisons; none where it is undefined.
    pub p: Option<f64>,
}

/// A claim of the paper, compared with the run's scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The claim in words.
    pub claim: String,
    /// The joint verdict of its comparisons.
    pub verdict: Verdict,
    /// The comparisons that it consists of; the one that supports it least comes first.
    pub comparisons: Vec<Comparison>,
}

impl Claim {
    /// The verdict, by today's rule: in records of an earlier version without p-values, no claim about cases is shown.
    pub fn checked_verdict(&self) -> Verdict {
        let lacks_p = self.comparisons.iter().any(|c| c.interval.is_some() && c.p.is_none());
        if self.verdict == Verdict::Shown && lacks_p { Verdict::NotShown } else { self.verdict }
    }
}

/// A table's rows and claims by slices: a case's value is the mean over its slices that have one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerSlice {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// The claims.
    pub claims: Vec<Claim>,
    /// The metrics' convention.
    pub convention: BTreeMap<String, String>,
}

/// A table's rows and claims for one list of held-out cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupTable {
    /// The list's name.
    pub name: String,
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// The claims.
    pub claims: Vec<Claim>,
}

/// The data of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// Where the images come from.
    pub kind: DataKind,
    /// Training volumes or tiles.
    pub train_cases: usize,
    /// Held-out volumes or tiles.
    pub test_cases: usize,
    /// The sites.
    pub sites: Vec<PreparedSite>,
}

/// How an arm's synthetic images compare with real ones, by the features of the segmenter that learnt from all real
/// images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageQuality {
    /// The arm; none for the real images of held-out cases, which show what the numbers mean.
    pub arm: Option<Arm>,
    /// Images that were compared, with as many real training images.
    pub images: usize,
    /// Fréchet distance.
    pub fid: Option<f64>,
    /// Kernel distance.
    pub kid: Option<f64>,
    /// Share of them that resemble real images.
    pub precision: Option<f64>,
    /// Share of the real ones that they cover.
    pub recall: Option<f64>,
    /// Distance to the nearest crop of all real training images: 5th percentile and median.
    pub nearest_real: Option<[f64; 2]>,
    /// Why a measure has no value.
    pub undefined: BTreeMap<String, String>,
}

/// The record of a whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The experiment.
    pub experiment: Experiment,
    /// Its profile.
    pub profile: Profile,
    /// The data.
    pub data: Data,
    /// Whether it was scored on patients of the training sites, which serves to choose settings.
    pub validation: bool,
    /// Seeds of the run.
    pub seeds: Vec<u64>,
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// The claims.
    pub claims: Vec<Claim>,
    /// The same per slice; `None` for pictures.
    pub per_slice: Option<PerSlice>,
    /// The same for each list of held-out cases, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupTable>,
    /// Synthetic images compared with real ones, for the first seed; empty without the arm RealAll.
    pub image_quality: Vec<ImageQuality>,
    /// Mean of the first metric by rounds of the generator, under the first seed.
    pub curve: Vec<(u64, Option<f64>)>,
    /// The metrics' convention.
    pub convention: BTreeMap<String, String>,
    /// Traffic by seed and arm, site, and kind of message.
    pub bytes: BTreeMap<String, BTreeMap<String, SiteTraffic>>,
    /// Wall seconds by seed and arm, training and evaluation together.
    pub seconds: BTreeMap<String, f64>,
    /// Rounds from which bytes and seconds of interrupted trainings count, by seed and arm; 0 unless interrupted.
    #[serde(alias = "counted_from_round")]
    pub resumed_from_round: BTreeMap<String, u64>,
    /// Wall seconds by subcommand, over all arms and seeds; empty if no runner recorded them.
    #[serde(alias = "spent")]
    pub seconds_by_step: BTreeMap<String, f64>,
    /// Days on which the scores were computed, in order.
    pub dates: Vec<String>,
    /// Versions of the software that computed it, and the device; several values if they changed during the run,
    /// "unknown" for parts without a record.
    pub versions: BTreeMap<String, String>,
    /// The whole configuration.
    pub configuration: Run,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_from_before_slices_were_scored_are_read() {
        let old = r#"{"case": "a", "metrics": {"dice": 0.5}, "undefined": {}}"#;
        assert!(serde_json::from_str::<CaseScores>(old).is_ok_and(|case| case.slices.is_empty()));
    }
}

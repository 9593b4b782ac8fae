//! What an audit of a run found.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

/// The results of an audit, as written beside its page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// The name of the data set or task.
    pub data: String,
    /// The seed of the audited arm.
    pub seed: u64,
    /// Patients whose images were used, and held-out ones.
    pub patients: [usize; 2],
    /// Patients whose images were used and who are tested; 0 in records that predate this field, in which all are.
    #[serde(default)]
    pub tested: usize,
    /// Cases that are left out, because their patient is not known.
    pub unknown_patients: usize,
    /// Attacks that tell patients whose images were used from others.
    pub membership: Vec<MembershipRecord>,
    /// Attacks on the masks that leave a site, by what is done to them.
    pub masks: Vec<MembershipRecord>,
    /// Attacks that guess an attribute of a patient from the masks that leave a site; empty in records that predate
    /// this field.
    #[serde(default)]
    pub attributes: Vec<AttributeRecord>,
    /// How close synthetic images come to training images.
    pub copies: Option<CopiesRecord>,
    /// Attempts to reconstruct images from feedback.
    pub reconstruction: Vec<ReconstructionRecord>,
    /// Attacks that were left out, with the reason.
    pub left_out: Vec<String>,
    /// The software that computed the audit.
    pub versions: BTreeMap<String, String>,
}

impl AuditRecord {
    /// The tables of the page, for the guide: without pictures, which show patients.
    pub fn as_markdown(&self) -> String {
        let mut out = String::from("|attacker has|used / others|AUC (95 % interval)|TPR at 1 % FPR (95 % interval)|\n|---|---|---|---|\n");
        let interval = |value: f64, [low, high]: [f64; 2]| format!("{value:.2} ({low:.2} to {high:.2})");
        for test in self.membership.iter().chain(&self.masks) {
            let [used, others] = test.counts;
            let auc = interval(test.auc, test.auc_interval);
            let rate = interval(test.true_positive_rate, test.true_positive_rate_interval);
            let _ = writeln!(out, "|{}|{used} / {others}|{auc}|{rate}|", test.attack);
        }
        if !self.attributes.is_empty() {
            out.push_str("\n|attacker has|guesses|used / others|rank correlation, used (95 % interval)|others (95 % interval)|\n");
            out.push_str("|---|---|---|---|---|\n");
        }
        for found in &self.attributes {
            let [used, others] = found.counts;
            let (own, other) = (interval(found.correlation, found.interval), interval(found.of_others, found.of_others_interval));
            let _ = writeln!(out, "|{}|{}|{used} / {others}|{own}|{other}|", found.attack, found.attribute);
        }
        if let Some(found) = &self.copies {
            out.push_str("\n|images|number|median similarity to the nearest training image|95th percentile|\n|---|---|---|---|\n");
            for (name, count, [median, high]) in
                [("synthetic", found.images[0], found.synthetic), ("held out", found.images[1], found.held_out)]
            {
                let _ = writeln!(out, "|{name}|{count}|{median:.3}|{high:.3}|");
            }
            let _ = writeln!(
                out,
                "\n{:.1} % of the synthetic images are above the 99th percentile of held-out ones.",
                100.0 * found.above_held_out
            );
        }
        if !self.reconstruction.is_empty() {
            out.push_str("\n|recipe and defence|the server|images|rounds|correlation, own / other|PSNR in dB, attack / blind|SSIM, attack / blind|\n");
            out.push_str("|---|---|---|---|---|---|---|\n");
        }
        for found in &self.reconstruction {
            let ReconstructionRecord { setting, attack, rounds, images, own, other, interval, psnr, ssim } = found;
            let _ = writeln!(
                out,
                "|{setting}|{attack}|{images}|{rounds}|{own:.2} / {other:.2} (difference {:.2} to {:.2})|{:.1} / {:.1}|{:.2} / {:.2}|",
                interval[0], interval[1], psnr[0], psnr[1], ssim[0], ssim[1]
            );
        }
        for reason in &self.left_out {
            let _ = writeln!(out, "\n|left out|\n|---|\n|{reason}|");
        }
        out
    }
}

/// The result of one membership attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MembershipRecord {
    /// What the attacker has and does.
    pub attack: String,
    /// Number of members and of others.
    pub counts: [usize; 2],
    /// The probability that a member has a higher score than another patient.
    pub auc: f64,
    /// Its 95 % interval.
    pub auc_interval: [f64; 2],
    /// The share of members that are found at 1 % false positives.
    pub true_positive_rate: f64,
    /// Its 95 % interval.
    pub true_positive_rate_interval: [f64; 2],
}

impl MembershipRecord {
    /// Whether the attack is better than a guess, as far as the number of patients shows.
    pub fn is_better_than_guessing(&self) -> bool {
        self.auc_interval[0] > 0.5
    }
}

/// The result of guessing an attribute of patients from the masks that leave a site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttributeRecord {
    /// What the attacker has.
    pub attack: String,
    /// What is guessed.
    pub attribute: String,
    /// Number of patients whose masks left, and of others.
    pub counts: [usize; 2],
    /// Spearman's correlation of guesses and truth, over patients whose masks left.
    pub correlation: f64,
    /// Its 95 % interval.
    pub interval: [f64; 2],
    /// The same for other patients: what the masks give away in general.
    pub of_others: f64,
    /// Its 95 % interval.
    pub of_others_interval: [f64; 2],
}

impl AttributeRecord {
    /// Whether more is known about patients whose masks left than about others, as far as the number of patients shows.
    pub fn is_better_than_for_others(&self) -> bool {
        self.interval[0] > self.of_others_interval[1]
    }
}

/// How close synthetic images come to training images, compared with held-out images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopiesRecord {
    /// Synthetic and held-out images.
    pub images: [usize; 2],
    /// Similarity of synthetic images to the most similar training image: median and 95th percentile, from -1 to 1.
    pub synthetic: [f64; 2],
    /// The same for held-out images.
    pub held_out: [f64; 2],
    /// The share of synthetic images that are more similar to a training image than 99 % of the held-out images are.
    pub above_held_out: f64,
    /// SSIM of the most similar pair.
    pub worst_ssim: Option<f64>,
}

/// The result of one attempt to reconstruct images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReconstructionRecord {
    /// The recipe and its defences.
    pub setting: String,
    /// What the server does.
    pub attack: String,
    /// Rounds of the attack.
    pub rounds: u64,
    /// Number of images.
    pub images: usize,
    /// Correlation with the own image of what cannot be known blindly; 0 is nothing, 1 is everything.
    pub own: f64,
    /// The same with other images of the site.
    pub other: f64,
    /// The 95 % interval of the difference of both, over images.
    pub interval: [f64; 2],
    /// Mean PSNR in dB of the reconstruction, and of the best blind guess: the mean of the other images.
    pub psnr: [f64; 2],
    /// Mean SSIM of both.
    pub ssim: [f64; 2],
}

impl ReconstructionRecord {
    /// Whether the attack recovers more of the own images than of others, as far as the number of images shows.
    pub fn finds_traces(&self) -> bool {
        self.interval[0] > 0.0
    }

    /// Whether most of what is recovered is the own image.
    pub fn recovers(&self) -> bool {
        self.own > 0.5
    }
}

use asyndgan_privacy::MembershipTest;
use serde::{Deserialize, Serialize};

/// The results of an audit, as written beside its page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// The name of the data set or task.
    pub data: String,
    /// The seed of the audited arm.
    pub seed: u64,
    /// Patients whose images were used, and held-out ones.
    pub patients: [usize; 2],
    /// Cases that are left out, because their patient is not known.
    pub unknown_patients: usize,
    /// Attacks that tell patients whose images were used from others.
    pub membership: Vec<MembershipRecord>,
    /// Attacks on the masks that leave a site, by what is done to them.
    pub masks: Vec<MembershipRecord>,
    /// How close synthetic images come to training images.
    pub copies: Option<CopiesRecord>,
    /// Attempts to reconstruct images from feedback.
    pub reconstruction: Vec<ReconstructionRecord>,
    /// Attacks that were left out, with the reason.
    pub left_out: Vec<String>,
    /// The software that computed the audit.
    pub versions: std::collections::BTreeMap<String, String>,
}

/// The result of one membership attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
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
    /// The record of a test.
    pub(crate) fn new(attack: impl Into<String>, test: MembershipTest) -> Self {
        let MembershipTest { counts, auc, auc_interval, true_positive_rate, true_positive_rate_interval, .. } = test;
        Self { attack: attack.into(), counts, auc, auc_interval, true_positive_rate, true_positive_rate_interval }
    }

    /// Whether the attack is better than a guess, as far as the number of patients shows.
    pub fn is_better_than_guessing(&self) -> bool {
        self.auc_interval[0] > 0.5
    }
}

/// How close synthetic images come to training images, compared with held-out images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
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
#[non_exhaustive]
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
    /// Mean PSNR in dB of the reconstruction, and of the best blind guess: the mean of the other images.
    pub psnr: [f64; 2],
    /// Mean SSIM of both.
    pub ssim: [f64; 2],
}

impl ReconstructionRecord {
    /// Whether the attack recovers more of the own images than a blind guess.
    pub fn succeeds(&self) -> bool {
        self.own > 0.1 && self.own > self.other + 0.1
    }
}

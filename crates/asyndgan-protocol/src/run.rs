use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Augmentation, Dtype, Error, Role, SiteId, SiteRandomness, SiteSummary, Symmetry, batches::draw_augmentations_from, draw_augmentations,
    draw_cases, draw_real_cases,
};

/// The largest size of one site's masks.
pub const CONDITION_BYTES_MAX: u64 = 1 << 30;
/// The largest size of one site's batch, in 32-bit floats.
pub const BATCH_BYTES_MAX: u64 = 48 << 20;
/// The largest number of cases of one site.
const CASES_MAX: u32 = 1 << 24;

/// How sites are weighted against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// Every site weighs its share of all cases (equation 2).
    Proportional,
    /// Every site weighs the same (the public code).
    Uniform,
}

impl Weighting {
    /// The weights pi of sites with these numbers of cases; they sum to 1.
    ///
    /// # Reference
    /// Equations 2 and 3.
    pub fn weights(self, cases: &[u32]) -> Vec<f64> {
        let all: f64 = cases.iter().map(|&n| f64::from(n)).sum();
        match self {
            Weighting::Proportional => cases.iter().map(|&n| f64::from(n) / all).collect(),
            Weighting::Uniform => vec![1.0 / cases.len() as f64; cases.len()],
        }
    }
}

/// Whom a round waits for.
///
/// # Reference
/// The paper waits for all; the other two are our extensions, and what they end with depends on who was quick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// Every site, however long it takes: the same seed gives the same generator.
    All,
    /// Every site that was here when the round began, until the deadline; then those who answered, as soon as they are enough. Late answers
    /// are dropped. Whoever comes in the midst of a round is asked if the others are too few, or too slow.
    Quorum {
        /// How many sites make a round.
        sites: u32,
        /// How long the others are waited for, counted from the round's first synthetic images.
        deadline_ms: u64,
    },
    /// So many answers, fresh or late; but nobody who is here falls back by more than so many rounds. Late answers count, and
    /// whoever comes is asked at once.
    Staleness {
        /// How many answers make a round.
        sites: u32,
        /// How many rounds an answer may be late.
        rounds: u64,
    },
}

impl Waiting {
    /// How many of `sites` sites must be here for the run to go on.
    pub fn needed(self, sites: u32) -> u32 {
        match self {
            Waiting::All => sites,
            Waiting::Quorum { sites: k, .. } | Waiting::Staleness { sites: k, .. } => k.clamp(1, sites.max(1)),
        }
    }
}

/// What a server tells every site about the run before it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunDescription {
    /// What the consortium calls it.
    pub name: String,
    /// Seed of every stream.
    pub seed: u64,
    /// Rounds of the whole run.
    pub rounds: u64,
    /// Pairs a site sees in a round.
    pub batch: u32,
    /// Channels of an image, or values of data that are no images.
    pub channels: u32,
    /// Rows and columns of every site's stored images: of another size they would be of another scale. Zero for data that are no images.
    pub size: u32,
    /// Rows and columns that networks see, cut out of the stored ones. Zero for data that are no images.
    pub crop: u32,
    /// How pairs are turned at random.
    pub symmetry: Symmetry,
    /// Weights of the sites.
    pub weighting: Weighting,
    /// Weight of the L1 term between synthetic and real images; 0 is adversarial only.
    ///
    /// The gradient of this term is the sign of (synthetic - real) for every pixel: a server that chooses its synthetic images
    /// can read real images back from it within a few rounds.
    pub l1_weight: f64,
    /// Both ends keep a checkpoint after every so many rounds, and after the last.
    pub checkpoint_every: u64,
    /// Whom a round waits for.
    pub waiting: Waiting,
    /// How synthetic images travel.
    pub synthetic_dtype: Dtype,
    /// How feedback travels.
    pub feedback_dtype: Dtype,
    /// Threads of one operation at a site: sums depend on it.
    pub site_threads: u32,
    /// The sites' network and optimiser, as whoever computes understands it.
    pub networks: String,
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What one round shows at a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundDraw {
    /// The masks that the synthetic images were made from; server and site draw them alike.
    pub conditions: Draw,
    /// The real images beside them. The server learns nothing of these, unless the run has an L1 term, which compares each synthetic image
    /// with the real one of its mask, or the site draws from the run's seed.
    pub real: Draw,
}

/// A site's part of one round's draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    /// Whose.
    pub site: SiteId,
    /// Indices of the site's cases.
    pub cases: Vec<u32>,
    /// Crop and flips of each.
    pub augmentations: Vec<Augmentation>,
}

impl RunDescription {
    /// Whether this run and a site's images belong together; both ends look, for the other can be wrong.
    ///
    /// # Errors
    /// [`Error::NoCases`], [`Error::ImageDims`], [`Error::TooMany`], or [`Error::Unbounded`].
    pub fn check(&self, site: SiteId, summary: &SiteSummary) -> Result<(), Error> {
        let SiteSummary { cases, image_dims, .. } = summary;
        if *cases == 0 {
            return Err(Error::NoCases { site });
        }
        let fits = match (self.size, self.crop) {
            (0, 0) => image_dims[..] == [self.channels],
            (size, crop) => (1..=size).contains(&crop) && image_dims[..] == [self.channels, size, size],
        };
        if !fits {
            return Err(Error::ImageDims { site, found: image_dims.clone(), channels: self.channels, size: self.size, crop: self.crop });
        }
        let found = image_dims[1..].iter().fold(u64::from(*cases), |n, &d| n.saturating_mul(d.into()));
        if found > CONDITION_BYTES_MAX || *cases > CASES_MAX {
            return Err(Error::TooMany { site, found, limit: CONDITION_BYTES_MAX });
        }
        let batch = self.batch_dims(image_dims).iter().fold(4_u64, |n, &d| n.saturating_mul(d.into()));
        if self.batch == 0 || batch > BATCH_BYTES_MAX || !(1..=1024).contains(&self.site_threads) {
            return Err(Error::Unbounded { batch: self.batch, bytes: batch, limit: BATCH_BYTES_MAX, threads: self.site_threads });
        }
        Ok(())
    }

    /// Whether both ends keep a checkpoint after so many rounds.
    pub fn is_checkpoint(&self, rounds_done: u64) -> bool {
        rounds_done == self.rounds || (self.checkpoint_every > 0 && rounds_done.is_multiple_of(self.checkpoint_every))
    }

    /// Dimensions of a round's batch of images of one site.
    pub fn batch_dims(&self, image_dims: &[u32]) -> Vec<u32> {
        match *image_dims {
            [channels, ..] if image_dims.len() == 3 => vec![self.batch, channels, self.crop, self.crop],
            _ => [&[self.batch], image_dims].concat(),
        }
    }

    /// What a round shows of a site's cases: both ends work it out for themselves.
    pub fn draw(&self, site: SiteId, round: u64, summary: &SiteSummary) -> Draw {
        let margin = self.margin(summary);
        let cases = draw_cases(self.seed, site.0, round, self.batch, summary.cases);
        let augmentations = draw_augmentations(self.seed, site.0, round, self.batch, margin, self.symmetry);
        Draw { site, cases, augmentations }
    }

    /// Rows and columns of a stored image beyond the crop.
    fn margin(&self, summary: &SiteSummary) -> [u32; 2] {
        match summary.image_dims[..] {
            [_, rows, columns] => [rows.saturating_sub(self.crop), columns.saturating_sub(self.crop)],
            _ => [0, 0],
        }
    }

    /// What a round shows at a site, its real images included: only the site can work this out, where it has a secret.
    ///
    /// `patients` has the patient of each case; a batch shows at least `patients_min` of them.
    pub fn round_draw(
        &self,
        site: SiteId,
        round: u64,
        summary: &SiteSummary,
        randomness: &SiteRandomness,
        patients: &[u32],
        patients_min: u32,
    ) -> RoundDraw {
        let conditions = self.draw(site, round, summary);
        if *randomness == SiteRandomness::Seed || self.l1_weight != 0.0 {
            return RoundDraw { real: conditions.clone(), conditions };
        }
        let mut rng = randomness.stream(self, Role::Real, site, round);
        let cases = draw_real_cases(&mut rng, self.batch, patients, patients_min);
        let augmentations = draw_augmentations_from(&mut rng, self.batch, self.margin(summary), self.symmetry);
        RoundDraw { conditions, real: Draw { site, cases, augmentations } }
    }

    /// The run's identity: SHA-256 of the whole description. A description that differs in anything is another run.
    ///
    /// # Panics
    /// Never: every description can be encoded.
    pub fn sha256(&self) -> [u8; 32] {
        let bytes = postcard::to_stdvec(self).expect("descriptions hold nothing that cannot be encoded");
        Sha256::digest(bytes).into()
    }

    /// The first 16 digits of the run's identity: the name of its checkpoints' folder.
    pub fn id(&self) -> String {
        hex(&self.sha256()[..8])
    }

    /// Bytes of one site's synthetic images, and of its feedback, in a round.
    pub fn round_bytes(&self, image_dims: &[u32]) -> (u64, u64) {
        let elements: u64 = self.batch_dims(image_dims).iter().map(|&d| u64::from(d)).product();
        (elements * self.synthetic_dtype.bytes(), elements * self.feedback_dtype.bytes())
    }
}

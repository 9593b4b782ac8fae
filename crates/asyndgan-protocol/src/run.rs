use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Augmentation, Dtype, Error, Role, SiteId, SiteRandomness, SiteSummary, Symmetry, batches::draw_augmentations_from, draw_augmentations,
    draw_cases, draw_real_cases,
};

/// Maximum size of one site's masks.
pub const CONDITION_BYTES_MAX: u64 = 1 << 30;
/// Maximum size of one site's batch, in bytes as 32-bit floats.
pub const BATCH_BYTES_MAX: u64 = 48 << 20;
/// The largest number of cases of one site.
const CASES_MAX: u32 = 1 << 24;

/// How sites are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// Each site's weight is its share of all cases (equation 2).
    Proportional,
    /// All sites have the same weight (as in the public code).
    Uniform,
}

impl Weighting {
    /// The weights pi for sites with these numbers of cases; they sum to 1.
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

/// Which sites a round waits for.
///
/// # Reference
/// The paper waits for all sites. The other two are our extensions; their results depend on which sites answered first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// All sites, however long that takes. The same seed gives the same generator.
    All,
    /// All sites that were connected when the round began, until the deadline. After the deadline the round ends as
    /// soon as enough sites have answered. Late answers are discarded. A site that joins during a round takes part in
    /// it only if the others are too few or too slow.
    Quorum {
        /// Number of sites required for a round.
        sites: u32,
        /// How long to wait for the other sites, from the time when the round's first synthetic images are ready.
        deadline_ms: u64,
    },
    /// A number of answers, current or late, but no connected site may fall behind by more than `rounds`. Late answers
    /// count, and a site that joins takes part at once.
    Staleness {
        /// Number of answers required for a round.
        sites: u32,
        /// Maximum number of rounds by which an answer may be late.
        rounds: u64,
    },
}

impl Waiting {
    /// How many of `sites` sites must be connected for the run to continue.
    pub fn needed(self, sites: u32) -> u32 {
        match self {
            Waiting::All => sites,
            Waiting::Quorum { sites: k, .. } | Waiting::Staleness { sites: k, .. } => k.clamp(1, sites.max(1)),
        }
    }
}

/// The description of a run that the server sends to every site before the run begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunDescription {
    /// The consortium's name for the run.
    pub name: String,
    /// Seed of every stream.
    pub seed: u64,
    /// Rounds of the whole run.
    pub rounds: u64,
    /// Pairs per site and round.
    pub batch: u32,
    /// Channels of an image, or number of values for data that are not images.
    pub channels: u32,
    /// Rows and columns of every site's stored images; a different size would mean a different scale. Zero for data
    /// that are not images.
    pub size: u32,
    /// Rows and columns of the crops that the networks see. Zero for data that are not images.
    pub crop: u32,
    /// How pairs are flipped and rotated at random.
    pub symmetry: Symmetry,
    /// Weights of the sites.
    pub weighting: Weighting,
    /// Weight of the L1 term between synthetic and real images; 0 means adversarial only.
    ///
    /// The gradient of this term is the sign of (synthetic - real) for every pixel. A server that chooses its synthetic
    /// images can reconstruct real images from it within a few rounds.
    pub l1_weight: f64,
    /// Both ends write a checkpoint whenever this many rounds have passed, and after the last round.
    pub checkpoint_every: u64,
    /// Which sites a round waits for.
    pub waiting: Waiting,
    /// Element type of synthetic images in transit.
    pub synthetic_dtype: Dtype,
    /// Element type of feedback in transit.
    pub feedback_dtype: Dtype,
    /// Threads per operation at a site. Floating-point sums depend on this number.
    pub site_threads: u32,
    /// The sites' network and optimiser, in a format that only the worker interprets.
    pub networks: String,
}

/// Formats bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The draws of one round at a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundDraw {
    /// The masks from which the synthetic images were generated. Server and site compute the same draw.
    pub conditions: Draw,
    /// The real images of the round. The server does not know this draw, unless the run has an L1 term, which compares
    /// each synthetic image with the real image of its mask, or the site draws from the run's seed. Empty in a run with
    /// differential privacy, where the worker draws patients.
    pub real: Draw,
}

/// A site's part of one round's draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    /// The site.
    pub site: SiteId,
    /// Indices of the site's cases.
    pub cases: Vec<u32>,
    /// Crop and flips of each.
    pub augmentations: Vec<Augmentation>,
}

impl RunDescription {
    /// A run of `rounds` rounds on data with one value per case. All other fields have their simplest values: seed 0,
    /// one pair per site and round, no augmentation, weights by the number of cases, no L1 term, a checkpoint every 100
    /// rounds, 32-bit floats, one thread, and no networks. For images, set `channels`, `size` and `crop`. The default
    /// policy of a site also requires a batch of at least 2 and a symmetry.
    ///
    /// # Example
    /// ```
    /// use asyndgan_protocol::{RunDescription, Symmetry};
    /// let mut run = RunDescription::new("pilot", 1_000);
    /// (run.channels, run.size, run.crop) = (1, 143, 128);
    /// run.symmetry = Symmetry::Flips;
    /// ```
    pub fn new(name: impl Into<String>, rounds: u64) -> Self {
        Self {
            name: name.into(),
            seed: 0,
            rounds,
            batch: 1,
            channels: 1,
            size: 0,
            crop: 0,
            symmetry: Symmetry::None,
            weighting: Weighting::Proportional,
            l1_weight: 0.0,
            checkpoint_every: 100,
            waiting: Waiting::All,
            synthetic_dtype: Dtype::F32,
            feedback_dtype: Dtype::F32,
            site_threads: 1,
            networks: String::new(),
        }
    }

    /// This configuration with changed fields.
    ///
    /// # Example
    /// ```
    /// use asyndgan_protocol::RunDescription;
    /// let run = RunDescription::new("pilot", 1_000).with(|run| run.batch = 4);
    /// assert_eq!(run.batch, 4);
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Checks that this run and a site's images are compatible. Both ends check, because the other end can be wrong.
    ///
    /// # Errors
    /// [`Error::NoCases`], [`Error::ImageDims`], [`Error::TooManyCases`], [`Error::ConditionsTooLarge`], or
    /// [`Error::RunLimits`].
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
        if *cases > CASES_MAX {
            return Err(Error::TooManyCases { site, found: *cases, limit: CASES_MAX });
        }
        if found > CONDITION_BYTES_MAX {
            return Err(Error::ConditionsTooLarge { site, found, limit: CONDITION_BYTES_MAX });
        }
        let batch = self.batch_dims(image_dims).iter().fold(4_u64, |n, &d| n.saturating_mul(d.into()));
        if self.batch == 0 || batch > BATCH_BYTES_MAX || !(1..=1024).contains(&self.site_threads) {
            return Err(Error::RunLimits { batch: self.batch, bytes: batch, limit: BATCH_BYTES_MAX, threads: self.site_threads });
        }
        Ok(())
    }

    /// Whether both ends write a checkpoint after this many rounds.
    pub fn is_checkpoint(&self, rounds_done: u64) -> bool {
        rounds_done == self.rounds || (self.checkpoint_every > 0 && rounds_done.is_multiple_of(self.checkpoint_every))
    }

    /// Dimensions of one site's batch of images in a round.
    pub fn batch_dims(&self, image_dims: &[u32]) -> Vec<u32> {
        match *image_dims {
            [channels, ..] if image_dims.len() == 3 => vec![self.batch, channels, self.crop, self.crop],
            _ => [&[self.batch], image_dims].concat(),
        }
    }

    /// The site's cases whose masks a round uses. Each end computes this independently.
    pub fn draw(&self, site: SiteId, round: u64, summary: &SiteSummary) -> Draw {
        let margin = self.margin(summary);
        let cases = draw_cases(self.seed, site.0, round, self.batch, summary.cases);
        let augmentations = draw_augmentations(self.seed, site.0, round, self.batch, margin, self.symmetry);
        Draw { site, cases, augmentations }
    }

    /// Rows and columns of a stored image beyond the crop.
    pub(crate) fn margin(&self, summary: &SiteSummary) -> [u32; 2] {
        match summary.image_dims[..] {
            [_, rows, columns] => [rows.saturating_sub(self.crop), columns.saturating_sub(self.crop)],
            _ => [0, 0],
        }
    }

    /// The draws of a round at a site, including its real images. If the site has a secret, only the site can compute
    /// this.
    ///
    /// `patients` holds the patient of each case; a batch shows at least `patients_min` of them.
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

    /// The run's identity: SHA-256 of the whole description. Any difference in the description makes it a different
    /// run.
    ///
    /// # Panics
    /// Never: every description can be encoded.
    pub fn sha256(&self) -> [u8; 32] {
        let bytes = postcard::to_stdvec(self).expect("descriptions hold nothing that cannot be encoded");
        Sha256::digest(bytes).into()
    }

    /// The first 16 hexadecimal digits of the run's identity: the name of its checkpoint folder.
    pub fn id(&self) -> String {
        hex(&self.sha256()[..8])
    }

    /// Bytes of one site's synthetic images and of its feedback in a round, in this order.
    pub fn round_bytes(&self, image_dims: &[u32]) -> (u64, u64) {
        let elements: u64 = self.batch_dims(image_dims).iter().map(|&d| u64::from(d)).product();
        (elements * self.synthetic_dtype.bytes(), elements * self.feedback_dtype.bytes())
    }
}

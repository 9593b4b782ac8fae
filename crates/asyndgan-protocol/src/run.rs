use serde::{Deserialize, Serialize};

use crate::Error;

/// How sites are weighted against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// What a server tells every site about the run before it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunDescription {
    /// Seed of every stream.
    pub seed: u64,
    /// Rounds of the whole run.
    pub rounds: u64,
    /// Pairs a site sees in a round.
    pub batch: u32,
    /// Rows and columns that networks see; stored pairs may be larger, they are cropped. Zero for data that are no images.
    pub crop: u32,
    /// Whether pairs are mirrored at random.
    pub flips: bool,
    /// Weights of the sites.
    pub weighting: Weighting,
    /// Weight of the L1 term between synthetic and real images; 0 is adversarial only.
    ///
    /// The gradient of this term is the sign of (synthetic - real) for every pixel: a server that chooses its synthetic images
    /// can read real images back from it within a few rounds.
    pub l1_weight: f64,
    /// Both ends keep a checkpoint after every so many rounds, and after the last.
    pub checkpoint_every: u64,
}

/// What a site allows; its owner decides, whatever the server describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SitePolicy {
    /// Whether feedback may hold the gradient of an L1 term, which gives real images away.
    pub allow_l1: bool,
    /// The largest number of rounds.
    pub rounds_max: u64,
}

impl Default for SitePolicy {
    /// Adversarial feedback only, for at most a million rounds.
    fn default() -> Self {
        Self { allow_l1: false, rounds_max: 1_000_000 }
    }
}

impl SitePolicy {
    /// Whether a run may use this site's data.
    ///
    /// # Errors
    /// [`Error::Refused`] with the rule.
    pub fn check(&self, run: &RunDescription) -> Result<(), Error> {
        if run.l1_weight != 0.0 && !self.allow_l1 {
            return Err(Error::Refused { fact: format!("an L1 term of weight {} gives real images away", run.l1_weight) });
        }
        if run.rounds > self.rounds_max {
            return Err(Error::Refused { fact: format!("{} rounds, at most {} are allowed", run.rounds, self.rounds_max) });
        }
        Ok(())
    }
}

impl RunDescription {
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
}

use sha2::{Digest, Sha256};

use rand::Rng as _;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{Role, RunDescription, SiteId, Stream, stream};

/// 32 random bytes that never leave a site.
///
/// The initial weights, real cases, crops and augmentations follow from it, so a server can neither compute the
/// discriminator nor choose which patient a round shows. It is stored next to the site's checkpoints, so that a resumed
/// run draws the same as an uninterrupted one.
#[derive(Clone, PartialEq, Eq)]
pub struct SiteSecret([u8; 32]);

impl SiteSecret {
    /// Creates a secret from these bytes, which must come from the system's random number generator.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The stream for one purpose in one run.
    pub fn stream(&self, run: &[u8; 32], role: Role, site: SiteId, round: u64) -> Stream {
        let mut hash = Sha256::new();
        hash.update(b"asyndgan site secret v1");
        hash.update(self.0);
        hash.update(run);
        hash.update((role as u32).to_le_bytes());
        hash.update(site.0.to_le_bytes());
        hash.update(round.to_le_bytes());
        ChaCha8Rng::from_seed(hash.finalize().into())
    }
}

impl std::fmt::Debug for SiteSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SiteSecret(..)")
    }
}

/// Where a site's own random numbers come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiteRandomness {
    /// The run's seed: anyone who knows the run can reproduce the draws. For runs in one process, where all data are in
    /// one place.
    Seed,
    /// A secret of the site.
    Secret(SiteSecret),
}

impl SiteRandomness {
    /// The stream for one purpose in one round.
    pub fn stream(&self, run: &RunDescription, role: Role, site: SiteId, round: u64) -> Stream {
        match self {
            Self::Seed => stream(run.seed, role, site.0, round),
            Self::Secret(secret) => secret.stream(&run.sha256(), role, site, round),
        }
    }

    /// The stream for one purpose in one round that also depends on `state`: the same state gives the same numbers, and
    /// another state gives independent ones.
    ///
    /// Noise must not be used for two different values, because their difference would not contain it. With the state
    /// of the network as `state`, a round that is repeated from another state has noise of its own.
    pub fn stream_of_state(&self, run: &RunDescription, role: Role, site: SiteId, round: u64, state: &[u8; 32]) -> Stream {
        let mut key = [0; 32];
        self.stream(run, role, site, round).fill_bytes(&mut key);
        ChaCha8Rng::from_seed(Sha256::new().chain_update(key).chain_update(state).finalize().into())
    }
}

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// A counter-based stream of random numbers.
pub type Stream = ChaCha8Rng;

/// What a stream is for; no two uses share a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Role {
    /// First weights of the generator.
    GeneratorWeights = 1,
    /// First weights of a discriminator.
    DiscriminatorWeights = 2,
    /// Order of a site's cases within an epoch.
    Cases = 3,
    /// Crops and flips of a round.
    Augmentation = 4,
    /// Dropout and noise of the generator in a round.
    Dropout = 5,
    /// Dropout, noise and crops of synthesis.
    Synthesis = 6,
    /// A segmenter's first weights, batches and dropout.
    Segmenter = 7,
    /// Artificial patients.
    Phantom = 8,
    /// Resampling of statistics.
    Bootstrap = 9,
    /// Tumours put into other slices' outlines.
    Transplant = 10,
    /// Patients dealt out to sites.
    Partition = 11,
    /// What a discriminator's images go through in a round.
    Discriminator = 12,
    /// Images that are compared with others.
    Comparison = 13,
    /// Patients held out to choose settings by.
    Validation = 14,
    /// A site's real cases and their crops, which its server does not learn.
    Real = 15,
    /// Masks put together from several patients'.
    Recombination = 16,
}

/// The stream of (seed, role, site, round): the same key always gives the same numbers, other keys unrelated ones.
pub fn stream(seed: u64, role: Role, site: u32, round: u64) -> Stream {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..12].copy_from_slice(&(role as u32).to_le_bytes());
    key[12..16].copy_from_slice(&site.to_le_bytes());
    key[16..24].copy_from_slice(&round.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

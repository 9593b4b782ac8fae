use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// A counter-based stream of random numbers.
pub type Stream = ChaCha8Rng;

/// The purpose of a stream; no two purposes share a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Role {
    /// Initial weights of the generator.
    GeneratorWeights = 1,
    /// Initial weights of a discriminator.
    DiscriminatorWeights = 2,
    /// Order of a site's cases within an epoch.
    Cases = 3,
    /// Crops and flips of a round.
    Augmentation = 4,
    /// Dropout and noise of the generator in a round.
    Dropout = 5,
    /// Dropout, noise and crops of synthesis.
    Synthesis = 6,
    /// A segmenter's initial weights, batches and dropout.
    Segmenter = 7,
    /// Artificial patients.
    Phantom = 8,
    /// Resampling of statistics.
    Bootstrap = 9,
    /// Transplantation of tumours into the outlines of other slices.
    Transplant = 10,
    /// Assignment of patients to sites.
    Partition = 11,
    /// Augmentation of a discriminator's images in a round.
    Discriminator = 12,
    /// Selection of images for comparisons.
    Comparison = 13,
    /// Selection of the validation patients.
    Validation = 14,
    /// A site's real cases and their crops, which are unknown to its server.
    Real = 15,
    /// Masks recombined from several patients.
    Recombination = 16,
    /// Patients of a step with differential privacy.
    PrivateSample = 17,
    /// Noise of a step with differential privacy.
    PrivateNoise = 18,
}

/// The stream for (seed, role, site, round). The same key always gives the same numbers; different keys give
/// independent ones.
pub fn stream(seed: u64, role: Role, site: u32, round: u64) -> Stream {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..12].copy_from_slice(&(role as u32).to_le_bytes());
    key[12..16].copy_from_slice(&site.to_le_bytes());
    key[16..24].copy_from_slice(&round.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

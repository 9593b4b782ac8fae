use asyndgan_models::{AdamConfig, DiscriminatorConfig, GeneratorConfig};
use serde::{Deserialize, Serialize};

/// What the networks of a run are and how they learn; both ends need the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GanConfig {
    /// The server's network.
    pub generator: GeneratorConfig,
    /// Every site's network.
    pub discriminator: DiscriminatorConfig,
    /// The generator's optimiser.
    pub generator_adam: AdamConfig,
    /// The discriminators' optimiser.
    pub discriminator_adam: AdamConfig,
    /// Condition codes besides 0: planes of the condition.
    pub codes: u8,
}

/// Factor on the learning rates in a round: 1 for the first half, then linearly to zero.
///
/// # Reference
/// Section 4: 100 epochs constant, 100 linear to zero.
pub fn learning_rate_scale(round: u64, rounds: u64) -> f64 {
    let half = rounds / 2;
    if round < half { 1.0 } else { (rounds - round) as f64 / (rounds - half) as f64 }
}

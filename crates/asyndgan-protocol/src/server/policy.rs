use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a server waits for sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the answer of a site that is connected; then it is taken for lost.
    pub answer: Duration,
    /// For a site that was lost and without which the run cannot go on; then the run ends. Zero: at once.
    pub absence: Duration,
}

/// What a server does when a site comes back without the checkpoint from which the run goes on: its disk failed, it was started in another
/// folder, or it pretends so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostState {
    /// The site goes on with its own nearest checkpoint, or with a fresh discriminator. Nobody else is set back.
    Fresh,
    /// The site is sent away until its folder is restored.
    Wait,
    /// Everybody goes back to the latest checkpoint that all hold, the beginning if need be.
    GoBack,
}

/// What the operator of a server allows sites to do to the run.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ServerPolicy {
    /// How long it waits for sites.
    pub patience: Patience,
    /// Cases that one site may claim.
    pub cases_max: u32,
    /// Bytes of one site's masks after inflation.
    pub condition_bytes_max: u64,
    /// A site's weight is at most so many times the (lower) median of all weights. Infinity: as the counts say.
    pub weight_ratio_max: f64,
    /// Feedback whose norm is more than so many times the median of the others', or of the site's own past, is scaled down to that median.
    /// Infinity: it is taken as it is.
    pub feedback_ratio_max: f64,
    /// A site that exceeds that ratio in more than so many of 100 rounds is dismissed.
    pub feedback_strikes_max: u32,
    /// What happens when a site has lost its state.
    pub lost_state: LostState,
    /// How often one site may set everybody back by restarting from its checkpoint; after that it goes on alone from there.
    pub set_backs_max: u32,
}

impl ServerPolicy {
    /// The bounds for a run across hospitals.
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            cases_max: 100_000,
            condition_bytes_max: 256 << 20,
            weight_ratio_max: 10.0,
            feedback_ratio_max: 10.0,
            feedback_strikes_max: 20,
            lost_state: LostState::Fresh,
            set_backs_max: 10,
        }
    }

    /// Trusts all sites: for runs in one process.
    pub fn unrestricted(patience: Patience) -> Self {
        Self {
            cases_max: u32::MAX,
            condition_bytes_max: u64::MAX,
            weight_ratio_max: f64::INFINITY,
            feedback_ratio_max: f64::INFINITY,
            set_backs_max: u32::MAX,
            ..Self::new(patience)
        }
    }
}

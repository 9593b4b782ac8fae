use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a server waits for sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Timeout for the answer of a connected site, after which it is considered lost.
    pub answer: Duration,
    /// Timeout for the return of a lost site that the run needs, after which the run ends. Zero means at once.
    pub absence: Duration,
}

/// What a server does when a site comes back without the checkpoint from which the run resumes. Its disk may have
/// failed, it may have been started in another folder, or it may be pretending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostState {
    /// The site continues with its own nearest checkpoint, or with a fresh discriminator. No other site is rolled back.
    Fresh,
    /// The site is rejected until its folder is restored.
    Wait,
    /// All sites roll back to the latest checkpoint that all of them hold, or to the beginning if there is none.
    #[serde(alias = "go_back")]
    RollBack,
}

/// The limits that the operator of a server sets for sites.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ServerPolicy {
    /// How long it waits for sites.
    pub timeouts: Timeouts,
    /// Maximum number of cases that one site may claim.
    pub cases_max: u32,
    /// Maximum bytes of one site's masks after decompression.
    pub condition_bytes_max: u64,
    /// Maximum ratio of a site's weight to the (lower) median of all weights. Infinity disables the limit.
    pub weight_ratio_max: f64,
    /// Maximum ratio of a feedback's norm to the median of the other sites, or of the site's own past. Larger feedback
    /// is scaled down to that median. Infinity disables the limit.
    pub feedback_ratio_max: f64,
    /// A site that exceeds that ratio in more than this many of 100 rounds is dismissed.
    pub feedback_strikes_max: u32,
    /// What happens when a site has lost its state.
    pub lost_state: LostState,
    /// How often one site may force a rollback of all sites by restarting from its checkpoint. After that, only this
    /// site continues from its checkpoint.
    pub rollbacks_max: u32,
}

impl ServerPolicy {
    /// The default limits for a run across hospitals.
    pub fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            cases_max: 100_000,
            condition_bytes_max: 256 << 20,
            weight_ratio_max: 10.0,
            feedback_ratio_max: 10.0,
            feedback_strikes_max: 20,
            lost_state: LostState::Fresh,
            rollbacks_max: 10,
        }
    }

    /// This policy with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Trusts all sites: for runs in one process.
    pub fn unrestricted(timeouts: Timeouts) -> Self {
        Self {
            cases_max: u32::MAX,
            condition_bytes_max: u64::MAX,
            weight_ratio_max: f64::INFINITY,
            feedback_ratio_max: f64::INFINITY,
            rollbacks_max: u32::MAX,
            ..Self::new(timeouts)
        }
    }
}

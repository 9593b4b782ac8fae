use std::time::Duration;

use crate::{Error, Losses, Payload, ResumeState, SiteSummary};

/// What a server knows about one site.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) presence: Presence,
    /// Counts and shapes, since the site first joined.
    pub(crate) summary: Option<SiteSummary>,
    /// Whether the server holds its conditions.
    pub(crate) conditions: bool,
    /// Rounds of which the site holds a checkpoint.
    pub(crate) checkpoints: Vec<u64>,
    /// A round that it has not answered yet.
    pub(crate) task: Option<Task>,
    /// Its answer that no generator step has used yet.
    pub(crate) answer: Option<Answer>,
    /// Whether the end of the run was sent to it.
    pub(crate) notified: bool,
    /// The checkpoints that it listed on joining, until its conditions are stored.
    pub(crate) resume_state: Option<ResumeState>,
    /// Whether its conditions were held before it joined last: it has taken part before.
    pub(crate) returned: bool,
    /// How often it has forced a rollback of all sites.
    pub(crate) rollbacks: u32,
    /// Number of unsolicited feedback messages.
    pub(crate) echoes: u32,
    /// How often its conditions did not match its summary.
    pub(crate) condition_faults: u32,
    /// Why it is away.
    pub(crate) fault: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Presence {
    /// Has not connected yet.
    NotConnected,
    /// The connection was lost or closed.
    Disconnected { since: Duration },
    /// Has received the run's description; the server waits for its answer.
    Described { since: Duration },
    /// Takes part.
    Joined,
    /// Has left the run in order.
    Retired,
}

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) round: u64,
    pub(crate) since: Duration,
    /// Kept until it is answered: the connection may be cut.
    pub(crate) synthetic: Payload,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) round: u64,
    pub(crate) feedback: Payload,
    pub(crate) losses: Option<Losses>,
}

impl Peer {
    pub(crate) fn new() -> Self {
        Self {
            presence: Presence::NotConnected,
            summary: None,
            conditions: false,
            checkpoints: Vec::new(),
            task: None,
            answer: None,
            notified: false,
            resume_state: None,
            returned: false,
            rollbacks: 0,
            echoes: 0,
            condition_faults: 0,
            fault: None,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.presence, Presence::Described { .. } | Presence::Joined)
    }

    /// Whether it has left the run in order.
    pub(crate) fn is_retired(&self) -> bool {
        self.presence == Presence::Retired
    }

    /// Whether its connection is gone for good, or until it joins again.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.presence, Presence::Disconnected { .. } | Presence::Retired)
    }

    pub(crate) fn has_joined(&self) -> bool {
        self.presence == Presence::Joined
    }

    /// Whether it can resume from a round: it holds that checkpoint, or the round is 0 and it starts from initial
    /// weights.
    pub(crate) fn holds(&self, round: u64) -> bool {
        round == 0 || self.checkpoints.contains(&round)
    }

    /// Its own checkpoint nearest to a round: that round's, else the latest before it, else the first after it; 0 for
    /// initial weights.
    pub(crate) fn nearest(&self, round: u64) -> u64 {
        nearest_checkpoint(&self.checkpoints, round)
    }

    /// Connected, and free for a round.
    pub(crate) fn is_idle(&self) -> bool {
        self.has_joined() && self.task.is_none() && self.answer.is_none()
    }
}

/// The checkpoint from which a site resumes at a round: that round's, else the latest before it, else the first after
/// it; 0 for initial weights.
pub(crate) fn nearest_checkpoint(checkpoints: &[u64], round: u64) -> u64 {
    if round == 0 || checkpoints.contains(&round) {
        return round;
    }
    let before = checkpoints.iter().copied().filter(|&c| c <= round).max();
    before.or_else(|| checkpoints.iter().copied().min()).unwrap_or(0)
}

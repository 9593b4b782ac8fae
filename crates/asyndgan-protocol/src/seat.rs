use std::time::Duration;

use crate::{Error, Losses, Payload, SiteSummary};

/// What a server knows of one site.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) presence: Presence,
    /// Counts and shapes, from the first joining on.
    pub(crate) summary: Option<SiteSummary>,
    /// Whether its conditions are held.
    pub(crate) conditions: bool,
    /// Rounds of which the site holds a checkpoint.
    pub(crate) checkpoints: Vec<u64>,
    /// A round that it has not answered yet.
    pub(crate) task: Option<Task>,
    /// Its answer that no step has taken yet.
    pub(crate) answer: Option<Answer>,
    /// Whether it has been told of the end.
    pub(crate) told: bool,
    /// Why it is away.
    pub(crate) fault: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Presence {
    /// Has not come yet.
    Expected,
    /// Is gone.
    Away { since: Duration },
    /// Has been told what the run is; its answer is awaited.
    Asked { since: Duration },
    /// Takes part.
    Here,
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
    pub(crate) losses: Losses,
}

impl Seat {
    pub(crate) fn new() -> Self {
        Self {
            presence: Presence::Expected,
            summary: None,
            conditions: false,
            checkpoints: Vec::new(),
            task: None,
            answer: None,
            told: false,
            fault: None,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.presence, Presence::Asked { .. } | Presence::Here)
    }

    pub(crate) fn is_here(&self) -> bool {
        self.presence == Presence::Here
    }

    /// Here, and free for a round.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_here() && self.task.is_none() && self.answer.is_none()
    }
}

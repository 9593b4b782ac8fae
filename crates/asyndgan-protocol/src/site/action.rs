use crate::{Learning, Losses, Message, Payload, RoundDraw, RunDescription, SiteId};

/// What happens to a site.
#[derive(Debug, Clone, PartialEq)]
pub enum SiteEvent {
    /// There is a connection to the server, for the first time or again: join.
    Connected,
    /// The server sent something.
    Message(Message),
    /// [`SiteAction::Inspect`] is done: the run's networks can be trained here.
    Inspected {
        /// What the run asks the site to train.
        learning: Learning,
    },
    /// [`SiteAction::Consent`] is done: the hospital takes part.
    Consented,
    /// [`SiteAction::Recall`] is done.
    Recalled {
        /// Rounds of which there is a checkpoint, ascending.
        checkpoints: Vec<u64>,
        /// Condition codes of every case, if they were wanted.
        conditions: Option<Payload>,
    },
    /// [`SiteAction::Begin`] is done.
    Begun,
    /// [`SiteAction::Step`] is done.
    Stepped {
        /// Gradient with respect to the synthetic images.
        feedback: Payload,
        /// Scalar losses.
        losses: Losses,
    },
    /// The worker cannot go on.
    Failed {
        /// Why, for people.
        reason: String,
    },
}

/// What a site's driver must do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum SiteAction {
    /// Send to the server.
    Send(Message),
    /// The run's form is sound: read what it asks the site to train; then [`SiteEvent::Inspected`].
    Inspect {
        /// The site's place in the run.
        site: SiteId,
        /// The description, which the policy has not allowed yet.
        run: RunDescription,
    },
    /// The policy allows the run: ask whether the hospital takes part in this very run; then [`SiteEvent::Consented`].
    Consent {
        /// The site's place in the run.
        site: SiteId,
        /// The description.
        run: RunDescription,
    },
    /// The site takes part: look for the run's checkpoints; then [`SiteEvent::Recalled`].
    Recall {
        /// The site's place in the run.
        site: SiteId,
        /// The accepted description.
        run: RunDescription,
        /// Whether the conditions are to be sent.
        conditions_wanted: bool,
    },
    /// Make networks, or restore the checkpoint of `rounds_done`; then [`SiteEvent::Begun`].
    Begin {
        /// The site's place in the run.
        site: SiteId,
        /// The accepted description.
        run: RunDescription,
        /// Rounds already done.
        rounds_done: u64,
    },
    /// Do what a round asks for before its synthetic images are here.
    Prepare {
        /// Which round.
        round: u64,
        /// What of the site's cases is shown.
        draw: RoundDraw,
    },
    /// Learn from a synthetic batch; then [`SiteEvent::Stepped`].
    Step {
        /// Which round.
        round: u64,
        /// What of the site's cases is shown.
        draw: RoundDraw,
        /// The synthetic images.
        synthetic: Payload,
    },
    /// Keep a checkpoint.
    Checkpoint {
        /// Rounds done.
        rounds_done: u64,
    },
    /// The run is over.
    Finished,
    /// The run ended early.
    Ended {
        /// Why, for people.
        reason: String,
    },
}

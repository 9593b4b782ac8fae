use crate::{AnswerDigest, Losses, Message, Payload, RequestedTraining, RoundDraw, RunDescription, SiteId};

/// An event that the driver passes to a site.
#[derive(Debug, Clone, PartialEq)]
pub enum SiteEvent {
    /// The site is connected to the server, for the first time or again, and can join.
    Connected,
    /// The server sent something.
    Message(Message),
    /// [`SiteAction::Inspect`] is done: the run's networks can be trained here.
    Inspected {
        /// The training that the run requests.
        training: RequestedTraining,
    },
    /// [`SiteAction::Consent`] is done: the hospital agrees to take part.
    Consented,
    /// [`SiteAction::LoadState`] is done.
    StateLoaded {
        /// Rounds with a checkpoint, ascending.
        checkpoints: Vec<u64>,
        /// Label maps of the conditions of all cases, if requested.
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
    /// [`SiteAction::Prepare`] or [`SiteAction::Step`] found that the privacy budget allows no further round.
    BudgetSpent {
        /// Why, for people.
        reason: String,
    },
    /// The worker failed and cannot continue.
    Failed {
        /// Why, for people.
        reason: String,
    },
}

/// What a site's driver must do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum SiteAction {
    /// Send a message to the server.
    Send(Message),
    /// The run's description is well-formed: read which training it requests; then [`SiteEvent::Inspected`].
    Inspect {
        /// The site's place in the run.
        site: SiteId,
        /// The description, not yet checked against the policy.
        run: RunDescription,
    },
    /// The policy allows the run: ask for the hospital's consent to this exact run; then [`SiteEvent::Consented`].
    Consent {
        /// The site's place in the run.
        site: SiteId,
        /// The description.
        run: RunDescription,
    },
    /// The site takes part: look for the run's checkpoints; then [`SiteEvent::StateLoaded`].
    LoadState {
        /// The site's place in the run.
        site: SiteId,
        /// The accepted description.
        run: RunDescription,
        /// Whether the conditions must be sent.
        conditions_wanted: bool,
    },
    /// Create the networks, or restore the checkpoint of `rounds_done`; then [`SiteEvent::Begun`].
    Begin {
        /// The site's place in the run.
        site: SiteId,
        /// The accepted description.
        run: RunDescription,
        /// Rounds already done.
        rounds_done: u64,
    },
    /// Do the work of a round that does not need its synthetic images; then [`SiteEvent::BudgetSpent`] if the privacy
    /// budget does not allow the round, else no event.
    Prepare {
        /// Which round.
        round: u64,
        /// The site's cases in this round.
        draw: RoundDraw,
    },
    /// Train on a synthetic batch; then [`SiteEvent::Stepped`], or [`SiteEvent::BudgetSpent`] if the privacy budget
    /// does not allow the round, which need not be the one that was prepared.
    Step {
        /// Which round.
        round: u64,
        /// The site's cases in this round.
        draw: RoundDraw,
        /// The synthetic images.
        synthetic: Payload,
        /// The digest of the answer, for [`crate::History::add`] after a restart.
        answer: AnswerDigest,
    },
    /// Write a checkpoint.
    Checkpoint {
        /// Rounds done.
        rounds_done: u64,
    },
    /// The run is over.
    Finished,
    /// The site has left the run in order, the server has confirmed it, and the others continue.
    Retired {
        /// Why, for people.
        reason: String,
    },
    /// The run ended early.
    Ended {
        /// Why, for people.
        reason: String,
    },
}

mod feedback;
mod handlers;
mod policy;
mod rounds;
mod timeouts;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

pub use policy::{LostState, ServerPolicy, Timeouts};

pub use feedback::FEEDBACK_ROUNDS_KEPT;
use feedback::FeedbackMonitor;

use crate::{
    Contribution, Draw, Error, Message, Payload, RunDescription, SiteId, SiteSummary,
    peer::{Peer, Presence},
};

/// A larger value is not the gradient of a mean loss, but the result of a fault or an attack.
pub const FEEDBACK_MAGNITUDE_MAX: f32 = 1000.0;

/// Number of checkpoints that a server keeps. A site keeps one more, because it may be one round ahead of the server.
pub const CHECKPOINTS_KEPT: usize = 2;

/// Maximum number of checkpoints that one site may list; an honest site never lists more.
pub(crate) const CHECKPOINTS_NAMED_MAX: usize = 16;

/// An event that the driver passes to a server.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerEvent {
    /// A site sent a message.
    Message {
        /// The site.
        site: SiteId,
        /// The message.
        message: Message,
    },
    /// A site sent something that is not a valid message.
    InvalidFrame {
        /// The site.
        site: SiteId,
        /// What is wrong with it.
        fact: String,
    },
    /// A site's connection is gone.
    SiteLost {
        /// The site.
        site: SiteId,
        /// The reason, as far as the transport knows it.
        reason: String,
    },
    /// [`ServerAction::StoreConditions`] is done.
    ConditionsStored {
        /// The site whose conditions these are.
        site: SiteId,
        /// What is wrong with the conditions, if anything. In that case they were not stored.
        fault: Option<String>,
    },
    /// [`ServerAction::Begin`] is done.
    Begun {
        /// For each of the last rounds, the norm of every site's feedback; not finite if the site did not contribute.
        norms: Vec<Vec<f32>>,
    },
    /// [`ServerAction::Synthesize`] is done: one batch per draw, in order.
    Synthesized {
        /// The synthetic images.
        synthetic: Vec<Payload>,
    },
    /// [`ServerAction::Update`] is done.
    Updated,
    /// The operator ends the run with the rounds that are done. Without any, the run ends when the first is done.
    Finish,
    /// Time has passed; nothing else has happened.
    Tick,
}

/// What a server's driver must do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerAction {
    /// Send a message to a site.
    Send {
        /// The site.
        site: SiteId,
        /// The message.
        message: Message,
    },
    /// Send the site the reason if it is a fault ([`Error::is_fault`]), close its connection, and log the event.
    Dismiss {
        /// The site.
        site: SiteId,
        /// Why.
        error: Error,
    },
    /// A site takes part from now on: log the event.
    Joined {
        /// The site.
        site: SiteId,
    },
    /// A site came back without its checkpoint and continues anyway: log the event and add it to the records.
    StateLost {
        /// The site.
        site: SiteId,
        /// The round from which it continues.
        round: u64,
        /// The checkpoint with which it continues; 0 for a fresh discriminator.
        restored: u64,
    },
    /// A site has left the run in order: store it ([`ServerWork::retire`](crate::ServerWork::retire)), and log the
    /// event.
    Retired {
        /// The site.
        site: SiteId,
        /// The first round without it.
        round: u64,
        /// Why, for people.
        reason: String,
    },
    /// Decompress a site's conditions, check them against its summary, and store them; then
    /// [`ServerEvent::ConditionsStored`].
    StoreConditions {
        /// The site.
        site: SiteId,
        /// Its counts and shapes.
        summary: SiteSummary,
        /// Its label maps, compressed as received. Decompressed, they have the size that its summary declares.
        conditions: Payload,
    },
    /// Create the generator or restore the checkpoint; then [`ServerEvent::Begun`].
    Begin {
        /// Rounds already done.
        rounds_done: u64,
    },
    /// Generate one synthetic batch per draw; then [`ServerEvent::Synthesized`].
    Synthesize {
        /// Which round.
        round: u64,
        /// The sites that take part, with their cases.
        draws: Vec<Draw>,
    },
    /// Prepare the next round while the sites compute.
    Prepare {
        /// The next round.
        round: u64,
        /// The sites that will take part, with their cases.
        draws: Vec<Draw>,
    },
    /// One generator step; then [`ServerEvent::Updated`].
    Update {
        /// Which round.
        round: u64,
        /// The answers, in site order.
        contributions: Vec<Contribution>,
    },
    /// Write a checkpoint.
    Checkpoint {
        /// Rounds done.
        rounds_done: u64,
    },
    /// The run is over.
    Finished,
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum State {
    /// The run starts or resumes when enough sites have joined.
    Gathering,
    /// The run has started, but too few sites can work on the next round.
    Paused,
    Beginning,
    Synthesizing,
    Collecting,
    Updating,
    Finished,
    /// Ended early.
    Failed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Gathering | State::Paused => "the server waits for sites to join",
            State::Beginning => "the server restores the generator",
            State::Synthesizing => "the server generates images",
            State::Collecting => "the server collects feedback",
            State::Updating => "the server updates the generator",
            State::Finished | State::Failed => "the run is over",
        }
    }
}

/// The server's side of the protocol.
///
/// Each round is one generator step. [`RunDescription::waiting`] defines which sites a round waits for. Under
/// [`Waiting::All`](crate::Waiting::All) the server waits for a lost site. If a site restarts and still holds its
/// checkpoint, all sites roll back to the latest checkpoint, so that the result is the same as without the
/// interruption.
///
/// The driver performs the actions in order. If an action has a completion event, the driver passes that event in
/// before any other.
#[derive(Debug)]
pub struct Server {
    run: RunDescription,
    policy: ServerPolicy,
    monitor: FeedbackMonitor,
    peers: Vec<Peer>,
    checkpoints: BTreeSet<u64>,
    state: State,
    /// The round under way: rounds done so far.
    round: u64,
    /// Rounds after which the run ends: fewer than described if every site has left.
    rounds: u64,
    /// Whether the operator wants the run to end with the rounds that are done.
    is_ending: bool,
    /// The last site, which has left and is not stored yet: its number, the first round without it, and why.
    last_retirement: Option<(SiteId, u64, String)>,
    attempt: u32,
    /// Whose images are being made.
    draws: Vec<Draw>,
    /// Since when enough sites have joined (gathering), or the first images are ready (collecting).
    since: Option<Duration>,
    actions: VecDeque<ServerAction>,
}

impl Server {
    /// Creates a server for `sites` sites that holds checkpoints of the given rounds and the conditions of the `known`
    /// sites. The server does not wait for the `retired` sites.
    ///
    /// A checkpoint of the last round, or of a round that has no regular checkpoint, is the end of a run: the latter of
    /// one that every site has left. The server then only notifies sites.
    pub fn new(
        run: RunDescription,
        sites: u32,
        policy: ServerPolicy,
        checkpoints: &[u64],
        known: Vec<(SiteId, SiteSummary)>,
        retired: &[SiteId],
    ) -> Self {
        let mut peers: Vec<Peer> = (0..sites).map(|_| Peer::new()).collect();
        for site in retired {
            if let Some(peer) = peers.get_mut(site.0 as usize) {
                peer.presence = Presence::Retired;
            }
        }
        for (site, summary) in known {
            if let Some(peer) = peers.get_mut(site.0 as usize) {
                peer.summary = Some(summary);
                peer.conditions = true;
            }
        }
        let is_end = |&round: &u64| round == run.rounds || !run.is_checkpoint(round);
        let end = checkpoints.iter().copied().filter(is_end).max();
        let mut server = Self {
            rounds: end.unwrap_or(run.rounds),
            is_ending: false,
            last_retirement: None,
            run,
            policy,
            monitor: FeedbackMonitor::new(sites as usize, &[]),
            peers,
            checkpoints: checkpoints.iter().copied().collect(),
            state: State::Gathering,
            round: 0,
            attempt: 0,
            draws: Vec::new(),
            since: None,
            actions: VecDeque::new(),
        };
        if let Some(rounds_done) = end {
            // The run is finished: sites only need to be notified.
            (server.state, server.round) = (State::Beginning, rounds_done);
            server.actions.push_back(ServerAction::Begin { rounds_done });
        }
        server
    }

    /// The next action, if any.
    pub fn poll_action(&mut self) -> Option<ServerAction> {
        self.actions.pop_front()
    }

    /// When to send [`ServerEvent::Tick`], if a timeout is pending.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.is_abandoned() && matches!(self.state, State::Gathering | State::Paused | State::Collecting) {
            // Nobody will send anything.
            return Some(Duration::ZERO);
        }
        let answers = self.peers.iter().filter_map(|peer| self.answer_due(peer));
        answers.chain(self.absence_due().map(|due| due.1)).chain(self.deadline_due()).min()
    }

    /// Rounds done.
    pub fn rounds_done(&self) -> u64 {
        self.round
    }

    /// The sites that the run waits for now: those that must join, or whose answer the round needs. Empty while the
    /// server itself has work to do.
    pub fn awaited(&self) -> Vec<SiteId> {
        let joined = self.peers.iter().filter(|peer| peer.has_joined()).count();
        let is_awaited = |peer: &Peer| match self.state {
            State::Gathering | State::Paused => joined < self.needed() && !peer.has_joined() && !peer.is_retired(),
            State::Collecting => self.is_awaited(peer),
            _ => false,
        };
        self.sites().filter(|(_, peer)| is_awaited(peer)).map(|(site, _)| site).collect()
    }

    /// Whether the end of the run was sent to every site, and all have disconnected.
    pub fn all_notified(&self) -> bool {
        self.peers.iter().all(|s| (s.notified || s.is_retired()) && !s.is_connected())
    }

    /// Handles one event. `now` is the time since the run's start.
    ///
    /// A fault of one site is not an error: that site is dismissed, and the others continue or wait, as configured.
    ///
    /// # Errors
    /// An error that ends the run: the fault of a site that the server no longer waits for, or
    /// [`Error::SitesDisconnected`].
    pub fn handle_event(&mut self, now: Duration, event: ServerEvent) -> Result<(), Error> {
        match event {
            ServerEvent::Message { site, message } => {
                if let Err(error) = self.message(now, site, message) {
                    self.dismiss(now, site, error);
                }
            }
            ServerEvent::InvalidFrame { site, fact } => self.dismiss(now, site, Error::Frame { site, round: self.round, fact }),
            ServerEvent::SiteLost { site, reason } => self.dismiss(now, site, Error::SiteLeft { site, round: self.round, reason }),
            ServerEvent::ConditionsStored { site, fault } => {
                if let Err(error) = self.conditions_stored(now, site, fault) {
                    self.dismiss(now, site, error);
                }
            }
            ServerEvent::Begun { norms } => {
                self.monitor = FeedbackMonitor::new(self.peers.len(), &norms);
                self.next_round();
            }
            ServerEvent::Synthesized { synthetic } => self.synthesized(now, synthetic),
            ServerEvent::Updated => self.updated(),
            ServerEvent::Finish => self.is_ending = true,
            ServerEvent::Tick => {
                for site in (0..self.peers.len() as u32).map(SiteId) {
                    if self.answer_due(self.peer(site)).is_some_and(|due| due <= now) {
                        let waited_ms = self.policy.timeouts.answer.as_millis() as u64;
                        self.dismiss(now, site, Error::Silent { site, round: self.round, waited_ms });
                    }
                }
            }
        }
        self.advance(now);
        self.give_up(now)
    }

    fn peer(&self, site: SiteId) -> &Peer {
        &self.peers[site.0 as usize]
    }

    fn peer_mut(&mut self, site: SiteId) -> &mut Peer {
        &mut self.peers[site.0 as usize]
    }

    fn sites(&self) -> impl Iterator<Item = (SiteId, &Peer)> {
        (0..).map(SiteId).zip(&self.peers)
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Finished | State::Failed)
    }

    fn send(&mut self, site: SiteId, message: Message) {
        self.actions.push_back(ServerAction::Send { site, message });
    }
}

mod feedback;
mod leaving;
mod policy;
mod rounds;
mod saying;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

pub use policy::{LostState, Patience, ServerPolicy};

pub use feedback::FEEDBACK_ROUNDS_KEPT;
use feedback::FeedbackMonitor;

use crate::{Contribution, Draw, Error, Message, Payload, RunDescription, SiteId, SiteSummary, seat::Seat};

/// What is larger than this is no gradient of a mean loss but a fault or an attack.
pub const FEEDBACK_MAGNITUDE_MAX: f32 = 1000.0;

/// How many checkpoints a server keeps. A site keeps one more: it may be a round ahead of the server.
pub const CHECKPOINTS_KEPT: usize = 2;

/// How many checkpoints one site may name: more is no honest site.
pub(crate) const CHECKPOINTS_NAMED_MAX: usize = 16;

/// What happens to a server.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerEvent {
    /// A site sent something.
    Message {
        /// Who.
        site: SiteId,
        /// What.
        message: Message,
    },
    /// A site sent something that is no message.
    Garbage {
        /// Who.
        site: SiteId,
        /// What is wrong with it.
        fact: String,
    },
    /// A site's connection is gone.
    SiteLost {
        /// Who.
        site: SiteId,
        /// What the carrier knows.
        reason: String,
    },
    /// [`ServerAction::Keep`] is done.
    Kept {
        /// Whose conditions.
        site: SiteId,
        /// What is wrong with them, if anything: then they were not kept.
        fault: Option<String>,
    },
    /// [`ServerAction::Begin`] is done.
    Begun {
        /// For each of the last rounds, the norm of every site's feedback; not finite where it did not contribute.
        norms: Vec<Vec<f32>>,
    },
    /// [`ServerAction::Synthesize`] is done: one batch a draw, in order.
    Synthesized {
        /// The synthetic images.
        synthetic: Vec<Payload>,
    },
    /// [`ServerAction::Update`] is done.
    Updated,
    /// Nothing else: time has passed.
    Tick,
}

/// What a server's driver must do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerAction {
    /// Send to a site.
    Send {
        /// To whom.
        site: SiteId,
        /// What.
        message: Message,
    },
    /// Tell a site why if it is a fault ([`Error::is_fault`]), close its connection, and tell people.
    Dismiss {
        /// Whom.
        site: SiteId,
        /// Why.
        error: Error,
    },
    /// A site takes part from now on: tell people.
    Welcome {
        /// Which.
        site: SiteId,
    },
    /// A site has come back without its checkpoint, and goes on nevertheless: tell people, and note it in the records.
    StateLost {
        /// Which.
        site: SiteId,
        /// The round from which it goes on.
        round: u64,
        /// The checkpoint that it goes on with; 0 for a fresh discriminator.
        restored: u64,
    },
    /// Unpack a site's conditions, check them against its summary, and keep them; then [`ServerEvent::Kept`].
    Keep {
        /// Whose.
        site: SiteId,
        /// Its counts and shapes.
        summary: SiteSummary,
        /// Its condition codes, compressed as they came: as large as its summary says once inflated.
        conditions: Payload,
    },
    /// Make the generator or restore the checkpoint; then [`ServerEvent::Begun`].
    Begin {
        /// Rounds already done.
        rounds_done: u64,
    },
    /// Make one synthetic batch a draw; then [`ServerEvent::Synthesized`].
    Synthesize {
        /// Which round.
        round: u64,
        /// Who takes part, and what of theirs is shown.
        draws: Vec<Draw>,
    },
    /// Sites are at work: get ready what the next round will need.
    Prepare {
        /// The next round.
        round: u64,
        /// Who will take part.
        draws: Vec<Draw>,
    },
    /// One generator step; then [`ServerEvent::Updated`].
    Update {
        /// Which round.
        round: u64,
        /// Who answered, in site order.
        contributions: Vec<Contribution>,
    },
    /// Keep a checkpoint.
    Checkpoint {
        /// Rounds done.
        rounds_done: u64,
    },
    /// The run is over.
    Finished,
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum State {
    /// Until enough sites are here.
    Gathering,
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
            State::Gathering => "sites gather",
            State::Beginning => "the generator is restored",
            State::Synthesizing => "the server synthesizes",
            State::Collecting => "feedback is collected",
            State::Updating => "the generator is updated",
            State::Finished | State::Failed => "the run is over",
        }
    }
}

/// The server's side of the protocol.
///
/// One generator step a round, for which it waits as [`RunDescription::waiting`] says. Under [`Waiting::All`](crate::Waiting::All) a site that was lost is waited for;
/// when one comes back without the networks that it had, all go back to the last checkpoint that everybody holds, so that the run
/// ends as if nothing had happened.
///
/// Whoever drives it does the actions in order, and hands in the event of one that has one before any other event.
#[derive(Debug)]
pub struct Server {
    run: RunDescription,
    policy: ServerPolicy,
    monitor: FeedbackMonitor,
    seats: Vec<Seat>,
    checkpoints: BTreeSet<u64>,
    state: State,
    /// The round under way: rounds done so far.
    round: u64,
    attempt: u32,
    /// Whether the generator has been made or restored in this attempt.
    begun: bool,
    /// Whose images are being made.
    draws: Vec<Draw>,
    /// Since when enough sites are here (gathering), or the first have their images (collecting).
    since: Option<Duration>,
    actions: VecDeque<ServerAction>,
}

impl Server {
    /// A server for `sites` sites that holds checkpoints of the given rounds and knows some sites from before.
    pub fn new(run: RunDescription, sites: u32, policy: ServerPolicy, checkpoints: &[u64], known: Vec<(SiteId, SiteSummary)>) -> Self {
        let mut seats: Vec<Seat> = (0..sites).map(|_| Seat::new()).collect();
        for (site, summary) in known {
            if let Some(seat) = seats.get_mut(site.0 as usize) {
                seat.summary = Some(summary);
                seat.conditions = true;
            }
        }
        let mut server = Self {
            run,
            policy,
            monitor: FeedbackMonitor::new(sites as usize, &[]),
            seats,
            checkpoints: checkpoints.iter().copied().collect(),
            state: State::Gathering,
            round: 0,
            attempt: 0,
            begun: false,
            draws: Vec::new(),
            since: None,
            actions: VecDeque::new(),
        };
        if server.checkpoints.contains(&server.run.rounds) {
            // Nothing is left to do but to say so: nobody is waited for.
            (server.state, server.begun, server.round) = (State::Beginning, true, server.run.rounds);
            server.actions.push_back(ServerAction::Begin { rounds_done: server.run.rounds });
        }
        server
    }

    /// What to do next, if anything.
    pub fn poll_action(&mut self) -> Option<ServerAction> {
        self.actions.pop_front()
    }

    /// When to come back with [`ServerEvent::Tick`], if only time could change something.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let answers = self.seats.iter().filter_map(|seat| self.answer_due(seat));
        answers.chain(self.absence_due().map(|due| due.1)).chain(self.deadline_due()).min()
    }

    /// Rounds done.
    pub fn rounds_done(&self) -> u64 {
        self.round
    }

    /// Whether every site has been told of the end, and has left.
    pub fn everybody_knows(&self) -> bool {
        self.seats.iter().all(|s| s.told && !s.is_connected())
    }

    /// Takes one event at a time counted from the run's start.
    ///
    /// A fault of one site is no error: the site is dismissed, the others go on or wait, as configured.
    ///
    /// # Errors
    /// Whatever ends the run: the fault of a site that is not waited for any longer, or [`Error::Away`].
    pub fn handle_event(&mut self, now: Duration, event: ServerEvent) -> Result<(), Error> {
        match event {
            ServerEvent::Message { site, message } => {
                if let Err(error) = self.message(now, site, message) {
                    self.dismiss(now, site, error);
                }
            }
            ServerEvent::Garbage { site, fact } => self.dismiss(now, site, Error::Frame { site, round: self.round, fact }),
            ServerEvent::SiteLost { site, reason } => self.dismiss(now, site, Error::SiteLeft { site, round: self.round, reason }),
            ServerEvent::Kept { site, fault } => {
                if let Err(error) = self.kept(now, site, fault) {
                    self.dismiss(now, site, error);
                }
            }
            ServerEvent::Begun { norms } => {
                self.monitor = FeedbackMonitor::new(self.seats.len(), &norms);
                self.next_round();
            }
            ServerEvent::Synthesized { synthetic } => self.synthesized(now, synthetic),
            ServerEvent::Updated => self.updated(),
            ServerEvent::Tick => {
                for site in (0..self.seats.len() as u32).map(SiteId) {
                    if self.answer_due(self.seat(site)).is_some_and(|due| due <= now) {
                        let waited_ms = self.policy.patience.answer.as_millis() as u64;
                        self.dismiss(now, site, Error::Silent { site, round: self.round, waited_ms });
                    }
                }
            }
        }
        self.advance(now);
        self.give_up(now)
    }

    fn seat(&self, site: SiteId) -> &Seat {
        &self.seats[site.0 as usize]
    }

    fn seat_mut(&mut self, site: SiteId) -> &mut Seat {
        &mut self.seats[site.0 as usize]
    }

    fn sites(&self) -> impl Iterator<Item = (SiteId, &Seat)> {
        (0..).map(SiteId).zip(&self.seats)
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Finished | State::Failed)
    }

    fn send(&mut self, site: SiteId, message: Message) {
        self.actions.push_back(ServerAction::Send { site, message });
    }
}

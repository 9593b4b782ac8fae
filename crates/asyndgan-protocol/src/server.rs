use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    Contribution, Draw, Dtype, Error, Message, PROTOCOL_VERSION, Payload, RunDescription, SiteId, SiteSummary, Standing, Waiting, hex,
    seat::{Answer, Presence, Seat, Task},
};

/// What is larger than this is no gradient of a mean loss but a fault or an attack.
pub const FEEDBACK_MAGNITUDE_MAX: f32 = 1000.0;

/// How many checkpoints a server keeps. A site keeps one more: it may be a round ahead of the server.
pub const CHECKPOINTS_KEPT: usize = 2;

/// How long a server waits for sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the answer of a site that is connected; then it is taken for lost.
    pub answer: Duration,
    /// For a site that was lost and without which the run cannot go on; then the run ends. Zero: at once.
    pub absence: Duration,
}

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
    /// [`ServerAction::Begin`] is done.
    Begun,
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
    /// Keep a site's conditions.
    Keep {
        /// Whose.
        site: SiteId,
        /// Its counts and shapes.
        summary: SiteSummary,
        /// Its condition codes.
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
/// One generator step a round, for which it waits as [`Waiting`] says. Under [`Waiting::All`] a site that was lost is waited for;
/// when one comes back without the networks that it had, all go back to the last checkpoint that everybody holds, so that the run
/// ends as if nothing had happened.
///
/// Whoever drives it does the actions in order, and hands in the event of one that has one before any other event.
#[derive(Debug)]
pub struct Server {
    run: RunDescription,
    patience: Patience,
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
    /// Since when enough sites are here (gathering), or have their images (collecting).
    since: Option<Duration>,
    actions: VecDeque<ServerAction>,
}

impl Server {
    /// A server for `sites` sites that holds checkpoints of the given rounds and knows some sites from before.
    pub fn new(run: RunDescription, sites: u32, patience: Patience, checkpoints: &[u64], known: Vec<(SiteId, SiteSummary)>) -> Self {
        let mut seats: Vec<Seat> = (0..sites).map(|_| Seat::new()).collect();
        for (site, summary) in known {
            if let Some(seat) = seats.get_mut(site.0 as usize) {
                seat.summary = Some(summary);
                seat.conditions = true;
            }
        }
        let mut server = Self {
            run,
            patience,
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
        let deadline = self.since.filter(|_| self.has_quorum()).and_then(|since| Some(since + self.deadline()?));
        answers.chain(self.absence_due().map(|due| due.1)).chain(deadline).min()
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
            ServerEvent::Begun => self.next_round(),
            ServerEvent::Synthesized { synthetic } => self.synthesized(now, synthetic),
            ServerEvent::Updated => self.updated(),
            ServerEvent::Tick => {
                for site in (0..self.seats.len() as u32).map(SiteId) {
                    if self.answer_due(self.seat(site)).is_some_and(|due| due <= now) {
                        let waited_ms = self.patience.answer.as_millis() as u64;
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

    // --- what sites say

    fn message(&mut self, now: Duration, site: SiteId, message: Message) -> Result<(), Error> {
        let out_of_turn = Error::OutOfTurn { site, kind: message.kind(), round: self.round, state: self.state.name() };
        if site.0 as usize >= self.seats.len() {
            return Err(out_of_turn);
        }
        match message {
            // Whoever comes after the end, or was about to take part.
            Message::Join { .. } | Message::Accept { .. } if self.state == State::Finished && !self.seat(site).is_here() => {
                self.seat_mut(site).presence = Presence::Here;
                self.finish(site);
                Ok(())
            }
            Message::Leave { reason } => Err(Error::SiteLeft { site, round: self.round, reason: readable(&reason) }),
            // Once a connection: a carrier tells of the loss of the one before.
            Message::Join { protocol_version, summary } if !self.seat(site).is_connected() => {
                self.join(now, site, protocol_version, summary)
            }
            Message::Accept { standing, conditions } if matches!(self.seat(site).presence, Presence::Asked { .. }) => {
                self.accept(now, site, standing, conditions)
            }
            Message::Feedback { attempt, round, feedback, losses } if self.seat(site).is_here() => {
                if (attempt, round) > (self.attempt, self.round) {
                    return Err(out_of_turn);
                }
                self.answer(site, attempt, Answer { round, feedback, losses })
            }
            // Of a site that has just been dismissed: on its way already.
            _ if matches!(self.seat(site).presence, Presence::Away { .. }) => Ok(()),
            _ => Err(out_of_turn),
        }
    }

    fn join(&mut self, now: Duration, site: SiteId, protocol_version: u32, summary: SiteSummary) -> Result<(), Error> {
        if protocol_version != PROTOCOL_VERSION {
            return Err(Error::Version { site, expected: PROTOCOL_VERSION, found: protocol_version });
        }
        self.check_summary(site, &summary)?;
        let run = self.run.clone();
        let seat = self.seat_mut(site);
        seat.summary = Some(summary);
        seat.presence = Presence::Asked { since: now };
        let conditions_wanted = !seat.conditions;
        self.send(site, Message::Describe { site, run, conditions_wanted });
        Ok(())
    }

    fn check_summary(&self, site: SiteId, summary: &SiteSummary) -> Result<(), Error> {
        self.run.check(site, summary)?;
        match &self.seat(site).summary {
            Some(before) if before != summary && self.seat(site).conditions => {
                let words = |s: &SiteSummary| {
                    let digest = hex(&s.conditions_sha256[..4]);
                    format!("{} cases of {:?} with masks {digest}", s.cases, s.image_dims)
                };
                Err(Error::Changed { site, expected: words(before), found: words(summary) })
            }
            _ => Ok(()),
        }
    }

    fn accept(&mut self, now: Duration, site: SiteId, standing: Standing, conditions: Option<Payload>) -> Result<(), Error> {
        let (round, seat) = (self.round, self.seat(site));
        let summary = seat.summary.clone().expect("joined before accepting");
        match conditions {
            Some(conditions) if !seat.conditions => {
                let conditions = taken(site, round, conditions, condition_dims(&summary), Dtype::U8)?;
                if conditions.sha256() != summary.conditions_sha256 {
                    return Err(Error::Frame { site, round, fact: "masks that are not those of its summary".into() });
                }
                self.seat_mut(site).conditions = true;
                self.actions.push_back(ServerAction::Keep { site, summary, conditions });
            }
            None if seat.conditions => {}
            _ => return Err(Error::Frame { site, round, fact: "masks twice, or none at all".into() }),
        }
        let seat = self.seat_mut(site);
        seat.presence = Presence::Here;
        seat.checkpoints = standing.checkpoints;
        seat.fault = None;
        self.actions.push_back(ServerAction::Welcome { site });
        self.readmit(now, site, standing.in_memory);
        Ok(())
    }

    /// A site comes to a run that is under way.
    fn readmit(&mut self, now: Duration, site: SiteId, in_memory: Option<u64>) {
        if !self.begun {
            return;
        }
        let (round, seat) = (self.round, self.seat(site));
        if self.run.waiting == Waiting::All {
            let answered = seat.answer.is_some();
            let fits = in_memory == Some(round + 1) || !answered && in_memory == Some(round);
            if !fits {
                self.set_back();
                return;
            }
            self.start(site, round + u64::from(answered), None);
            if let Some(task) = &mut self.seat_mut(site).task {
                // If its answer was lost on the way, it still has it in memory.
                task.since = now;
                let synthetic = task.synthetic.clone();
                self.send_round(site, round, synthetic);
            }
        } else {
            // It goes on with the discriminator that it has; what it was asked before is void.
            let restore = match in_memory {
                Some(_) => None,
                None => Some(seat.checkpoints.iter().copied().filter(|&c| c <= round).max().unwrap_or(0)),
            };
            let seat = self.seat_mut(site);
            seat.task = None;
            self.start(site, round, restore);
        }
    }

    /// Everybody gathers anew, to go on from a checkpoint that all hold.
    fn set_back(&mut self) {
        self.attempt += 1;
        self.begun = false;
        self.state = State::Gathering;
        self.since = None;
        for seat in &mut self.seats {
            (seat.task, seat.answer) = (None, None);
        }
    }

    fn start(&mut self, site: SiteId, round: u64, restore: Option<u64>) {
        self.send(site, Message::Start { attempt: self.attempt, round, restore });
    }

    fn answer(&mut self, site: SiteId, attempt: u32, answer: Answer) -> Result<(), Error> {
        let due = self.seat(site).task.as_ref().is_some_and(|task| task.round == answer.round);
        if attempt < self.attempt || !due {
            // An echo of an earlier attempt or round, or a second copy: it was dealt with already.
            return Ok(());
        }
        let Answer { round, feedback, losses } = answer;
        if matches!(self.run.waiting, Waiting::Quorum { .. }) && round < self.round {
            // Too late to count; the site is free for the next round.
            self.seat_mut(site).task = None;
            return Ok(());
        }
        let summary = self.seat(site).summary.as_ref().expect("joined");
        let feedback = taken(site, round, feedback, self.run.batch_dims(&summary.image_dims), self.run.feedback_dtype)?;
        let absurd = |fact: String| Err(Error::Absurd { site, round, fact });
        if !(losses.discriminator.is_finite() && losses.generator.is_finite()) {
            return absurd("with losses that are not finite".into());
        }
        match feedback.magnitude() {
            None => return absurd("not finite".into()),
            Some(found) if found > FEEDBACK_MAGNITUDE_MAX => {
                return absurd(format!("as large as {found}, at most {FEEDBACK_MAGNITUDE_MAX} is taken"));
            }
            Some(_) => {}
        }
        let is_checkpoint = self.run.is_checkpoint(round + 1);
        let seat = self.seat_mut(site);
        if is_checkpoint && !seat.checkpoints.contains(&(round + 1)) {
            // A site keeps its checkpoint before it answers.
            seat.checkpoints.push(round + 1);
        }
        seat.task = None;
        seat.answer = Some(Answer { round, feedback, losses });
        Ok(())
    }

    /// A site's fault or loss: it is away, and nothing of the others' is lost.
    fn dismiss(&mut self, now: Duration, site: SiteId, error: Error) {
        let paper_policy = self.run.waiting == Waiting::All;
        let Some(seat) = self.seats.get_mut(site.0 as usize) else { return };
        if matches!(seat.presence, Presence::Away { .. }) || self.state == State::Finished && !error.is_fault() {
            // After the end sites leave. One that has come back and does not get as far as joining is told why.
            if !matches!(seat.presence, Presence::Away { .. }) {
                seat.presence = Presence::Away { since: now };
            }
            if error.is_fault() {
                seat.fault = Some(error.clone());
                self.actions.push_back(ServerAction::Dismiss { site, error });
            }
            return;
        }
        seat.presence = Presence::Away { since: now };
        if !paper_policy {
            // Its images are made anew when it comes back, for another round.
            seat.task = None;
        }
        seat.fault = Some(error.clone());
        self.actions.push_back(ServerAction::Dismiss { site, error });
    }

    // --- how the run goes on

    /// Whatever the present state was waiting for may have come.
    fn advance(&mut self, now: Duration) {
        match self.state {
            State::Gathering => {
                let enough = self.has_quorum();
                self.since = self.since.filter(|_| enough).or_else(|| enough.then_some(now));
                if enough && (self.begun || self.everybody_is_here() || self.is_past_deadline(now)) {
                    if self.begun { self.next_round() } else { self.begin() }
                }
            }
            State::Collecting if self.is_complete(now) => self.update(),
            // Somebody left, and the others are too few; but there is somebody who has not been asked yet.
            State::Collecting if self.run.waiting != Waiting::All && self.is_short_of_answers() => self.next_round(),
            _ => {}
        }
    }

    fn is_short_of_answers(&self) -> bool {
        let coming = self.seats.iter().filter(|s| s.answer.is_some() || s.is_here() && s.task.is_some()).count();
        coming < self.needed() && self.seats.iter().any(Seat::is_idle)
    }

    fn needed(&self) -> usize {
        self.run.waiting.needed(self.seats.len() as u32) as usize
    }

    fn everybody_is_here(&self) -> bool {
        self.seats.iter().all(Seat::is_here)
    }

    fn deadline(&self) -> Option<Duration> {
        match self.run.waiting {
            Waiting::Quorum { deadline_ms, .. } => Some(Duration::from_millis(deadline_ms)),
            // Late sites are let in at any time.
            Waiting::Staleness { .. } if self.state == State::Gathering => Some(Duration::ZERO),
            Waiting::Staleness { .. } | Waiting::All => None,
        }
    }

    fn is_past_deadline(&self, now: Duration) -> bool {
        self.since.zip(self.deadline()).is_some_and(|(since, deadline)| now >= since + deadline)
    }

    /// Whether enough sites are here (gathering), or have answered (collecting).
    fn has_quorum(&self) -> bool {
        let needed = self.needed();
        let count = |what: fn(&Seat) -> bool| self.seats.iter().filter(|s| what(s)).count();
        match (self.state, self.run.waiting) {
            (State::Gathering, Waiting::Quorum { .. }) if self.begun => count(Seat::is_idle) >= needed,
            (State::Gathering, _) if self.begun => count(Seat::is_here) >= needed && count(Seat::is_idle) > 0,
            (State::Gathering, _) => count(Seat::is_here) >= needed,
            (State::Collecting, _) => count(|s| s.answer.is_some()) >= needed,
            _ => false,
        }
    }

    fn is_complete(&self, now: Duration) -> bool {
        let waited_for = |seat: &Seat| match self.run.waiting {
            Waiting::Staleness { rounds, .. } => seat.task.as_ref().is_some_and(|task| task.round + rounds < self.round + 1),
            _ => seat.task.is_some(),
        };
        let all_answered = !self.seats.iter().any(waited_for);
        self.has_quorum() && (all_answered || matches!(self.run.waiting, Waiting::Quorum { .. }) && self.is_past_deadline(now))
    }

    /// Everybody goes on from the same round, under the paper's policy from the last of which all hold a checkpoint.
    fn begin(&mut self) {
        let paper_policy = self.run.waiting == Waiting::All;
        let held = |round: &u64| !paper_policy || self.seats.iter().all(|s| s.checkpoints.contains(round));
        self.round = self.checkpoints.iter().rev().copied().find(|round| held(round)).unwrap_or(0);
        self.state = State::Beginning;
        self.begun = true;
        let restores: Vec<_> = self.sites().filter(|s| s.1.is_here()).map(|(site, seat)| (site, self.restore(seat))).collect();
        if paper_policy {
            // Later ones are made anew: else they would be taken for the latest.
            let round = self.round;
            self.checkpoints.retain(|&c| c <= round);
            for seat in &mut self.seats {
                seat.checkpoints.retain(|&c| c <= round);
            }
        }
        for (site, restore) in restores {
            self.start(site, self.round, Some(restore));
        }
        self.actions.push_back(ServerAction::Begin { rounds_done: self.round });
    }

    /// The site's own last checkpoint that is not ahead of the run.
    fn restore(&self, seat: &Seat) -> u64 {
        seat.checkpoints.iter().copied().filter(|&c| c <= self.round).max().unwrap_or(0)
    }

    fn next_round(&mut self) {
        if self.round >= self.run.rounds {
            self.state = State::Finished;
            for site in self.sites().filter(|s| s.1.is_here()).map(|s| s.0).collect::<Vec<_>>() {
                self.finish(site);
            }
            self.actions.push_back(ServerAction::Finished);
            return;
        }
        self.draws = self.draws_of(self.round, |seat| self.run.waiting == Waiting::All || seat.is_idle());
        if self.draws.is_empty() {
            // Under bounded staleness late answers may be all that there is, or will be.
            let late_count = matches!(self.run.waiting, Waiting::Staleness { .. });
            self.state = if late_count { State::Collecting } else { State::Gathering };
            self.since = None;
            return;
        }
        self.state = State::Synthesizing;
        self.actions.push_back(ServerAction::Synthesize { round: self.round, draws: self.draws.clone() });
    }

    fn finish(&mut self, site: SiteId) {
        self.seat_mut(site).told = true;
        self.send(site, Message::Finish);
    }

    fn draws_of(&self, round: u64, takes_part: impl Fn(&Seat) -> bool) -> Vec<Draw> {
        let draw = |(site, seat): (SiteId, &Seat)| Some(self.run.draw(site, round, seat.summary.as_ref()?));
        self.sites().filter(|s| takes_part(s.1)).filter_map(draw).collect()
    }

    fn synthesized(&mut self, now: Duration, synthetic: Vec<Payload>) {
        self.state = State::Collecting;
        self.since = Some(now);
        for (draw, synthetic) in std::mem::take(&mut self.draws).into_iter().zip(synthetic) {
            let (site, here) = (draw.site, self.seat(draw.site).is_here());
            if !here && self.run.waiting != Waiting::All {
                continue;
            }
            let synthetic = synthetic.packed();
            self.seat_mut(site).task = Some(Task { round: self.round, since: now, synthetic: synthetic.clone() });
            if here {
                self.send_round(site, self.round, synthetic);
            }
        }
        if self.round + 1 < self.run.rounds && self.run.waiting == Waiting::All {
            let draws = self.draws_of(self.round + 1, |_| true);
            self.actions.push_back(ServerAction::Prepare { round: self.round + 1, draws });
        }
    }

    fn send_round(&mut self, site: SiteId, round: u64, synthetic: Payload) {
        let Draw { cases, augmentations, .. } = self.run.draw(site, round, self.seat(site).summary.as_ref().expect("joined"));
        self.send(site, Message::Round { attempt: self.attempt, round, cases, augmentations, synthetic });
    }

    fn update(&mut self) {
        self.state = State::Updating;
        self.since = None;
        let round = self.round;
        let answered: Vec<SiteId> = self.sites().filter(|s| s.1.answer.is_some()).map(|s| s.0).collect();
        let cases = |site: &SiteId| self.seat(*site).summary.as_ref().map_or(0, |s| s.cases);
        let weights = self.run.weighting.weights(&answered.iter().map(cases).collect::<Vec<_>>());
        let mut contributions = Vec::new();
        for (site, weight) in answered.into_iter().zip(weights) {
            let Some(Answer { round, feedback, losses }) = self.seat_mut(site).answer.take() else { continue };
            let draw = self.run.draw(site, round, self.seat(site).summary.as_ref().expect("joined"));
            contributions.push(Contribution { round, draw, weight, feedback, losses });
        }
        self.actions.push_back(ServerAction::Update { round, contributions });
    }

    fn updated(&mut self) {
        self.round += 1;
        if self.run.is_checkpoint(self.round) {
            self.checkpoints.insert(self.round);
            while self.checkpoints.len() > CHECKPOINTS_KEPT {
                self.checkpoints.pop_first();
            }
            self.actions.push_back(ServerAction::Checkpoint { rounds_done: self.round });
        }
        self.next_round();
    }

    // --- when to give up

    /// When a site that was asked something is taken for lost.
    fn answer_due(&self, seat: &Seat) -> Option<Duration> {
        let since = match (seat.presence, &seat.task) {
            (Presence::Asked { since }, _) => Some(since),
            (Presence::Here, Some(task)) => Some(task.since),
            _ => None,
        };
        since.filter(|_| !self.is_over()).map(|since| since + self.patience.answer)
    }

    /// A site whose absence will end the run, and when.
    fn absence_due(&self) -> Option<(SiteId, Duration)> {
        let needed = self.needed();
        let present = self.seats.iter().filter(|s| !matches!(s.presence, Presence::Expected | Presence::Away { .. })).count();
        if self.is_over() || present >= needed {
            return None;
        }
        let due = |(site, seat): (SiteId, &Seat)| match seat.presence {
            Presence::Expected => Some((site, self.patience.absence.max(self.patience.answer))),
            Presence::Away { since } => Some((site, since + self.patience.absence)),
            Presence::Asked { .. } | Presence::Here => None,
        };
        // Whoever went last brought the run to a halt, unless every single one is needed.
        let dues = self.sites().filter_map(due);
        if needed == self.seats.len() { dues.min_by_key(|d| d.1) } else { dues.max_by_key(|d| d.1) }
    }

    fn give_up(&mut self, now: Duration) -> Result<(), Error> {
        let Some((site, _)) = self.absence_due().filter(|due| due.1 <= now) else { return Ok(()) };
        self.state = State::Failed;
        let waited_ms = self.patience.absence.as_millis() as u64;
        let away = |s: &(SiteId, &Seat)| matches!(s.1.presence, Presence::Expected | Presence::Away { .. });
        let sites = self.sites().filter(away).map(|s| s.0).collect();
        let round = self.round;
        let fault = self.seat_mut(site).fault.take().filter(|_| waited_ms == 0);
        Err(fault.unwrap_or(Error::Away { sites, round, waited_ms }))
    }

    fn send(&mut self, site: SiteId, message: Message) {
        self.actions.push_back(ServerAction::Send { site, message });
    }
}

/// What somebody else wrote, fit for a terminal.
fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// Images have a code for every pixel; other data one for every case.
fn condition_dims(summary: &SiteSummary) -> Vec<u32> {
    let mut dims = summary.image_dims.clone();
    if let Some(first) = dims.first_mut() {
        *first = summary.cases;
    }
    dims
}

/// A payload of the expected form, without compression.
fn taken(site: SiteId, round: u64, payload: Payload, dims: Vec<u32>, dtype: Dtype) -> Result<Payload, Error> {
    if payload.dims != dims || payload.dtype != dtype {
        let words = |dtype: Dtype, dims: &[u32]| format!("{dims:?} {dtype}");
        return Err(Error::PayloadDims { site, round, expected: words(dtype, &dims), found: words(payload.dtype, &payload.dims) });
    }
    payload.unpacked().map_err(|error| Error::Frame { site, round, fact: error.to_string() })
}

mod action;

use std::collections::VecDeque;

pub use action::{SiteAction, SiteEvent};

use crate::{
    AnswerDigest, Draw, Error, History, Losses, Message, PROTOCOL_VERSION, Payload, ResumeState, RoundDraw, RunDescription, SiteId,
    SitePolicy, SiteRandomness, SiteSummary, Waiting, error::readable, history::answer_digest, loss_mean::LossMean,
    peer::nearest_checkpoint, policy::refused,
};

/// How often one answer may be sent again. Each time, it is recorded in the journal.
const RESENDS_MAX: u32 = 100;
/// How many messages may bring no new round. Each is counted in the site's ledger.
const ECHOES_MAX: u32 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Not connected, or waiting for the run's description.
    Joining,
    /// Checking what the run requests.
    Inspecting,
    /// Waiting for the hospital's consent.
    Consenting,
    /// Looking for checkpoints.
    Recalling,
    /// Waiting for the start.
    Accepted,
    Beginning,
    Waiting,
    Stepping,
    /// Waiting for the server's confirmation that it takes part in no further round.
    Retiring,
    Over,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Joining => "the site is joining",
            State::Inspecting | State::Consenting => "the site checks the run",
            State::Recalling => "the site looks for its checkpoints",
            State::Accepted => "the site waits for the start",
            State::Beginning => "the site restores its networks",
            State::Waiting => "the site waits for another round",
            State::Stepping => "the site computes",
            State::Retiring => "the site takes part in no further round",
            State::Over => "the site is no longer part of the run",
        }
    }
}

/// The run that a site takes part in, and how far its networks in memory are.
#[derive(Debug)]
struct Part {
    site: SiteId,
    run: RunDescription,
    /// Rounds done by the networks in memory; none before they are made.
    rounds_done: Option<u64>,
    attempt: u32,
    /// The digest of the answer that the networks in memory have learnt from last; zeros for first weights.
    discriminator: AnswerDigest,
    /// The digest of the answer before that one.
    before: AnswerDigest,
    /// The last answer, in case it was lost on its way.
    answer: Option<(u64, Payload, Option<Losses>)>,
    /// How often that answer was sent again.
    resends: u32,
    /// Messages of the server that brought no new round.
    echoes: u32,
    /// The round after the last one received on this connection. A server may skip rounds only after a lost connection.
    expected: Option<u64>,
    /// Whether the server asked for the conditions when the site joined.
    conditions_wanted: bool,
    /// Whether the run trains with differential privacy.
    is_private: bool,
    /// The checkpoints that the site listed on joining, and those that it has written since.
    checkpoints: Vec<u64>,
}

/// A site's settings and state for a run, apart from its data.
#[derive(Debug, Clone)]
pub struct SiteSetup {
    /// The site's policy.
    pub policy: SitePolicy,
    /// Counts and shapes of its cases.
    pub summary: SiteSummary,
    /// Where its own random numbers come from.
    pub randomness: SiteRandomness,
    /// Its earlier answers across all restarts, and the patient of each case.
    pub history: History,
}

/// A site's side of the protocol.
///
/// The driver performs the actions in order. If an action has a completion event, the driver passes that event in
/// before any other.
#[derive(Debug)]
pub struct Site {
    setup: SiteSetup,
    part: Option<Part>,
    state: State,
    losses: LossMean,
    /// Why the site leaves the run in order.
    retirement: Option<String>,
    /// The digest of the answer being computed, and its real cases.
    showing: (AnswerDigest, Vec<u32>),
    actions: VecDeque<SiteAction>,
}

impl Site {
    /// Creates a site that has not joined yet.
    ///
    /// # Panics
    /// If the history does not name the patient of every case.
    pub fn new(setup: SiteSetup) -> Self {
        assert_eq!(setup.history.patients().len(), setup.summary.cases as usize, "a patient for every case");
        let (losses, showing, actions) = (LossMean::default(), Default::default(), VecDeque::new());
        Self { setup, part: None, state: State::Joining, losses, retirement: None, showing, actions }
    }

    /// The next action, if any.
    pub fn poll_action(&mut self) -> Option<SiteAction> {
        self.actions.pop_front()
    }

    /// Rounds done by the networks in memory.
    pub fn rounds_done(&self) -> u64 {
        self.part.as_ref().and_then(|p| p.rounds_done).unwrap_or(0)
    }

    /// Handles one event.
    ///
    /// # Errors
    /// [`Error::Refused`] by the site's own policy, or an error for an invalid message of the server. In both cases a
    /// [`Message::Leave`] to the server is queued.
    pub fn handle_event(&mut self, event: SiteEvent) -> Result<(), Error> {
        let done = self.handle(event);
        if let Err(error) = &done {
            self.leave(error.to_string());
        }
        done
    }

    fn handle(&mut self, event: SiteEvent) -> Result<(), Error> {
        if self.state == State::Over {
            return Ok(());
        }
        match event {
            SiteEvent::Connected => self.join(),
            SiteEvent::Message(message) => self.message(message)?,
            SiteEvent::Inspected { training } => {
                let Part { site, run, .. } = self.part.as_ref().expect("described before inspected");
                let SiteSetup { policy, summary, history, .. } = &self.setup;
                policy.check(run, &training, summary, history.patients())?;
                let (site, run) = (*site, run.clone());
                self.part.as_mut().expect("described before inspected").is_private = training.privacy.is_some();
                self.state = State::Consenting;
                self.actions.push_back(SiteAction::Consent { site, run });
            }
            SiteEvent::Consented => {
                let Part { site, run, conditions_wanted, .. } = self.part.as_ref().expect("described before consented");
                let (site, run, conditions_wanted) = (*site, run.clone(), *conditions_wanted);
                self.state = State::Recalling;
                self.actions.push_back(SiteAction::LoadState { site, run, conditions_wanted });
            }
            SiteEvent::StateLoaded { checkpoints, conditions } => {
                self.state = State::Accepted;
                if let Some(part) = &mut self.part {
                    part.checkpoints.clone_from(&checkpoints);
                }
                let in_memory = self.part.as_ref().and_then(|p| p.rounds_done);
                self.queue(Message::Accept { resume_state: ResumeState { checkpoints, in_memory }, conditions });
            }
            SiteEvent::Begun => {
                self.state = State::Waiting;
                self.prepare();
            }
            SiteEvent::Stepped { feedback, losses } => self.stepped(feedback, losses),
            SiteEvent::BudgetSpent { reason } => {
                self.state = State::Retiring;
                self.queue(Message::Retire { round: self.rounds_done(), reason: reason.clone() });
                self.retirement = Some(reason);
            }
            SiteEvent::Failed { reason } => self.leave(reason),
        }
        Ok(())
    }

    fn join(&mut self) {
        self.state = State::Joining;
        self.queue(Message::Join { protocol_version: PROTOCOL_VERSION, summary: self.setup.summary.clone() });
    }

    fn queue(&mut self, message: Message) {
        self.actions.push_back(SiteAction::Send(message));
    }

    fn message(&mut self, message: Message) -> Result<(), Error> {
        let site = self.part.as_ref().map_or(SiteId(0), |p| p.site);
        let out_of_turn = Error::ServerOutOfTurn { kind: message.kind(), round: self.rounds_done(), state: self.state.name() };
        match message {
            Message::Leave { reason } => {
                self.state = State::Over;
                self.actions.push_back(SiteAction::Ended { reason: readable(&reason) });
            }
            Message::Finish => {
                self.state = State::Over;
                let retired = self.retirement.take().map(|reason| SiteAction::Retired { reason });
                self.actions.push_back(retired.unwrap_or(SiteAction::Finished));
            }
            // Sent before the server knew.
            Message::Round { .. } | Message::Start { .. } if self.state == State::Retiring => {
                let part = self.part.as_mut().ok_or(out_of_turn.clone())?;
                part.echoes += 1;
                return if part.echoes > ECHOES_MAX { Err(out_of_turn) } else { Ok(()) };
            }
            Message::Describe { site, run, conditions_wanted } if self.state == State::Joining => {
                // Before anything of it is parsed.
                self.setup.policy.check_form(&run).map_err(|fact| refused(&run, fact))?;
                run.check(site, &self.setup.summary)?;
                match &mut self.part {
                    Some(part) if part.site == site && part.run == run => {
                        (part.expected, part.conditions_wanted) = (None, conditions_wanted);
                    }
                    Some(part) => {
                        let (joined, described) = (part.run.id(), run.id());
                        return Err(Error::OtherRun { joined, joined_as: part.site, described, described_as: site });
                    }
                    None => {
                        let (rounds_done, answer, expected) = (None, None, None);
                        self.part = Some(Part {
                            site,
                            run: run.clone(),
                            rounds_done,
                            attempt: 0,
                            discriminator: AnswerDigest::default(),
                            before: AnswerDigest::default(),
                            answer,
                            resends: 0,
                            echoes: 0,
                            expected,
                            conditions_wanted,
                            is_private: false,
                            checkpoints: Vec::new(),
                        });
                    }
                }
                self.state = State::Inspecting;
                self.actions.push_back(SiteAction::Inspect { site, run });
            }
            // A site may be rolled back at any time, also while it waits for the next round.
            Message::Start { attempt, round, restore } if self.may_start(attempt) => {
                if let Some(restore) = restore {
                    let Part { run, checkpoints, .. } = self.part.as_ref().expect("described before accepted");
                    // No server has a reason to take a site back further than it must.
                    if restore != nearest_checkpoint(checkpoints, round) {
                        return Err(refused(
                            run,
                            format!("the server wants this site to start round {round} from its checkpoint {restore}"),
                        ));
                    }
                    self.setup.history.allows_restore(&self.setup.policy, run)?;
                    self.setup.history.add_restore();
                }
                self.start(attempt, round, restore).ok_or(out_of_turn)?;
            }
            Message::Round { attempt, round, cases, augmentations, synthetic } if self.state == State::Waiting => {
                self.round(attempt, round, &Draw { site, cases, augmentations }, synthetic, out_of_turn)?;
            }
            _ => return Err(out_of_turn),
        }
        Ok(())
    }

    /// Answers a round, unless it is an echo.
    fn round(&mut self, attempt: u32, round: u64, asked: &Draw, synthetic: Payload, out_of_turn: Error) -> Result<(), Error> {
        let part = self.part.as_ref().expect("described before started");
        let done = part.rounds_done.unwrap_or(0);
        let next = round.saturating_add(1);
        if attempt < part.attempt || next < done {
            // An echo of an earlier attempt or round.
            let part = self.part.as_mut().expect("described before started");
            part.echoes += 1;
            return if part.echoes > ECHOES_MAX { Err(out_of_turn) } else { Ok(()) };
        }
        if next == done {
            return self.answer_again(round).ok_or(out_of_turn);
        }
        if attempt > part.attempt || round > done && part.run.waiting == Waiting::All || round >= part.run.rounds {
            return Err(out_of_turn);
        }
        let skipped = part.expected.map_or(0, |expected| round.saturating_sub(expected));
        self.setup.history.skip(skipped);
        let draw = self.round_draw(round);
        let synthetic = self.checked(round, &draw, asked, synthetic)?;
        if self.is_last_answer(round, &synthetic) {
            // It was lost on its way, and the discriminator has learnt from it already.
            let part = self.part.as_mut().expect("described");
            (part.rounds_done, part.expected) = (Some(round + 1), Some(round + 1));
            self.answer_again(round).ok_or(out_of_turn)?;
            self.prepare();
            return Ok(());
        }
        let SiteSetup { policy, history, .. } = &self.setup;
        let Part { run, discriminator, .. } = self.part.as_ref().expect("described");
        let answer = answer_digest(discriminator, round, &synthetic);
        history.allows(policy, run, round, answer, &draw.real.cases)?;
        self.showing = (answer, draw.real.cases.clone());
        self.state = State::Stepping;
        let part = self.part.as_mut().expect("described");
        (part.rounds_done, part.expected) = (Some(round), Some(round + 1));
        self.actions.push_back(SiteAction::Step { round, draw, synthetic, answer });
        Ok(())
    }

    fn may_start(&self, attempt: u32) -> bool {
        match self.state {
            State::Accepted => true,
            State::Waiting => self.part.as_ref().is_some_and(|p| attempt > p.attempt),
            _ => false,
        }
    }

    fn start(&mut self, attempt: u32, round: u64, restore: Option<u64>) -> Option<()> {
        let part = self.part.as_mut().expect("described before accepted");
        part.attempt = attempt;
        if let Some(rounds_done) = restore {
            part.rounds_done = Some(round);
            part.answer = None;
            part.discriminator = self.setup.history.discriminator(rounds_done);
            self.state = State::Beginning;
            let (site, run) = (part.site, part.run.clone());
            self.actions.push_back(SiteAction::Begin { site, run, rounds_done });
        } else {
            // Only a site that said so can go on with what it has in memory.
            part.rounds_done?;
            if part.run.waiting != Waiting::All {
                // Rounds may have been missed, or the server was rolled back: the discriminator stays as it is.
                part.rounds_done = Some(round);
            }
            // Each is counted in the ledger.
            part.echoes += 1;
            if part.echoes > ECHOES_MAX {
                return None;
            }
            self.state = State::Waiting;
            self.prepare();
        }
        Some(())
    }

    /// The next round's draws are known in advance, so its real images can be read and augmented while the synthetic
    /// ones are generated.
    fn prepare(&mut self) {
        let part = self.part.as_ref().expect("described");
        let round = part.rounds_done.unwrap_or(0);
        if round < part.run.rounds {
            let draw = self.round_draw(round);
            self.actions.push_back(SiteAction::Prepare { round, draw });
        }
    }

    fn round_draw(&self, round: u64) -> RoundDraw {
        let Part { site, run, is_private, .. } = self.part.as_ref().expect("described before rounds");
        let SiteSetup { policy, summary, randomness, history } = &self.setup;
        if *is_private {
            // Each patient takes part at random, and the worker draws them.
            let real = Draw { site: *site, cases: Vec::new(), augmentations: Vec::new() };
            return RoundDraw { conditions: run.draw(*site, round, summary), real };
        }
        run.round_draw(*site, round, summary, randomness, history.patients(), policy.patients_per_batch_min)
    }

    /// Whether these images are those of the last answer.
    fn is_last_answer(&self, round: u64, synthetic: &Payload) -> bool {
        let Part { answer, before, discriminator, .. } = self.part.as_ref().expect("described before rounds");
        answer.as_ref().is_some_and(|(of, ..)| *of == round) && answer_digest(before, round, synthetic) == *discriminator
    }

    /// Sends an answer again that the server may not have received.
    fn answer_again(&mut self, asked: u64) -> Option<()> {
        let part = self.part.as_mut().filter(|part| part.resends < RESENDS_MAX)?;
        let (round, feedback, losses) = part.answer.clone().filter(|a| a.0 == asked)?;
        part.resends += 1;
        let part = self.part.as_ref()?;
        self.queue(Message::Feedback { attempt: part.attempt, round, feedback, losses });
        Some(())
    }

    /// Checks that a round matches this site's data and the run's seed. If the server is wrong, nothing is computed.
    fn checked(&self, round: u64, drawn: &RoundDraw, asked: &Draw, synthetic: Payload) -> Result<Payload, Error> {
        let Part { site, run, .. } = self.part.as_ref().expect("described before rounds");
        let (site, dims, dtype) = (*site, run.batch_dims(&self.setup.summary.image_dims), run.synthetic_dtype);
        if synthetic.dims != dims || synthetic.dtype != dtype {
            let (expected, found) = (format!("{dims:?} {dtype}"), format!("{:?} {}", synthetic.dims, synthetic.dtype));
            return Err(Error::PayloadDims { site, round, expected, found });
        }
        if *asked != drawn.conditions {
            return Err(Error::Draw { site, round });
        }
        let synthetic = synthetic.decompressed()?;
        // Huge values would make all later steps of the discriminator tiny: a fixed network can be read out.
        if run.size > 0 && synthetic.magnitude().is_none_or(|largest| largest > 1.0) {
            return Err(Error::SyntheticRange { site, round });
        }
        Ok(synthetic)
    }

    fn stepped(&mut self, feedback: Payload, losses: Losses) {
        self.state = State::Waiting;
        let part = self.part.as_mut().expect("stepped in a run");
        let round = part.rounds_done.unwrap_or(0);
        let (answer, cases) = std::mem::take(&mut self.showing);
        self.setup.history.add(round, answer, &cases);
        (part.before, part.discriminator) = (part.discriminator, answer);
        let losses = self.losses.release(self.setup.policy.losses, losses);
        part.rounds_done = Some(round + 1);
        let feedback = feedback.compressed();
        (part.answer, part.resends) = (Some((round, feedback.clone(), losses)), 0);
        let attempt = part.attempt;
        // The checkpoint comes first: once the server has the feedback it may count on it.
        if part.run.is_checkpoint(round + 1) {
            part.checkpoints.push(round + 1);
            self.actions.push_back(SiteAction::Checkpoint { rounds_done: round + 1 });
        }
        self.queue(Message::Feedback { attempt, round, feedback, losses });
        self.prepare();
    }

    fn leave(&mut self, reason: String) {
        self.state = State::Over;
        self.actions.clear();
        self.actions.push_back(SiteAction::Send(Message::Leave { reason: reason.clone() }));
        self.actions.push_back(SiteAction::Ended { reason });
    }
}

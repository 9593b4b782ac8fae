use std::collections::VecDeque;

use crate::{Draw, Error, Losses, Message, PROTOCOL_VERSION, Payload, RunDescription, SiteId, SitePolicy, SiteSummary, Standing, Waiting};

/// What happens to a site.
#[derive(Debug, Clone, PartialEq)]
pub enum SiteEvent {
    /// There is a connection to the server, for the first time or again: join.
    Connected,
    /// The server sent something.
    Message(Message),
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
    /// The policy allows the run: look for its checkpoints; then [`SiteEvent::Recalled`].
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
        draw: Draw,
    },
    /// Learn from a synthetic batch; then [`SiteEvent::Stepped`].
    Step {
        /// Which round.
        round: u64,
        /// What of the site's cases to compare with.
        draw: Draw,
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

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Not connected, or waiting for the run's description.
    Joining,
    /// Looking for checkpoints.
    Recalling,
    /// Waiting for the start.
    Accepted,
    Beginning,
    Waiting,
    Stepping,
    Over,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Joining => "the site joins",
            State::Recalling => "the site looks for its checkpoints",
            State::Accepted => "the site waits for the start",
            State::Beginning => "the site restores its networks",
            State::Waiting => "the site waits for another round",
            State::Stepping => "the site computes",
            State::Over => "the site's part is over",
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
    /// The last answer, in case it was lost on its way.
    answer: Option<(u64, Payload, Losses)>,
}

/// A site's side of the protocol.
///
/// Whoever drives it does the actions in order, and hands in the event of one that has one before any other event.
#[derive(Debug)]
pub struct Site {
    policy: SitePolicy,
    summary: SiteSummary,
    part: Option<Part>,
    state: State,
    /// Answers that the server has had, also before this process began.
    answers: u64,
    actions: VecDeque<SiteAction>,
}

impl Site {
    /// A site that has not joined yet, and has given so many answers before.
    pub fn new(policy: SitePolicy, summary: SiteSummary, answers: u64) -> Self {
        Self { policy, summary, part: None, state: State::Joining, answers, actions: VecDeque::new() }
    }

    /// What to do next, if anything.
    pub fn poll_action(&mut self) -> Option<SiteAction> {
        self.actions.pop_front()
    }

    /// Rounds done by the networks in memory.
    pub fn rounds_done(&self) -> u64 {
        self.part.as_ref().and_then(|p| p.rounds_done).unwrap_or(0)
    }

    /// Takes one event.
    ///
    /// # Errors
    /// [`Error::Refused`] by the site's own policy, or whatever the server sent that has no place; the site has then told the
    /// server that it leaves.
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
            SiteEvent::Recalled { checkpoints, conditions } => {
                self.state = State::Accepted;
                let in_memory = self.part.as_ref().and_then(|p| p.rounds_done);
                self.say(Message::Accept { standing: Standing { checkpoints, in_memory }, conditions });
            }
            SiteEvent::Begun => {
                self.state = State::Waiting;
                self.prepare();
            }
            SiteEvent::Stepped { feedback, losses } => self.stepped(feedback, losses),
            SiteEvent::Failed { reason } => self.leave(reason),
        }
        Ok(())
    }

    fn join(&mut self) {
        self.state = State::Joining;
        self.say(Message::Join { protocol_version: PROTOCOL_VERSION, summary: self.summary.clone() });
    }

    fn say(&mut self, message: Message) {
        self.actions.push_back(SiteAction::Send(message));
    }

    fn message(&mut self, message: Message) -> Result<(), Error> {
        let site = self.part.as_ref().map_or(SiteId(0), |p| p.site);
        let out_of_turn = Error::OutOfTurn { site, kind: message.kind(), round: self.rounds_done(), state: self.state.name() };
        match message {
            Message::Leave { reason } => {
                self.state = State::Over;
                self.actions.push_back(SiteAction::Ended { reason });
            }
            Message::Finish => {
                self.state = State::Over;
                self.actions.push_back(SiteAction::Finished);
            }
            Message::Describe { site, run, conditions_wanted } if self.state == State::Joining => {
                self.policy.check(&run)?;
                run.check(site, &self.summary)?;
                if !self.part.as_ref().is_some_and(|p| p.site == site && p.run == run) {
                    self.part = Some(Part { site, run: run.clone(), rounds_done: None, attempt: 0, answer: None });
                }
                self.state = State::Recalling;
                self.actions.push_back(SiteAction::Recall { site, run, conditions_wanted });
            }
            // A site may be set back at any time, also while it waits for the next round.
            Message::Start { attempt, round, restore } if self.may_start(attempt) => {
                self.start(attempt, round, restore).ok_or(out_of_turn)?;
            }
            Message::Round { attempt, round, cases, augmentations, synthetic } if self.state == State::Waiting => {
                let part = self.part.as_ref().expect("described before started");
                let done = part.rounds_done.unwrap_or(0);
                if attempt < part.attempt || round + 1 < done {
                    // An echo of an earlier attempt or round.
                    return Ok(());
                }
                if round + 1 == done {
                    return self.answer_again(round).ok_or(out_of_turn);
                }
                if attempt > part.attempt || round > done && part.run.waiting == Waiting::All || round >= part.run.rounds {
                    return Err(out_of_turn);
                }
                if self.answers >= self.policy.answers_max() {
                    let fact = format!("rounds_max is {}, and the server has had {} answers", self.policy.rounds_max, self.answers);
                    return Err(Error::Refused { run: part.run.name.clone(), fact });
                }
                let draw = Draw { site, cases, augmentations };
                let synthetic = self.checked(round, &draw, synthetic)?;
                self.state = State::Stepping;
                self.part.as_mut().expect("described").rounds_done = Some(round);
                self.actions.push_back(SiteAction::Step { round, draw, synthetic });
            }
            _ => return Err(out_of_turn),
        }
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
            self.state = State::Beginning;
            let (site, run) = (part.site, part.run.clone());
            self.actions.push_back(SiteAction::Begin { site, run, rounds_done });
        } else {
            // Only a site that said so can go on with what it has in memory.
            part.rounds_done?;
            if part.run.waiting != Waiting::All {
                // Rounds may have been missed, or the server may be set back: the discriminator stays as it is.
                (part.rounds_done, part.answer) = (Some(round), None);
            }
            self.state = State::Waiting;
            self.prepare();
        }
        Some(())
    }

    /// The next round's draws are known beforehand: its real images can be looked at while the synthetic ones are made.
    fn prepare(&mut self) {
        let part = self.part.as_ref().expect("described");
        let round = part.rounds_done.unwrap_or(0);
        if round < part.run.rounds {
            let draw = part.run.draw(part.site, round, &self.summary);
            self.actions.push_back(SiteAction::Prepare { round, draw });
        }
    }

    /// The server asks for an answer that it may not have got.
    fn answer_again(&mut self, asked: u64) -> Option<()> {
        let part = self.part.as_ref()?;
        let (round, feedback, losses) = part.answer.clone().filter(|a| a.0 == asked)?;
        self.say(Message::Feedback { attempt: part.attempt, round, feedback, losses });
        Some(())
    }

    /// Whether a round fits this site's data and the run's seed: a server can be wrong, and then nothing is computed.
    fn checked(&self, round: u64, draw: &Draw, synthetic: Payload) -> Result<Payload, Error> {
        let Part { site, run, .. } = self.part.as_ref().expect("described before rounds");
        let (site, dims, dtype) = (*site, run.batch_dims(&self.summary.image_dims), run.synthetic_dtype);
        if synthetic.dims != dims || synthetic.dtype != dtype {
            let (expected, found) = (format!("{dims:?} {dtype}"), format!("{:?} {}", synthetic.dims, synthetic.dtype));
            return Err(Error::PayloadDims { site, round, expected, found });
        }
        if *draw != run.draw(site, round, &self.summary) {
            return Err(Error::Draw { site, round });
        }
        synthetic.unpacked()
    }

    fn stepped(&mut self, feedback: Payload, losses: Losses) {
        self.answers += 1;
        self.state = State::Waiting;
        let part = self.part.as_mut().expect("stepped in a run");
        let round = part.rounds_done.unwrap_or(0);
        part.rounds_done = Some(round + 1);
        let feedback = feedback.packed();
        part.answer = Some((round, feedback.clone(), losses));
        let attempt = part.attempt;
        // The checkpoint comes first: once the server has the feedback it may count on it.
        if part.run.is_checkpoint(round + 1) {
            self.actions.push_back(SiteAction::Checkpoint { rounds_done: round + 1 });
        }
        self.say(Message::Feedback { attempt, round, feedback, losses });
        self.prepare();
    }

    fn leave(&mut self, reason: String) {
        self.state = State::Over;
        self.actions.clear();
        self.actions.push_back(SiteAction::Send(Message::Leave { reason: reason.clone() }));
        self.actions.push_back(SiteAction::Ended { reason });
    }
}

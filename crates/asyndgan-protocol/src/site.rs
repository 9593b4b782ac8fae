use std::collections::VecDeque;

use crate::{Augmentation, Dtype, Error, Losses, Message, PROTOCOL_VERSION, Payload, RunDescription, SiteId, SitePolicy, SiteSummary};

/// What happens to a site.
#[derive(Debug, Clone, PartialEq)]
pub enum SiteEvent {
    /// The local data are loaded: join.
    Ready {
        /// Counts, shapes and checkpoints.
        summary: SiteSummary,
        /// Condition codes of every case.
        conditions: Payload,
    },
    /// The server sent something.
    Message(Message),
    /// [`SiteAction::Begin`] is done.
    Begun,
    /// [`SiteAction::Step`] is done.
    Stepped {
        /// Which round.
        round: u64,
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
    /// Make networks, or restore the checkpoint of `rounds_done`; then [`SiteEvent::Begun`].
    Begin {
        /// The accepted description.
        run: RunDescription,
        /// Rounds already done.
        rounds_done: u64,
    },
    /// Learn from a synthetic batch; then [`SiteEvent::Stepped`].
    Step {
        /// Which round.
        round: u64,
        /// Indices of the cases to compare with.
        cases: Vec<u32>,
        /// Crop and flips of each.
        augmentations: Vec<Augmentation>,
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

#[derive(Debug, PartialEq)]
enum State {
    Loading,
    Joined { conditions: Payload },
    Accepted,
    Beginning,
    Waiting,
    Stepping,
    Over,
}

/// A site's side of the protocol.
#[derive(Debug)]
pub struct Site {
    id: SiteId,
    policy: SitePolicy,
    summary: SiteSummary,
    run: Option<RunDescription>,
    round: u64,
    state: State,
    /// A round that came while the site was still restoring.
    early: Option<Message>,
    actions: VecDeque<SiteAction>,
}

impl Site {
    /// A site that has not joined yet.
    pub fn new(id: SiteId, policy: SitePolicy) -> Self {
        Self {
            id,
            policy,
            summary: SiteSummary { cases: 0, image_dims: Vec::new(), checkpoints: Vec::new() },
            run: None,
            round: 0,
            state: State::Loading,
            early: None,
            actions: VecDeque::new(),
        }
    }

    /// What to do next, if anything.
    pub fn poll_action(&mut self) -> Option<SiteAction> {
        self.actions.pop_front()
    }

    /// Takes one event.
    ///
    /// # Errors
    /// [`Error::Refused`] by the site's own policy, [`Error::OutOfTurn`], [`Error::PayloadDims`]; the site has then told the
    /// server that it leaves.
    pub fn handle_event(&mut self, event: SiteEvent) -> Result<(), Error> {
        let done = self.handle(event);
        if let Err(error) = &done {
            self.leave(error.to_string());
        }
        done
    }

    fn handle(&mut self, event: SiteEvent) -> Result<(), Error> {
        match event {
            SiteEvent::Ready { summary, conditions } => {
                self.summary = summary.clone();
                self.state = State::Joined { conditions };
                self.actions.push_back(SiteAction::Send(Message::Join { protocol_version: PROTOCOL_VERSION, summary }));
            }
            SiteEvent::Message(message) => self.message(message)?,
            SiteEvent::Begun => {
                self.state = State::Waiting;
                if let Some(message) = self.early.take() {
                    self.message(message)?;
                }
            }
            SiteEvent::Stepped { round, feedback, losses } => {
                self.state = State::Waiting;
                self.round = round + 1;
                // The checkpoint comes first: once the server has the feedback it may count on it.
                if self.run.as_ref().is_some_and(|r| r.is_checkpoint(round + 1)) {
                    self.actions.push_back(SiteAction::Checkpoint { rounds_done: round + 1 });
                }
                self.actions.push_back(SiteAction::Send(Message::Feedback { round, feedback, losses }));
            }
            SiteEvent::Failed { reason } => self.leave(reason),
        }
        Ok(())
    }

    fn message(&mut self, message: Message) -> Result<(), Error> {
        let state = std::mem::replace(&mut self.state, State::Over);
        match (state, message) {
            (_, Message::Leave { reason }) => self.actions.push_back(SiteAction::Ended { reason }),
            (State::Joined { conditions }, Message::Describe { run }) => {
                self.policy.check(&run)?;
                self.run = Some(run);
                self.state = State::Accepted;
                self.actions.push_back(SiteAction::Send(Message::Conditions { codes: conditions }));
            }
            (State::Accepted, Message::Start { rounds_done }) => {
                self.round = rounds_done;
                self.state = State::Beginning;
                let run = self.run.clone().expect("described before accepted");
                self.actions.push_back(SiteAction::Begin { run, rounds_done });
            }
            (State::Beginning, message @ Message::Round { .. }) if self.early.is_none() => {
                self.state = State::Beginning;
                self.early = Some(message);
            }
            (State::Waiting, Message::Round { round, cases, augmentations, synthetic }) if round == self.round => {
                self.check_round(round, &cases, &augmentations, &synthetic)?;
                self.state = State::Stepping;
                self.actions.push_back(SiteAction::Step { round, cases, augmentations, synthetic });
            }
            (State::Waiting | State::Beginning, Message::Finish) => self.actions.push_back(SiteAction::Finished),
            (_, message) => return Err(Error::OutOfTurn { site: self.id, kind: message.kind(), state: "its server is in another state" }),
        }
        Ok(())
    }

    /// Whether a round fits this site's data: a server can be wrong, and then nothing is computed.
    fn check_round(&self, round: u64, cases: &[u32], augmentations: &[Augmentation], synthetic: &Payload) -> Result<(), Error> {
        let run = self.run.as_ref().expect("described before rounds");
        let expected = run.batch_dims(&self.summary.image_dims);
        let inside = |a: &Augmentation| match self.summary.image_dims[..] {
            [_, rows, columns] => a.top.saturating_add(run.crop) <= rows && a.left.saturating_add(run.crop) <= columns,
            _ => true,
        };
        if synthetic.dims != expected || synthetic.dtype != Dtype::F32 {
            return Err(Error::PayloadDims { site: self.id, round, expected, found: synthetic.dims.clone() });
        }
        let batch = run.batch as usize;
        let known = cases.len() == batch && cases.iter().all(|&c| c < self.summary.cases);
        if !known || augmentations.len() != batch || !augmentations.iter().all(inside) {
            return Err(Error::Draw { site: self.id, round });
        }
        Ok(())
    }

    fn leave(&mut self, reason: String) {
        self.state = State::Over;
        self.actions.clear();
        self.actions.push_back(SiteAction::Send(Message::Leave { reason: reason.clone() }));
        self.actions.push_back(SiteAction::Ended { reason });
    }
}

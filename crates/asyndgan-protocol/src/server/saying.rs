//! What sites say, and what the server makes of it.

use std::time::Duration;

use super::{FEEDBACK_MAGNITUDE_MAX, Server, ServerAction, State};
use crate::{
    Dtype, Error, Message, PROTOCOL_VERSION, Payload, SiteId, SiteSummary, Standing, Waiting, hex,
    seat::{Answer, Presence},
};

impl Server {
    pub(super) fn message(&mut self, now: Duration, site: SiteId, message: Message) -> Result<(), Error> {
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

    pub(super) fn start(&mut self, site: SiteId, round: u64, restore: Option<u64>) {
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
    pub(super) fn dismiss(&mut self, now: Duration, site: SiteId, error: Error) {
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

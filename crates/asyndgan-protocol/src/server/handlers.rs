//! How the server handles messages from sites.

use std::time::Duration;

use super::{CHECKPOINTS_NAMED_MAX, FEEDBACK_MAGNITUDE_MAX, LostState, Server, ServerAction, State};
use crate::{
    Dtype, Error, Message, PROTOCOL_VERSION, Payload, ResumeState, SiteId, SiteSummary, Waiting,
    error::readable,
    hex,
    peer::{Answer, Presence},
};

/// How often a site may send masks that do not match its summary. Each time they are decompressed and hashed.
const CONDITION_FAULTS_MAX: u32 = 3;
/// Maximum number of unsolicited answers. A lost connection can cause a few of them.
const ECHOES_MAX: u32 = 1_000;

impl Server {
    pub(super) fn message(&mut self, now: Duration, site: SiteId, message: Message) -> Result<(), Error> {
        let out_of_turn = Error::OutOfTurn { site, kind: message.kind(), round: self.round, state: self.state.name() };
        if site.0 as usize >= self.peers.len() {
            return Err(out_of_turn);
        }
        match message {
            // A site that joins after the end, or was about to take part.
            Message::Join { .. } | Message::Accept { .. } if self.state == State::Finished && !self.peer(site).has_joined() => {
                self.peer_mut(site).presence = Presence::Joined;
                self.finish(site);
                Ok(())
            }
            Message::Retire { round, reason } if self.peer(site).has_joined() => {
                self.retire(site, round, readable(&reason));
                Ok(())
            }
            // The answer to its message was lost, or it was started again.
            Message::Join { .. } if self.peer(site).is_retired() => {
                self.ignored(site)?;
                self.finish(site);
                Ok(())
            }
            Message::Leave { reason } => Err(Error::SiteLeft { site, round: self.round, reason: readable(&reason) }),
            // Once a connection: a carrier tells of the loss of the one before.
            Message::Join { protocol_version, summary } if !self.peer(site).is_connected() => {
                self.join(now, site, protocol_version, summary)
            }
            Message::Accept { resume_state, conditions }
                if matches!(self.peer(site).presence, Presence::Described { .. }) && self.peer(site).resume_state.is_none() =>
            {
                self.accept(now, site, resume_state, conditions)
            }
            Message::Feedback { attempt, round, feedback, losses } if self.peer(site).has_joined() => {
                if (attempt, round) > (self.attempt, self.round) {
                    return Err(out_of_turn);
                }
                self.answer(site, attempt, Answer { round, feedback, losses })
            }
            // Of a site that has just been dismissed: on its way already.
            _ if self.peer(site).is_gone() => self.ignored(site),
            _ => Err(out_of_turn),
        }
    }

    /// Counts a message that is ignored. Each is a line of the ledger: a site that sends many is dismissed.
    fn ignored(&mut self, site: SiteId) -> Result<(), Error> {
        let round = self.round;
        let peer = self.peer_mut(site);
        peer.echoes += 1;
        if peer.echoes > ECHOES_MAX {
            peer.echoes = 0;
            return Err(Error::Frame { site, round, fact: format!("more than {ECHOES_MAX} unsolicited messages") });
        }
        Ok(())
    }

    /// A site takes part in no further round. An answer that was received before counts.
    fn retire(&mut self, site: SiteId, round: u64, reason: String) {
        let peer = self.peer_mut(site);
        (peer.task, peer.presence) = (None, Presence::Retired);
        // No round lies beyond the run.
        self.last_retirement = Some((site, round.min(self.run.rounds), reason));
        // That the last site has left is stored after the result: otherwise a restarted server would have neither.
        if !self.is_abandoned() {
            self.store_retirement();
        }
    }

    /// Stores that a site has left, then tells it that it may end.
    pub(super) fn store_retirement(&mut self) {
        if let Some((site, round, reason)) = self.last_retirement.take() {
            self.actions.push_back(ServerAction::Retired { site, round, reason });
            self.finish(site);
        }
    }

    fn join(&mut self, now: Duration, site: SiteId, protocol_version: u32, summary: SiteSummary) -> Result<(), Error> {
        if protocol_version != PROTOCOL_VERSION {
            return Err(Error::Version { site, expected: PROTOCOL_VERSION, found: protocol_version });
        }
        self.check_summary(site, &summary)?;
        if self.peer(site).condition_faults >= CONDITION_FAULTS_MAX {
            let fact =
                format!("masks that did not match its summary, {CONDITION_FAULTS_MAX} times; restart the server to let the site try again");
            return Err(Error::Frame { site, round: self.round, fact });
        }
        let run = self.run.clone();
        let peer = self.peer_mut(site);
        peer.summary = Some(summary);
        peer.presence = Presence::Described { since: now };
        (peer.resume_state, peer.returned) = (None, peer.conditions);
        let conditions_wanted = !peer.conditions;
        self.send(site, Message::Describe { site, run, conditions_wanted });
        Ok(())
    }

    fn check_summary(&self, site: SiteId, summary: &SiteSummary) -> Result<(), Error> {
        self.run.check(site, summary)?;
        let (cases, limit) = (summary.cases, self.policy.cases_max);
        if cases > limit {
            return Err(Error::TooManyCases { site, found: cases, limit });
        }
        let found = condition_dims(summary).iter().fold(1, |n: u64, &d| n.saturating_mul(d.into()));
        if found > self.policy.condition_bytes_max {
            return Err(Error::ConditionsTooLarge { site, found, limit: self.policy.condition_bytes_max });
        }
        match &self.peer(site).summary {
            Some(before) if before != summary && self.peer(site).conditions => {
                let words = |s: &SiteSummary| {
                    let digest = hex(&s.conditions_sha256[..4]);
                    format!("{} cases of {:?} with masks {digest}", s.cases, s.image_dims)
                };
                Err(Error::Changed { site, expected: words(before), found: words(summary) })
            }
            _ => Ok(()),
        }
    }

    fn accept(&mut self, now: Duration, site: SiteId, resume_state: ResumeState, conditions: Option<Payload>) -> Result<(), Error> {
        let (round, peer) = (self.round, self.peer(site));
        let summary = peer.summary.clone().expect("joined before accepting");
        if resume_state.checkpoints.len() > CHECKPOINTS_NAMED_MAX {
            let fact = format!("a list of {} checkpoints; the limit is {CHECKPOINTS_NAMED_MAX}", resume_state.checkpoints.len());
            return Err(Error::Frame { site, round, fact });
        }
        match conditions {
            Some(conditions) if !peer.conditions => {
                check_form(site, round, &conditions, &condition_dims(&summary), Dtype::U8)?;
                self.peer_mut(site).resume_state = Some(resume_state);
                self.actions.push_back(ServerAction::StoreConditions { site, summary, conditions });
            }
            None if peer.conditions => self.admit(now, site, resume_state)?,
            _ => return Err(Error::Frame { site, round, fact: "unrequested masks, or no masks although they were requested".into() }),
        }
        Ok(())
    }

    /// Its conditions are stored, or did not match its summary.
    pub(super) fn conditions_stored(&mut self, now: Duration, site: SiteId, fault: Option<String>) -> Result<(), Error> {
        if let Some(fact) = fault {
            self.peer_mut(site).condition_faults += 1;
            return Err(Error::Frame { site, round: self.round, fact });
        }
        self.peer_mut(site).conditions = true;
        // It may have been lost meanwhile.
        match self.peer_mut(site).resume_state.take() {
            Some(resume_state) if matches!(self.peer(site).presence, Presence::Described { .. }) => self.admit(now, site, resume_state),
            _ => Ok(()),
        }
    }

    fn admit(&mut self, now: Duration, site: SiteId, resume_state: ResumeState) -> Result<(), Error> {
        let peer = self.peer_mut(site);
        peer.checkpoints = resume_state.checkpoints;
        peer.fault = None;
        if self.state == State::Finished {
            // The operator has ended the run while its conditions were stored.
            self.peer_mut(site).presence = Presence::Joined;
            self.finish(site);
            return Ok(());
        }
        let readmitted = self.state == State::Gathering || self.readmit(now, site, resume_state.in_memory);
        if !readmitted {
            return Err(Error::StateLost { site, round: self.latest_checkpoint() });
        }
        self.peer_mut(site).presence = Presence::Joined;
        self.actions.push_back(ServerAction::Joined { site });
        Ok(())
    }

    /// The checkpoint from which the run would resume, or 0 for its beginning.
    pub(super) fn latest_checkpoint(&self) -> u64 {
        self.checkpoints.iter().copied().filter(|&c| c <= self.round).max().unwrap_or(0)
    }

    /// Admits a site to a run that is already running. Returns whether the site can take part.
    fn readmit(&mut self, now: Duration, site: SiteId, in_memory: Option<u64>) -> bool {
        let (round, peer) = (self.round, self.peer(site));
        if self.run.waiting == Waiting::All {
            let answered = peer.answer.is_some();
            let fits = in_memory == Some(round + 1) || !answered && in_memory == Some(round);
            let latest = self.latest_checkpoint();
            let go_back = self.policy.lost_state == LostState::RollBack;
            let mut restore = None;
            if !fits {
                if peer.holds(latest) && peer.rollbacks < self.policy.rollbacks_max || go_back {
                    self.peer_mut(site).rollbacks += 1;
                    self.set_back();
                    return true;
                }
                if self.policy.lost_state == LostState::Wait {
                    return false;
                }
                let restored = peer.nearest(round);
                self.actions.push_back(ServerAction::StateLost { site, round, restored });
                restore = Some(restored);
            }
            self.start(site, round + u64::from(answered), restore);
            if let Some(task) = &mut self.peer_mut(site).task {
                // If its answer was lost on the way, it still has it in memory.
                task.since = now;
                let synthetic = task.synthetic.clone();
                self.send_round(site, round, synthetic);
            }
        } else {
            // It goes on with the discriminator that it has; what it was asked before is void.
            let restore = match in_memory {
                Some(_) => None,
                None => Some(peer.nearest(round)),
            };
            if restore == Some(0) && peer.returned && round > 0 {
                if self.policy.lost_state == LostState::Wait {
                    return false;
                }
                self.actions.push_back(ServerAction::StateLost { site, round, restored: 0 });
            }
            let peer = self.peer_mut(site);
            peer.task = None;
            self.start(site, round, restore);
        }
        true
    }

    /// Rolls the run back: all sites gather again and resume from a checkpoint.
    fn set_back(&mut self) {
        self.attempt += 1;
        self.state = State::Gathering;
        self.since = None;
        self.drop_round();
    }

    pub(super) fn start(&mut self, site: SiteId, round: u64, restore: Option<u64>) {
        self.send(site, Message::Start { attempt: self.attempt, round, restore });
    }

    fn answer(&mut self, site: SiteId, attempt: u32, answer: Answer) -> Result<(), Error> {
        let due = self.peer(site).task.as_ref().is_some_and(|task| task.round == answer.round);
        if attempt < self.attempt || !due {
            // A repetition of an answer of an earlier attempt or round.
            return self.ignored(site);
        }
        let Answer { round, feedback, losses } = answer;
        if matches!(self.run.waiting, Waiting::Quorum { .. }) && round < self.round {
            // Too late to count; the site is free for the next round.
            self.peer_mut(site).task = None;
            return Ok(());
        }
        let summary = self.peer(site).summary.as_ref().expect("joined");
        check_form(site, round, &feedback, &self.run.batch_dims(&summary.image_dims), self.run.feedback_dtype)?;
        let feedback = feedback.decompressed().map_err(|error| Error::Frame { site, round, fact: error.to_string() })?;
        let absurd = |fact: String| Err(Error::InvalidFeedback { site, round, fact });
        if losses.is_some_and(|losses| !(losses.discriminator.is_finite() && losses.generator.is_finite())) {
            return absurd("its losses are not finite".into());
        }
        match feedback.magnitude() {
            None => return absurd("its values are not finite".into()),
            Some(found) if found > FEEDBACK_MAGNITUDE_MAX => {
                return absurd(format!("its largest value is {found}, and the limit is {FEEDBACK_MAGNITUDE_MAX}"));
            }
            Some(_) => {}
        }
        let is_checkpoint = self.run.is_checkpoint(round + 1);
        let peer = self.peer_mut(site);
        if is_checkpoint && !peer.checkpoints.contains(&(round + 1)) {
            // A site keeps its checkpoint before it answers.
            peer.checkpoints.push(round + 1);
        }
        peer.task = None;
        peer.answer = Some(Answer { round, feedback, losses });
        Ok(())
    }

    /// Handles a site's fault or loss. The site is marked as disconnected; the other sites lose nothing.
    pub(super) fn dismiss(&mut self, now: Duration, site: SiteId, error: Error) {
        let paper_policy = self.run.waiting == Waiting::All;
        let Some(peer) = self.peers.get_mut(site.0 as usize) else { return };
        if peer.is_gone() || self.state == State::Finished && !error.is_fault() {
            // After the end sites leave. One that has come back and does not get as far as joining receives the reason.
            if !peer.is_gone() {
                peer.presence = Presence::Disconnected { since: now };
            }
            if error.is_fault() {
                peer.fault = Some(error.clone());
                self.actions.push_back(ServerAction::Dismiss { site, error });
            }
            return;
        }
        peer.presence = Presence::Disconnected { since: now };
        if !paper_policy {
            // Its images are generated again when it comes back, for another round.
            peer.task = None;
        }
        peer.fault = Some(error.clone());
        self.actions.push_back(ServerAction::Dismiss { site, error });
    }
}

/// Images have one code per pixel; other data have one code per case.
fn condition_dims(summary: &SiteSummary) -> Vec<u32> {
    let mut dims = summary.image_dims.clone();
    if let Some(first) = dims.first_mut() {
        *first = summary.cases;
    }
    dims
}

/// Checks a payload's dimensions, type and size without decompressing it.
fn check_form(site: SiteId, round: u64, payload: &Payload, dims: &[u32], dtype: Dtype) -> Result<(), Error> {
    if payload.dims != dims || payload.dtype != dtype {
        let words = |dtype: Dtype, dims: &[u32]| format!("{dims:?} {dtype}");
        return Err(Error::PayloadDims { site, round, expected: words(dtype, dims), found: words(payload.dtype, &payload.dims) });
    }
    payload.check().map_err(|error| Error::Frame { site, round, fact: error.to_string() })
}

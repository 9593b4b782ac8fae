//! How a run goes on from round to round.

use std::time::Duration;

use super::{CHECKPOINTS_KEPT, Server, ServerAction, State};
use crate::{
    Contribution, Draw, Message, Payload, SiteId, Waiting,
    seat::{Answer, Seat, Task},
};

impl Server {
    /// Whatever the present state was waiting for may have come.
    pub(super) fn advance(&mut self, now: Duration) {
        match self.state {
            State::Gathering => {
                let enough = self.has_quorum();
                self.since = self.since.filter(|_| enough).or_else(|| enough.then_some(now));
                if enough && (self.begun || self.everybody_is_here() || self.is_past_deadline(now)) {
                    self.since = None;
                    if self.begun { self.next_round() } else { self.begin() }
                }
            }
            State::Collecting if self.is_complete(now) => self.update(),
            State::Collecting if self.somebody_is_idle() && self.asks_latecomers(now) => self.next_round(),
            _ => {}
        }
    }

    /// Whether those who are idle are asked in the midst of a round.
    fn asks_latecomers(&self, now: Duration) -> bool {
        match self.run.waiting {
            Waiting::All => false,
            // They would have to be waited for: only if those who were asked are too few, or too slow.
            Waiting::Quorum { .. } => {
                let in_time = !self.is_past_deadline(now);
                let counts = |seat: &&Seat| seat.answer.is_some() || in_time && seat.is_here() && self.is_awaited(seat);
                self.seats.iter().filter(counts).count() < self.needed()
            }
            Waiting::Staleness { .. } => true,
        }
    }

    /// Whether a round waits for this site's answer.
    fn is_awaited(&self, seat: &Seat) -> bool {
        seat.task.as_ref().is_some_and(|task| match self.run.waiting {
            Waiting::All => true,
            // An answer to an earlier round does not count.
            Waiting::Quorum { .. } => task.round == self.round,
            Waiting::Staleness { rounds, .. } => task.round + rounds < self.round + 1,
        })
    }

    fn somebody_is_idle(&self) -> bool {
        self.seats.iter().any(Seat::is_idle)
    }

    /// When there may be something to do although nobody said anything.
    pub(super) fn deadline_due(&self) -> Option<Duration> {
        let awaited = self.has_quorum() || self.state == State::Collecting && self.somebody_is_idle();
        self.since.filter(|_| awaited).zip(self.deadline()).map(|(since, deadline)| since + deadline)
    }

    pub(super) fn needed(&self) -> usize {
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
        let all_answered = !self.seats.iter().any(|seat| self.is_awaited(seat));
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

    pub(super) fn next_round(&mut self) {
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

    pub(super) fn finish(&mut self, site: SiteId) {
        self.seat_mut(site).told = true;
        self.send(site, Message::Finish);
    }

    fn draws_of(&self, round: u64, takes_part: impl Fn(&Seat) -> bool) -> Vec<Draw> {
        let draw = |(site, seat): (SiteId, &Seat)| Some(self.run.draw(site, round, seat.summary.as_ref()?));
        self.sites().filter(|s| takes_part(s.1)).filter_map(draw).collect()
    }

    pub(super) fn synthesized(&mut self, now: Duration, synthetic: Vec<Payload>) {
        self.state = State::Collecting;
        self.since.get_or_insert(now);
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

    pub(super) fn send_round(&mut self, site: SiteId, round: u64, synthetic: Payload) {
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

    pub(super) fn updated(&mut self) {
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
}

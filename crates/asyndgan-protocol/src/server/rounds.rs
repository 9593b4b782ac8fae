//! How a run advances from round to round.

use std::time::Duration;

use super::{CHECKPOINTS_KEPT, LostState, Server, ServerAction, State, feedback::Verdict};
use crate::{
    Contribution, Draw, Error, Message, Payload, SiteId, Waiting,
    peer::{Answer, Peer, Presence, Task},
};

impl Server {
    /// Moves to the next state if its conditions are met.
    pub(super) fn advance(&mut self, now: Duration) {
        match self.state {
            // Nobody is left: what was learnt is the result.
            State::Gathering if self.is_abandoned() || self.is_ending && self.latest_checkpoint_of_all() > 0 => {
                self.round = self.latest_checkpoint_of_all();
                if self.round > 0 {
                    self.state = State::Beginning;
                    self.actions.push_back(ServerAction::Begin { rounds_done: self.round });
                }
            }
            State::Paused if self.is_abandoned() && self.round > 0 => self.next_round(),
            State::Collecting if self.is_abandoned() && self.round > 0 && !self.any_answer() => self.next_round(),
            State::Paused | State::Collecting if self.is_ending && self.round > 0 => {
                self.drop_round();
                self.next_round();
            }
            State::Gathering => {
                let enough = self.has_quorum();
                self.since = self.since.filter(|_| enough).or_else(|| enough.then_some(now));
                if enough && (self.all_joined() || self.is_past_deadline(now)) {
                    self.since = None;
                    self.begin(now);
                }
            }
            State::Paused if self.has_quorum() => {
                self.since = None;
                self.next_round();
            }
            State::Collecting if self.is_complete(now) => self.update(now),
            State::Collecting if self.any_idle() && self.asks_latecomers(now) => self.next_round(),
            _ => {}
        }
    }

    /// Whether idle sites are added to a round that is already running.
    fn asks_latecomers(&self, now: Duration) -> bool {
        match self.run.waiting {
            Waiting::All => false,
            // They would have to be waited for: only if those who were asked are too few, or too slow.
            Waiting::Quorum { .. } => {
                let in_time = !self.is_past_deadline(now);
                let counts = |peer: &&Peer| peer.answer.is_some() || in_time && peer.has_joined() && self.is_awaited(peer);
                self.peers.iter().filter(counts).count() < self.needed()
            }
            Waiting::Staleness { .. } => true,
        }
    }

    /// Whether a round waits for this site's answer.
    pub(super) fn is_awaited(&self, peer: &Peer) -> bool {
        peer.task.as_ref().is_some_and(|task| match self.run.waiting {
            Waiting::All => true,
            // An answer to an earlier round does not count.
            Waiting::Quorum { .. } => task.round == self.round,
            Waiting::Staleness { rounds, .. } => task.round.saturating_add(rounds) < self.round + 1,
        })
    }

    /// Nobody is asked for anything, and no answer counts.
    pub(super) fn drop_round(&mut self) {
        for peer in &mut self.peers {
            (peer.task, peer.answer) = (None, None);
        }
    }

    fn any_answer(&self) -> bool {
        self.peers.iter().any(|peer| peer.answer.is_some())
    }

    fn latest_checkpoint_of_all(&self) -> u64 {
        self.checkpoints.last().copied().unwrap_or(0)
    }

    fn any_idle(&self) -> bool {
        self.peers.iter().any(Peer::is_idle)
    }

    /// When the server must act even if no message arrives.
    pub(super) fn deadline_due(&self) -> Option<Duration> {
        let awaited = self.has_quorum() || self.state == State::Collecting && self.any_idle();
        self.since.filter(|_| awaited).zip(self.deadline()).map(|(since, deadline)| since.saturating_add(deadline))
    }

    pub(super) fn needed(&self) -> usize {
        self.run.waiting.needed(self.remaining().count() as u32) as usize
    }

    /// Sites that have not left the run in order.
    pub(super) fn remaining(&self) -> impl Iterator<Item = (SiteId, &Peer)> {
        self.sites().filter(|s| !s.1.is_retired())
    }

    fn all_joined(&self) -> bool {
        self.remaining().all(|s| s.1.has_joined())
    }

    fn deadline(&self) -> Option<Duration> {
        match self.run.waiting {
            Waiting::Quorum { deadline_ms, .. } => Some(Duration::from_millis(deadline_ms)),
            // Late sites are let in at any time.
            Waiting::Staleness { .. } if matches!(self.state, State::Gathering | State::Paused) => Some(Duration::ZERO),
            Waiting::Staleness { .. } | Waiting::All => None,
        }
    }

    fn is_past_deadline(&self, now: Duration) -> bool {
        self.since.zip(self.deadline()).is_some_and(|(since, deadline)| now >= since.saturating_add(deadline))
    }

    /// Whether enough sites have joined (gathering), can work (paused), or have answered (collecting).
    fn has_quorum(&self) -> bool {
        let needed = self.needed();
        let count = |what: fn(&Peer) -> bool| self.peers.iter().filter(|s| what(s)).count();
        match (self.state, self.run.waiting) {
            (State::Gathering, _) => count(Peer::has_joined) >= needed,
            (State::Paused, Waiting::Quorum { .. }) => count(Peer::is_idle) >= needed,
            (State::Paused, _) => count(Peer::has_joined) >= needed && count(Peer::is_idle) > 0,
            (State::Collecting, _) => count(|s| s.answer.is_some()) >= needed.max(1),
            _ => false,
        }
    }

    fn is_complete(&self, now: Duration) -> bool {
        let all_answered = !self.peers.iter().any(|peer| self.is_awaited(peer));
        self.has_quorum() && (all_answered || matches!(self.run.waiting, Waiting::Quorum { .. }) && self.is_past_deadline(now))
    }

    /// All sites resume from the server's latest checkpoint. A site that lacks it is handled according to
    /// [`ServerPolicy::lost_state`](super::ServerPolicy::lost_state).
    fn begin(&mut self, now: Duration) {
        let paper_policy = self.run.waiting == Waiting::All;
        // A site that takes another's place has nothing to go back to.
        let all_hold = |round: &u64| self.remaining().all(|s| s.1.holds(*round) || !s.1.returned);
        let latest = self.latest_checkpoint_of_all();
        self.round = match self.policy.lost_state {
            LostState::RollBack if paper_policy => self.checkpoints.iter().rev().copied().find(all_hold).unwrap_or(0),
            _ => latest,
        };
        let round = self.round;
        let here: Vec<SiteId> = self.sites().filter(|s| s.1.has_joined()).map(|s| s.0).collect();
        let lost = |site: &SiteId| {
            let peer = self.peer(*site);
            !peer.holds(round) && (paper_policy || peer.nearest(round) == 0 && peer.returned)
        };
        let lost: Vec<SiteId> = here.iter().copied().filter(lost).collect();
        let has_come_back: Vec<SiteId> = lost.iter().copied().filter(|site| self.peer(*site).returned).collect();
        if !has_come_back.is_empty() && self.policy.lost_state == LostState::Wait {
            for site in has_come_back {
                self.dismiss(now, site, Error::StateLost { site, round });
            }
            return;
        }
        self.state = State::Beginning;
        for site in here {
            let restored = self.peer(site).nearest(round);
            if lost.contains(&site) && self.peer(site).returned {
                self.actions.push_back(ServerAction::StateLost { site, round, restored });
            }
            self.start(site, round, Some(restored));
        }
        self.actions.push_back(ServerAction::Begin { rounds_done: round });
    }

    pub(super) fn next_round(&mut self) {
        if (self.is_abandoned() || self.is_ending) && self.round > 0 {
            self.rounds = self.round;
        }
        if self.round >= self.rounds {
            if self.checkpoints.insert(self.round) {
                self.actions.push_back(ServerAction::Checkpoint { rounds_done: self.round });
            }
            self.retire_last_site();
            self.store_retirement();
            self.state = State::Finished;
            for site in self.sites().filter(|s| s.1.has_joined()).map(|s| s.0).collect::<Vec<_>>() {
                self.finish(site);
            }
            self.actions.push_back(ServerAction::Finished);
            return;
        }
        self.draws = self.draws_of(self.round, |peer| self.run.waiting == Waiting::All || peer.is_idle());
        if self.draws.is_empty() {
            // Under bounded staleness late answers may be all that there is, or will be.
            let late_count = matches!(self.run.waiting, Waiting::Staleness { .. });
            self.state = if late_count { State::Collecting } else { State::Paused };
            self.since = None;
            return;
        }
        self.state = State::Synthesizing;
        self.actions.push_back(ServerAction::Synthesize { round: self.round, draws: self.draws.clone() });
    }

    /// The result is stored before the retirement of the last site. So if the checkpoint of the end was all that a
    /// restarted server found, and the operator has not ended the run, the one site that remains had left.
    fn retire_last_site(&mut self) {
        let remaining: Vec<SiteId> = self.remaining().map(|(site, _)| site).collect();
        if let [site] = remaining[..]
            && self.rounds < self.run.rounds
            && !self.is_ending
        {
            self.peer_mut(site).presence = Presence::Retired;
            self.last_retirement = Some((site, self.round, "it had left when the server was stopped".to_owned()));
        }
    }

    pub(super) fn finish(&mut self, site: SiteId) {
        self.peer_mut(site).notified = true;
        self.send(site, Message::Finish);
    }

    fn draws_of(&self, round: u64, takes_part: impl Fn(&Peer) -> bool) -> Vec<Draw> {
        let draw = |(site, peer): (SiteId, &Peer)| Some(self.run.draw(site, round, peer.summary.as_ref()?));
        self.remaining().filter(|s| takes_part(s.1)).filter_map(draw).collect()
    }

    pub(super) fn synthesized(&mut self, now: Duration, synthetic: Vec<Payload>) {
        self.state = State::Collecting;
        self.since.get_or_insert(now);
        for (draw, synthetic) in std::mem::take(&mut self.draws).into_iter().zip(synthetic) {
            let (site, here) = (draw.site, self.peer(draw.site).has_joined());
            if self.peer(site).is_retired() || !here && self.run.waiting != Waiting::All {
                continue;
            }
            let synthetic = synthetic.compressed();
            self.peer_mut(site).task = Some(Task { round: self.round, since: now, synthetic: synthetic.clone() });
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
        let Draw { cases, augmentations, .. } = self.run.draw(site, round, self.peer(site).summary.as_ref().expect("joined"));
        self.send(site, Message::Round { attempt: self.attempt, round, cases, augmentations, synthetic });
    }

    fn update(&mut self, now: Duration) {
        self.state = State::Updating;
        self.since = None;
        let round = self.round;
        let answered: Vec<SiteId> = self.sites().filter(|s| s.1.answer.is_some()).map(|s| s.0).collect();
        let cases = |site: &SiteId| self.peer(*site).summary.as_ref().map_or(0, |s| s.cases);
        let weights_of = |sites: &[SiteId]| self.run.weighting.weights(&sites.iter().map(cases).collect::<Vec<_>>());
        let weights = weights_of(&answered);
        // The limit follows from all sites, not only from those that answer in this round.
        let counts = |peer: &Peer| peer.summary.is_some() && (peer.answer.is_some() || !peer.is_retired());
        let all: Vec<SiteId> = self.sites().filter(|(_, peer)| counts(peer)).map(|s| s.0).collect();
        let of_all = if all == answered {
            weights.clone()
        } else {
            let of_all = weights_of(&all);
            let of_answered: f64 = all.iter().zip(&of_all).filter(|(site, _)| answered.contains(site)).map(|(_, weight)| weight).sum();
            of_all.into_iter().map(|weight| weight / of_answered).collect()
        };
        let weights = capped(weights, of_all, self.policy.weight_ratio_max);
        let norm = |site: &SiteId| (*site, self.peer(*site).answer.as_ref().map_or(0.0, |answer| answer.feedback.norm()));
        // As they are kept in a checkpoint: a restarted server must scale the same.
        let norms: Vec<(SiteId, f64)> = answered.iter().map(norm).map(|(site, norm)| (site, f64::from(norm as f32))).collect();
        let verdicts = if self.policy.feedback_ratio_max.is_finite() {
            self.monitor.judge(&self.policy, &norms)
        } else {
            vec![Verdict { scale: 1.0, dismissed: false }; norms.len()]
        };
        let mut contributions = Vec::new();
        for (((site, norm), weight), verdict) in norms.into_iter().zip(weights).zip(verdicts) {
            let Some(Answer { round, feedback, losses }) = self.peer_mut(site).answer.take() else { continue };
            let draw = self.run.draw(site, round, self.peer(site).summary.as_ref().expect("joined"));
            contributions.push(Contribution { round, draw, weight, feedback, norm, scale: verdict.scale, losses });
            if verdict.dismissed {
                let strikes = self.policy.feedback_strikes_max;
                self.dismiss(now, site, Error::FeedbackRatio { site, round, ratio: 1.0 / verdict.scale, strikes });
            }
        }
        self.actions.push_back(ServerAction::Update { round, contributions });
    }

    pub(super) fn updated(&mut self) {
        self.round += 1;
        if self.run.is_checkpoint(self.round) {
            self.checkpoints.insert(self.round);
            // Later ones are of an attempt that went back: they stay until the run is past them.
            while self.checkpoints.range(..=self.round).count() > CHECKPOINTS_KEPT {
                self.checkpoints.pop_first();
            }
            self.actions.push_back(ServerAction::Checkpoint { rounds_done: self.round });
        }
        self.next_round();
    }
}

/// Limits each weight to a multiple of the lower median of the weights of all sites, on the same scale; the result
/// still sums to 1. In a run of fewer than three sites there is no meaningful median, and the weights stay as they are.
fn capped(mut weights: Vec<f64>, mut of_all: Vec<f64>, ratio_max: f64) -> Vec<f64> {
    if of_all.len() < 3 {
        return weights;
    }
    of_all.sort_by(f64::total_cmp);
    let Some(median) = of_all.get(of_all.len().saturating_sub(1) / 2) else { return weights };
    let limit = ratio_max * median;
    if weights.iter().any(|&weight| weight > limit) {
        for weight in &mut weights {
            *weight = weight.min(limit);
        }
        let sum: f64 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= sum;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::capped;

    #[test]
    fn a_claim_of_many_cases_does_not_buy_all_the_weight() {
        let capped_among = |weights: &[f64], ratio_max| capped(weights.to_vec(), weights.to_vec(), ratio_max);
        let total = 52_000.0 + 3.0 * 50.0;
        let weights = capped_among(&[52_000.0 / total, 50.0 / total, 50.0 / total, 50.0 / total], 10.0);
        assert!((weights[0] - 10.0 / 13.0).abs() < 1e-12 && (weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{weights:?}");
        for weights in [vec![0.5, 0.3, 0.2], vec![0.99, 0.01], vec![1.0], vec![]] {
            assert_eq!(capped_among(&weights, 10.0), weights);
        }
        assert_eq!(capped_among(&[0.998, 0.001, 0.001], f64::INFINITY), [0.998, 0.001, 0.001]);
        // Two of four sites answer: the others count for the median.
        let total = 52_000.0 + 50.0;
        let weights = capped(vec![52_000.0 / total, 50.0 / total], vec![52_000.0 / total, 50.0 / total, 50.0 / total, 50.0 / total], 10.0);
        assert!((weights[0] - 10.0 / 11.0).abs() < 1e-12, "{weights:?}");
    }
}

//! When a server considers a site lost, and when it ends the run.

use std::time::Duration;

use super::{Server, State};
use crate::{
    Error, SiteId,
    peer::{Peer, Presence},
};

impl Server {
    /// When a site with a pending request is considered lost.
    pub(super) fn answer_due(&self, peer: &Peer) -> Option<Duration> {
        let since = match (peer.presence, &peer.task) {
            (Presence::Described { since }, _) => Some(since),
            (Presence::Joined, Some(task)) => Some(task.since),
            _ => None,
        };
        since.filter(|_| !self.is_over()).map(|since| since.saturating_add(self.policy.timeouts.answer))
    }

    /// A site whose absence will end the run, and when.
    pub(super) fn absence_due(&self) -> Option<(SiteId, Duration)> {
        let needed = self.needed();
        let present = self.peers.iter().filter(|s| s.is_connected()).count();
        if self.is_over() || present >= needed {
            return None;
        }
        let due = |(site, peer): (SiteId, &Peer)| match peer.presence {
            Presence::NotConnected => Some((site, self.policy.timeouts.absence.max(self.policy.timeouts.answer))),
            Presence::Disconnected { since } => Some((site, since.saturating_add(self.policy.timeouts.absence))),
            Presence::Described { .. } | Presence::Joined | Presence::Retired => None,
        };
        // If not every site is needed, the one that left last has stopped the run.
        let dues = self.remaining().filter_map(due);
        if needed == self.remaining().count() { dues.min_by_key(|d| d.1) } else { dues.max_by_key(|d| d.1) }
    }

    /// Whether every site has left before the end.
    pub(super) fn is_abandoned(&self) -> bool {
        !self.is_over() && self.remaining().count() == 0
    }

    pub(super) fn give_up(&mut self, now: Duration) -> Result<(), Error> {
        if self.is_abandoned() && self.round == 0 && matches!(self.state, State::Gathering | State::Paused | State::Collecting) {
            if self.last_retirement.is_some() {
                // There is no result that has to be stored first. The next tick ends the run.
                self.store_retirement();
                return Ok(());
            }
            self.state = State::Failed;
            return Err(Error::AllRetired);
        }
        let Some((site, _)) = self.absence_due().filter(|due| due.1 <= now) else { return Ok(()) };
        self.state = State::Failed;
        let waited_ms = self.policy.timeouts.absence.as_millis() as u64;
        let away = |s: &(SiteId, &Peer)| matches!(s.1.presence, Presence::NotConnected | Presence::Disconnected { .. });
        let sites = self.remaining().filter(away).map(|s| s.0).collect();
        let round = self.round;
        let fault = self.peer_mut(site).fault.take().filter(|_| waited_ms == 0);
        Err(fault.unwrap_or(Error::SitesDisconnected { sites, round, waited_ms }))
    }
}

//! When a server considers a site lost, and when it ends the run.

use std::time::Duration;

use super::{Server, State};
use crate::{
    Error, SiteId,
    seat::{Presence, Seat},
};

impl Server {
    /// When a site with a pending request is considered lost.
    pub(super) fn answer_due(&self, seat: &Seat) -> Option<Duration> {
        let since = match (seat.presence, &seat.task) {
            (Presence::Asked { since }, _) => Some(since),
            (Presence::Here, Some(task)) => Some(task.since),
            _ => None,
        };
        since.filter(|_| !self.is_over()).map(|since| since + self.policy.patience.answer)
    }

    /// A site whose absence will end the run, and when.
    pub(super) fn absence_due(&self) -> Option<(SiteId, Duration)> {
        let needed = self.needed();
        let present = self.seats.iter().filter(|s| !matches!(s.presence, Presence::Expected | Presence::Away { .. })).count();
        if self.is_over() || present >= needed {
            return None;
        }
        let due = |(site, seat): (SiteId, &Seat)| match seat.presence {
            Presence::Expected => Some((site, self.policy.patience.absence.max(self.policy.patience.answer))),
            Presence::Away { since } => Some((site, since + self.policy.patience.absence)),
            Presence::Asked { .. } | Presence::Here => None,
        };
        // Whoever went last brought the run to a halt, unless every single one is needed.
        let dues = self.sites().filter_map(due);
        if needed == self.seats.len() { dues.min_by_key(|d| d.1) } else { dues.max_by_key(|d| d.1) }
    }

    pub(super) fn give_up(&mut self, now: Duration) -> Result<(), Error> {
        let Some((site, _)) = self.absence_due().filter(|due| due.1 <= now) else { return Ok(()) };
        self.state = State::Failed;
        let waited_ms = self.policy.patience.absence.as_millis() as u64;
        let away = |s: &(SiteId, &Seat)| matches!(s.1.presence, Presence::Expected | Presence::Away { .. });
        let sites = self.sites().filter(away).map(|s| s.0).collect();
        let round = self.round;
        let fault = self.seat_mut(site).fault.take().filter(|_| waited_ms == 0);
        Err(fault.unwrap_or(Error::Away { sites, round, waited_ms }))
    }
}

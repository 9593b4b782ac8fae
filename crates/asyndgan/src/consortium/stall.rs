//! A warning in the log of a server while no round ends.

use std::time::{Duration, Instant};

use super::runs::RoundCount;

/// The first warning comes after this time, and each further one when the time has doubled.
const FIRST: Duration = Duration::from_mins(1);

/// Since when the number of rounds has not changed.
#[derive(Debug)]
pub(super) struct Stall {
    rounds_done: u64,
    since: Instant,
    next: Duration,
}

impl Stall {
    /// A run that has done no round since `since`.
    pub(super) fn new(since: Instant) -> Self {
        Self { rounds_done: 0, since, next: FIRST }
    }

    /// The warning that is due, if one is.
    pub(super) fn warning(&mut self, count: &RoundCount, at: Instant) -> Option<String> {
        if count.rounds_done != self.rounds_done {
            *self = Self { rounds_done: count.rounds_done, ..Self::new(at) };
        }
        let waited = at.duration_since(self.since);
        if waited < self.next || count.waits_for.is_empty() {
            return None;
        }
        self.next = 2 * waited;
        let (minutes, sites) = (waited.as_secs() / 60, count.waits_for.join(", "));
        Some(format!("no round for {minutes} min: waiting for {sites}; check whether the program runs there, and its log"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::now;

    #[test]
    fn a_stalled_run_is_reported_ever_less_often_and_a_running_one_never() {
        let count = |rounds_done, sites: &[&str]| RoundCount {
            rounds_done,
            rounds: 9,
            waits_for: sites.iter().map(|&site| site.to_owned()).collect(),
        };
        let began = now();
        let mut stall = Stall::new(began);
        let minutes = |stall: &mut Stall, count: &RoundCount, from: u64| -> Vec<u64> {
            let at = |minute: u64| began + Duration::from_mins(minute);
            (from..from + 20).filter(|&minute| stall.warning(count, at(minute)).is_some()).collect()
        };
        assert_eq!(minutes(&mut stall, &count(0, &["a", "b"]), 0), [1, 2, 4, 8, 16]);
        let warning = stall.warning(&count(0, &["a", "b"]), began + Duration::from_mins(90)).expect("due");
        assert!(warning.starts_with("no round for 90 min: waiting for a, b;"), "{warning}");
        // A round ends every minute.
        assert!((1..9).all(|n| stall.warning(&count(n, &["a"]), began + Duration::from_mins(90 + n)).is_none()));
        // The server itself computes.
        assert!(minutes(&mut stall, &count(8, &[]), 98).is_empty());
        assert_eq!(minutes(&mut stall, &count(8, &["b"]), 118), [118]);
    }
}

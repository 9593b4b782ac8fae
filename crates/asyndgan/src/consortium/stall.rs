//! A warning in the log of a server that waits for sites.

use std::time::Duration;

/// A site is reported after the run has waited for it for this long, as by the alert rules.
const AFTER: Duration = Duration::from_mins(15);

/// The sites that were reported.
#[derive(Debug, Default)]
pub(super) struct StallWarning {
    sites: Vec<String>,
    /// The same sites are reported again when the longest wait has reached this.
    next: Duration,
}

impl StallWarning {
    /// The warning that is due for the awaited sites, if one is: for other sites than before, and each time that the
    /// wait has doubled.
    pub(super) fn due(&mut self, awaited: &[(String, Duration)]) -> Option<String> {
        let long: Vec<&(String, Duration)> = awaited.iter().filter(|(_, waited)| *waited >= AFTER).collect();
        let longest = long.iter().map(|(_, waited)| *waited).max().unwrap_or_default();
        let sites: Vec<String> = long.iter().map(|(site, _)| site.clone()).collect();
        if sites != self.sites {
            *self = Self { sites, next: longest };
        }
        if self.sites.is_empty() || longest < self.next {
            return None;
        }
        self.next = 2 * longest;
        let (minutes, sites) = (longest.as_secs() / 60, self.sites.join(", "));
        Some(format!("waiting for {sites} for {minutes} min: check whether the program runs there, and its log"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The minutes at which a warning comes; `awaited` has the sites and the minute from which they are awaited.
    fn minutes(stall: &mut StallWarning, minutes: std::ops::Range<u64>, awaited: &[(&str, u64)]) -> Vec<u64> {
        let at = |minute: u64| -> Vec<(String, Duration)> {
            awaited.iter().map(|&(site, from)| (site.to_owned(), Duration::from_mins(minute - from))).collect()
        };
        minutes.filter(|&minute| stall.due(&at(minute)).is_some()).collect()
    }

    #[test]
    fn a_site_is_reported_ever_less_often_and_another_one_at_once() {
        let mut stall = StallWarning::default();
        assert_eq!(minutes(&mut stall, 0..200, &[("a", 0), ("b", 0)]), [15, 30, 60, 120]);
        // One of them has come.
        assert_eq!(minutes(&mut stall, 200..300, &[("b", 0)]), [200]);
        // The round ended, and the next one waits for it again.
        assert_eq!(minutes(&mut stall, 300..400, &[("b", 300)]), [315, 330, 360]);
        let long = [("b".to_owned(), Duration::from_mins(125)), ("c".to_owned(), Duration::from_mins(1))];
        let warning = stall.due(&long).expect("due");
        assert_eq!(warning, "waiting for b for 125 min: check whether the program runs there, and its log");
    }

    #[test]
    fn rounds_that_end_are_not_reported() {
        let mut stall = StallWarning::default();
        for round in 0..30 {
            assert!(minutes(&mut stall, 14 * round..14 * (round + 1), &[("a", 14 * round)]).is_empty());
        }
        assert!(minutes(&mut stall, 420..500, &[]).is_empty());
    }
}

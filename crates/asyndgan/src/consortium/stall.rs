//! A warning in the log of a server that waits for sites.

use std::time::Duration;

/// A site is reported after the run has waited for it for this long, as by the alert rules.
const AFTER: Duration = Duration::from_mins(15);

/// A site that a run waits for.
#[derive(Debug, Clone)]
pub(super) struct AwaitedSite {
    pub(super) name: String,
    pub(super) waited: Duration,
    /// Why it does not join, if it has reported that.
    pub(super) absence: Option<&'static str>,
}

impl AwaitedSite {
    fn shown(&self) -> String {
        self.absence.map_or_else(|| self.name.clone(), |reason| format!("{} ({reason})", self.name))
    }
}

/// The sites that were reported.
#[derive(Debug, Default)]
pub(super) struct StallWarning {
    sites: Vec<String>,
    /// The same sites are reported again when the longest wait has reached this.
    next: Duration,
}

impl StallWarning {
    /// The warning that is due for the awaited sites, if one is: for other sites than before, and each time that the
    /// wait has doubled. A site may change its reason as often as it likes.
    pub(super) fn due(&mut self, awaited: &[AwaitedSite]) -> Option<String> {
        let long: Vec<&AwaitedSite> = awaited.iter().filter(|site| site.waited >= AFTER).collect();
        let longest = long.iter().map(|site| site.waited).max().unwrap_or_default();
        let sites: Vec<String> = long.iter().map(|site| site.name.clone()).collect();
        if sites != self.sites {
            *self = Self { sites, next: longest };
        }
        if self.sites.is_empty() || longest < self.next {
            return None;
        }
        self.next = 2 * longest;
        let (minutes, shown) = (longest.as_secs() / 60, long.iter().map(|site| site.shown()).collect::<Vec<_>>().join(", "));
        let way_out =
            if long.iter().all(|site| site.absence.is_some()) { "" } else { ": check whether the program runs there, and its log" };
        Some(format!("waiting for {shown} for {minutes} min{way_out}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn awaited(name: &str, minutes: u64, absence: Option<&'static str>) -> AwaitedSite {
        AwaitedSite { name: name.into(), waited: Duration::from_mins(minutes), absence }
    }

    /// The minutes at which a warning comes; `sites` has the sites and the minute from which they are awaited.
    fn minutes(stall: &mut StallWarning, minutes: std::ops::Range<u64>, sites: &[(&str, u64)]) -> Vec<u64> {
        let at = |minute: u64| -> Vec<_> { sites.iter().map(|&(site, from)| awaited(site, minute - from, None)).collect() };
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
        let warning = stall.due(&[awaited("b", 125, None), awaited("c", 1, None)]).expect("due");
        assert_eq!(warning, "waiting for b for 125 min: check whether the program runs there, and its log");
    }

    #[test]
    fn a_reason_is_in_the_warning_and_causes_none() {
        let mut stall = StallWarning::default();
        let warning = stall.due(&[awaited("a", 15, Some("not approved"))]).expect("due");
        assert_eq!(warning, "waiting for a (not approved) for 15 min");
        for minute in 16..30 {
            let reason = (minute % 2 == 0).then_some("refused");
            assert_eq!(stall.due(&[awaited("a", minute, reason)]), None);
        }
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

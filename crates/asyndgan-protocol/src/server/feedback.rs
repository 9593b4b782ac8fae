//! Compares each site's feedback with that of the other sites and with its own past, so that a single site cannot
//! dominate the generator's updates.

use std::collections::VecDeque;

use super::ServerPolicy;
use crate::SiteId;

/// Number of past rounds of a site with which its feedback is compared.
pub const FEEDBACK_ROUNDS_KEPT: usize = 64;
/// With fewer past rounds, a site's feedback is not compared with its own past.
const PAST_ROUNDS_MIN: usize = 16;
/// Rounds in which strikes are counted.
const STRIKE_ROUNDS: usize = 100;

/// What is known of every site's feedback.
#[derive(Debug)]
pub(super) struct FeedbackMonitor {
    sites: Vec<Past>,
}

#[derive(Debug, Clone, Default)]
struct Past {
    norms: VecDeque<f64>,
    strikes: VecDeque<bool>,
}

/// The decision about one site's feedback.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// The factor on its feedback, at most 1.
    pub(super) scale: f64,
    /// Whether the site is dismissed because its feedback was too large in too many rounds.
    pub(super) dismissed: bool,
}

impl FeedbackMonitor {
    /// `past` holds, for each of the last rounds, the norm of every site's feedback; not finite if the site did not
    /// contribute.
    pub(super) fn new(sites: usize, past: &[Vec<f32>]) -> Self {
        let mut monitor = Self { sites: vec![Past::default(); sites] };
        for row in past {
            for (site, &norm) in monitor.sites.iter_mut().zip(row) {
                site.add(f64::from(norm));
            }
        }
        monitor
    }

    /// Judges the norms of one round and records them.
    pub(super) fn judge(&mut self, policy: &ServerPolicy, norms: &[(SiteId, f64)]) -> Vec<Verdict> {
        let verdict = |&(site, norm): &(SiteId, f64)| {
            let others: Vec<f64> = norms.iter().filter(|other| other.0 != site).map(|other| other.1).collect();
            // One other alone could bring down everybody else by sending nothing.
            let references = [(others.len() >= 2).then(|| median(others)), self.sites[site.0 as usize].median()];
            let exceeded = |reference: &f64| *reference > 0.0 && norm > policy.feedback_ratio_max * reference;
            let reference = references.into_iter().flatten().filter(exceeded).reduce(f64::min);
            (site, norm, reference.map_or(1.0, |reference| reference / norm))
        };
        let scales: Vec<_> = norms.iter().map(verdict).collect();
        let mut judged = |(site, norm, scale): (SiteId, f64, f64)| {
            let past = &mut self.sites[site.0 as usize];
            past.add(f64::from((norm * scale) as f32));
            past.strikes.push_back(scale < 1.0);
            if past.strikes.len() > STRIKE_ROUNDS {
                past.strikes.pop_front();
            }
            let dismissed = past.strikes.iter().filter(|&&strike| strike).count() as u32 > policy.feedback_strikes_max;
            if dismissed {
                // One that was repaired and comes back begins with a clean record.
                past.strikes.clear();
            }
            Verdict { scale, dismissed }
        };
        scales.into_iter().map(&mut judged).collect()
    }
}

impl Past {
    fn add(&mut self, norm: f64) {
        if norm.is_finite() {
            self.norms.push_back(norm);
            if self.norms.len() > FEEDBACK_ROUNDS_KEPT {
                self.norms.pop_front();
            }
        }
    }

    fn median(&self) -> Option<f64> {
        (self.norms.len() >= PAST_ROUNDS_MIN).then(|| median(self.norms.iter().copied().collect()))
    }
}

/// The upper median.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Timeouts;

    fn policy() -> ServerPolicy {
        ServerPolicy::new(Timeouts { answer: Duration::from_secs(1), absence: Duration::from_secs(1) })
    }

    fn norms(values: &[f64]) -> Vec<(SiteId, f64)> {
        (0..).map(SiteId).zip(values.iter().copied()).collect()
    }

    fn scales(monitor: &mut FeedbackMonitor, values: &[f64]) -> Vec<f64> {
        monitor.judge(&policy(), &norms(values)).into_iter().map(|v| v.scale).collect()
    }

    #[test]
    fn feedback_far_above_the_others_is_scaled_down_to_their_median() {
        let mut monitor = FeedbackMonitor::new(4, &[]);
        assert_eq!(scales(&mut monitor, &[1.0, 2.0, 3.0, 19.0]), [1.0; 4]);
        assert_eq!(scales(&mut monitor, &[1.0, 2.0, 3.0, 200.0]), [1.0, 1.0, 1.0, 0.01]);
    }

    #[test]
    fn silence_of_one_does_not_bring_the_others_down() {
        let mut monitor = FeedbackMonitor::new(3, &[]);
        assert_eq!(scales(&mut monitor, &[0.0, 1.0, 5.0]), [1.0; 3]);
        let mut monitor = FeedbackMonitor::new(2, &[]);
        assert_eq!(scales(&mut monitor, &[0.0, 5.0]), [1.0; 2]);
    }

    #[test]
    fn a_site_of_two_is_held_against_its_own_past_also_after_a_restart() {
        let past = vec![vec![1.0, 1.0]; PAST_ROUNDS_MIN];
        let mut monitor = FeedbackMonitor::new(2, &past);
        assert_eq!(scales(&mut monitor, &[1.0, 100.0]), [1.0, 0.01]);
        // What was scaled down does not become its normal size.
        assert_eq!(scales(&mut monitor, &[1.0, 100.0]), [1.0, 0.01]);
    }

    #[test]
    fn a_site_that_exceeds_the_ratio_again_and_again_is_dismissed() {
        let mut monitor = FeedbackMonitor::new(3, &[]);
        let mut rounds = 0;
        while !monitor.judge(&policy(), &norms(&[1.0, 1.0, 50.0]))[2].dismissed {
            rounds += 1;
        }
        assert_eq!(rounds, policy().feedback_strikes_max);
        let mut honest = FeedbackMonitor::new(3, &[]);
        assert!((0..1000).all(|k| !honest.judge(&policy(), &norms(&[1.0, 1.0, if k % 10 == 0 { 50.0 } else { 1.0 }]))[2].dismissed));
    }
}

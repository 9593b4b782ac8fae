//! The curves of a server's dashboard: feedback norms and losses by round.

use asyndgan_protocol::Contribution;
use serde::Serialize;

/// Maximum number of points per curve; above it, points are thinned out.
const POINTS_MAX: usize = 512;

/// The mean over the sites that answered in a round.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Point {
    /// From 1.
    pub(super) round: u64,
    pub(super) feedback_norm: f64,
    /// Of each site; NaN if it did not answer.
    #[serde(skip)]
    pub(super) of_sites: Vec<f32>,
}

/// Means of the latest losses of the sites that report them, in a round in which one of them did.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Losses {
    /// From 1.
    pub(super) round: u64,
    pub(super) discriminator: f32,
    pub(super) generator: f32,
    /// The number of the report, from 1.
    #[serde(skip)]
    number: u64,
}

/// The curves of a run, with a limited number of points.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Curves {
    points: Vec<Point>,
    losses: Vec<Losses>,
    /// Every so many rounds become a point.
    #[serde(skip)]
    stride: u64,
    /// Rounds in which losses were reported, and every so many of them become a point.
    #[serde(skip)]
    reports: u64,
    #[serde(skip)]
    reports_stride: u64,
}

impl Default for Curves {
    fn default() -> Self {
        Self { points: Vec::new(), losses: Vec::new(), stride: 1, reports: 0, reports_stride: 1 }
    }
}

impl Curves {
    /// Adds the feedback norms of a round of a run with `sites` sites.
    pub(super) fn add_norms(&mut self, round: u64, contributions: &[Contribution], sites: usize) {
        if round.is_multiple_of(self.stride) {
            let feedback_norm = contributions.iter().map(|c| c.norm).sum::<f64>() / contributions.len().max(1) as f64;
            let mut of_sites = vec![f32::NAN; sites];
            for c in contributions {
                of_sites[c.draw.site.0 as usize] = c.norm as f32;
            }
            self.points.push(Point { round, feedback_norm, of_sites });
        }
        if self.points.len() > POINTS_MAX {
            self.stride *= 2;
            let stride = self.stride;
            self.points.retain(|point| point.round.is_multiple_of(stride));
        }
    }

    /// Adds the mean of the latest losses of all sites that report them: the discriminator's and the generator's.
    pub(super) fn add_losses(&mut self, round: u64, reported: &[(f32, f32)]) {
        let mean = |of: fn(&(f32, f32)) -> f32| reported.iter().map(of).sum::<f32>() / reported.len() as f32;
        // By the number of the report: sites report in rounds of their own, of which a stride could contain none.
        self.reports += 1;
        let number = self.reports;
        if number.is_multiple_of(self.reports_stride) {
            self.losses.push(Losses { round, discriminator: mean(|l| l.0), generator: mean(|l| l.1), number });
        }
        if self.losses.len() > POINTS_MAX {
            self.reports_stride *= 2;
            let stride = self.reports_stride;
            self.losses.retain(|point| point.number.is_multiple_of(stride));
        }
    }

    /// Forgets the rounds after this one.
    pub(super) fn go_back(&mut self, rounds_done: u64) {
        self.points.retain(|point| point.round <= rounds_done);
        self.losses.retain(|point| point.round <= rounds_done);
    }

    /// The feedback norms of one site.
    pub(super) fn of_site(&self, site: usize) -> Vec<Point> {
        let of_site = |point: &Point| {
            let norm = point.of_sites.get(site).copied().filter(|norm| !norm.is_nan())?;
            Some(Point { round: point.round, feedback_norm: norm.into(), of_sites: Vec::new() })
        };
        self.points.iter().filter_map(of_site).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_keep_points_of_all_their_rounds() {
        let mut curves = Curves::default();
        // No round in which losses are reported is a multiple of 4.
        for round in 1..=20_000 {
            curves.add_norms(round, &[], 1);
            if round % 4 == 2 {
                curves.add_losses(round, &[(1.0, 2.0), (3.0, 4.0)]);
            }
        }
        let check = |rounds: Vec<u64>| {
            assert!((POINTS_MAX / 4..=POINTS_MAX).contains(&rounds.len()), "{}", rounds.len());
            assert!(rounds[0] < 1000 && rounds[rounds.len() - 1] > 19_000 && rounds.is_sorted(), "{rounds:?}");
        };
        check(curves.points.iter().map(|point| point.round).collect());
        check(curves.losses.iter().map(|point| point.round).collect());
        assert!(curves.losses.iter().all(|losses| (losses.discriminator, losses.generator) == (2.0, 3.0)));
        curves.go_back(10_000);
        assert!(curves.points.iter().all(|point| point.round <= 10_000) && curves.losses.iter().all(|point| point.round <= 10_000));
    }
}

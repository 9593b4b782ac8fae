//! The toy experiment of figure 5: three sites, each with one condition and its own Gaussian.
//!
//! # Reference
//! Section 4.3. The available text gives `N(3, 2)` for the first site. It would then share its mean with the third
//! site, and the figure would be pointless, so a missing minus sign is assumed. The second number is read as the
//! standard deviation.

use asyndgan_protocol::Stream;
use rand::RngExt;
use rand_distr::{Distribution, Normal};

/// Mean and standard deviation of every site.
pub const SITES: [(f64, f64); 3] = [(-3.0, 2.0), (1.0, 1.0), (3.0, 0.5)];

/// The grid on which the barycentre is computed: from, to, number of points.
const GRID: (f64, f64, usize) = (-13.0, 9.0, 2_200);

/// Draws `count` values from the distribution that a generator learns if all sites have the same condition and the same
/// weight: the density q that minimises the mean Jensen-Shannon divergence to the sites' Gaussians, which is not their
/// mixture.
///
/// # Panics
/// Never: the grid has points.
///
/// # Reference
/// Equation 3 at one x, with the optimal discriminators. The objective is convex in q; it is minimised by exponentiated
/// gradients.
pub fn barycentre_values(count: usize, rng: &mut Stream) -> Vec<f64> {
    let (from, to, points) = GRID;
    let step = (to - from) / points as f64;
    let at = |i: usize| from + (i as f64 + 0.5) * step;
    let gauss = |x: f64, (mean, sd): (f64, f64)| (-0.5 * ((x - mean) / sd).powi(2)).exp() / sd;
    let normal = |values: Vec<f64>| {
        let sum: f64 = values.iter().sum();
        values.into_iter().map(|v| v / sum).collect::<Vec<f64>>()
    };
    let sites = SITES.map(|site| normal((0..points).map(|i| gauss(at(i), site) + 1e-300).collect()));
    let mut q = normal((0..points).map(|i| sites.iter().map(|p| p[i]).sum()).collect());
    for _ in 0..2_000 {
        // The slope of a site's divergence is half of log(q / m), with m midway between p and q.
        let slope = |i: usize| sites.iter().map(|p| 0.5 * (q[i] / f64::midpoint(p[i], q[i])).ln()).sum::<f64>() / SITES.len() as f64;
        q = normal((0..points).map(|i| q[i] * (-slope(i)).exp()).collect());
    }
    let mut below = 0.0;
    let sums: Vec<f64> = q
        .iter()
        .map(|v| {
            below += v;
            below
        })
        .collect();
    let draw = |_| {
        let u = rng.random::<f64>() * below;
        at(sums.partition_point(|&s| s < u).min(points - 1)) + (rng.random::<f64>() - 0.5) * step
    };
    (0..count).map(draw).collect()
}

/// Draws `count` values of one site; sites count from 0.
///
/// # Panics
/// If the site does not exist.
pub fn values(site: usize, count: usize, rng: &mut Stream) -> Vec<f64> {
    let (mean, sd) = SITES[site];
    let normal = Normal::new(mean, sd).expect("positive deviation");
    (0..count).map(|_| normal.sample(rng)).collect()
}

#[cfg(test)]
mod tests {
    use asyndgan_protocol::{Role, stream};

    use super::*;

    #[test]
    fn the_barycentre_is_not_the_mixture() {
        let values = barycentre_values(20_000, &mut stream(1, Role::Phantom, 0, 0));
        // Worked out apart with NumPy: 0.1885 of it lies below -2, of the mixture 0.2309.
        let below = values.iter().filter(|v| **v < -2.0).count() as f64 / values.len() as f64;
        assert!((below - 0.1885).abs() < 0.012, "{below}");
    }
}

//! The toy experiment of figure 5: three sites, each with one condition and its own Gaussian.
//!
//! # Reference
//! Section 4.3. The surviving text prints `N(3, 2)` for the first site, which would share its mean with the third and make the
//! figure pointless; a minus is assumed lost. The second number is read as the standard deviation.

use asyndgan_protocol::Stream;
use rand_distr::{Distribution, Normal};

/// Mean and standard deviation of every site.
pub const SITES: [(f64, f64); 3] = [(-3.0, 2.0), (1.0, 1.0), (3.0, 0.5)];

/// So many values of one site, from 0.
///
/// # Panics
/// If there is no such site.
pub fn values(site: usize, count: usize, rng: &mut Stream) -> Vec<f64> {
    let (mean, sd) = SITES[site];
    let normal = Normal::new(mean, sd).expect("positive deviation");
    (0..count).map(|_| normal.sample(rng)).collect()
}

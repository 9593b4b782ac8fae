//! Segmentation metrics on plain arrays.
//!
//! Knows nothing of files, networks or tensor libraries: it takes boolean masks, integer label maps and millimetres.
//! The most important types are [`Undefined`], the reason why a number does not exist, and [`Convention`], what was decided
//! where implementations disagree; keep one beside every number.
//!
//! ```
//! use ndarray::arr2;
//! let truth = arr2(&[[true, true], [false, false]]);
//! let prediction = arr2(&[[true, false], [false, false]]);
//! let overlap = asyndgan_metrics::Confusion::of(truth.view(), prediction.view());
//! assert_eq!(overlap.dice(), Ok(2.0 / 3.0));
//! ```
//!
//! **Invariant:** no function returns NaN; a number that does not exist is an [`Undefined`] with its reason.
//! **Invariant:** nothing is random but through the generator that the caller passes.

mod components;
mod convention;
mod distance;
mod instances;
mod overlap;
mod statistics;
mod surface;
mod undefined;
mod wasserstein;

pub use components::{Connectivity, components};
pub use convention::Convention;
pub use distance::squared_distance_to;
pub use instances::aji;
pub use overlap::Confusion;
pub use statistics::{Interval, Summary, bootstrap_difference, percentile_of_sorted, summarise};
pub use surface::hd95;
pub use undefined::Undefined;
pub use wasserstein::wasserstein_1;

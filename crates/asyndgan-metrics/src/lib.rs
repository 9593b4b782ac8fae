//! Segmentation metrics on plain arrays.
//!
//! Knows nothing of files, networks or tensor libraries: it takes boolean masks, integer label maps and millimetres.
//! The most important types are [`Confusion`] for overlap, [`SurfaceDistances`] for how far surfaces lie apart, [`Overlaps`] for
//! instances, [`Undefined`], the reason why a number does not exist, and [`Convention`], what was decided where implementations
//! disagree; keep one beside every number. [`score_masks`] and [`score_instances`] give all of them at once.
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

mod assignment;
mod boundary;
mod components;
mod convention;
mod distance;
mod features;
mod image;
mod instances;
mod manifold;
mod nearest;
mod overlap;
mod overlaps;
mod scores;
mod statistics;
mod surface;
mod undefined;
mod wasserstein;
mod wilcoxon;

pub use components::{Connectivity, components};
pub use convention::{BothEmpty, Convention, Directions, Profile};
pub use distance::squared_distance_to;
pub use features::{fid, kid};
pub use image::{Window, psnr, ssim};
pub use instances::{Aggregate, Matching, aji};
pub use manifold::{nearest_distances, precision_recall};
pub use overlap::Confusion;
pub use overlaps::Overlaps;
pub use scores::{Scores, score_instances, score_masks};
pub use statistics::{Interval, Summary, bootstrap_difference, bootstrap_mean, percentile_of_sorted, summarise};
pub use surface::{SurfaceDistances, hd95};
pub use undefined::Undefined;
pub use wasserstein::wasserstein_1;
pub use wilcoxon::{holm, wilcoxon};

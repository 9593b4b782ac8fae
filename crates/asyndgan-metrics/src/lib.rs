//! Segmentation metrics on plain arrays.
//!
//! Independent of files, networks and tensor libraries: the input is boolean masks, integer label maps and spacings in
//! millimetres. The main types are [`Confusion`] for overlap, [`SurfaceDistances`] for distances between surfaces, [`Overlaps`]
//! for instances, [`Undefined`], the reason why a metric has no value, and [`Convention`], the choices on which implementations
//! disagree; store one with every result. [`score_masks`] and [`score_instances`] compute all metrics at once.
//!
//! ```
//! use ndarray::arr2;
//! let truth = arr2(&[[true, true], [false, false]]);
//! let prediction = arr2(&[[true, false], [false, false]]);
//! let overlap = asyndgan_metrics::Confusion::of(truth.view(), prediction.view());
//! assert_eq!(overlap.dice(), Ok(2.0 / 3.0));
//! ```
//!
//! **Invariant:** no function returns NaN; a metric without a value is an [`Undefined`] with its reason.
//! **Invariant:** randomness comes only from the generator that the caller passes.

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

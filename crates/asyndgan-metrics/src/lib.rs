#![doc = include_str!("../README.md")]

mod assignment;
mod boundary;
mod components;
mod convention;
mod correlation;
mod distance;
#[cfg(feature = "fid")]
mod features;
mod image;
mod instances;
mod manifold;
mod nearest;
mod overlap;
mod overlaps;
mod ranks;
mod scores;
mod statistics;
mod surface;
mod undefined;
mod wasserstein;
mod wilcoxon;

/// Types in the interface of this crate are of these versions.
pub use {ndarray, rand};

pub use components::{Connectivity, connected_components};
pub use convention::{BothEmpty, Convention, ConventionName, Directions};
pub use correlation::{Correlation, PearsonTest, pearson, spearman};
pub use distance::squared_distance_transform;
#[cfg(feature = "fid")]
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

//! Segmenters: training on prepared or synthetic cases, and masks for arbitrary images.

mod segment;
mod train;

pub use segment::segment;
pub(crate) use train::{SegmenterFiles, absent_everywhere};
pub use train::{SegmenterJob, train_segmenter};

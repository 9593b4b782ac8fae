//! Segmenters: training on prepared or synthetic cases, and masks for arbitrary images.

mod segment;
mod train;

pub use segment::segment;
pub use train::{SegmenterJob, train_segmenter};
pub(crate) use train::{absent_everywhere, train_into};

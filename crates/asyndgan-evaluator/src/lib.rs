//! Trains a segmenter on given images and scores it on held-out cases: the question that every row of the tables answers.
//!
//! Knows nothing of generators or the protocol: images are images, real or synthetic. The most important items are
//! [`train_segmenter`], [`predict`] and [`score`].
//!
//! ```
//! use asyndgan_evaluator::Task;
//! // Nuclei have an inside and a boundary class, so that touching ones come apart.
//! assert_eq!((Task::Tumour.classes(), Task::Nuclei.classes()), (2, 3));
//! ```
//!
//! **Invariant:** held-out cases meet the segmenter only after its last step.
//! **Invariant:** a metric that does not exist is kept with its reason, and counted.

mod error;
mod predict;
mod score;
mod target;
mod touching;
mod train;

pub use error::Error;
pub use predict::predict;
pub use score::{score, score_slices};
pub use target::Task;
pub use train::{SegmenterTraining, train_segmenter};

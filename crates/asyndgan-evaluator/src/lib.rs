//! Trains a segmenter on given images and scores it on held-out cases, as for every row of the tables.
//!
//! Independent of generators and the protocol: real and synthetic images are treated alike. The main items are
//! [`train_segmenter`], [`predict`] and [`score`].
//!
//! ```
//! use asyndgan_evaluator::Task;
//! // Nuclei have an inside and a boundary class, so that touching nuclei are separated.
//! assert_eq!((Task::Tumour.classes(), Task::Nuclei.classes()), (2, 3));
//! ```
//!
//! **Invariant:** the segmenter sees held-out cases only after its last training step.
//! **Invariant:** an undefined metric is kept with its reason, and counted.

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

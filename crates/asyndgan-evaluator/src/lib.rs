//! Trains a segmenter on given images and scores it on held-out cases, as for every row of the tables.
//!
//! Independent of generators and the protocol: real and synthetic images are treated alike. The main items are
//! [`train_segmenter`], [`predict`] and [`score`].
//!
//! ```
//! use asyndgan_evaluator::segmenter_classes;
//! use asyndgan_task::Task;
//! let nuclei = r#"
//!     name = "nuclei"
//!     images = "pictures"
//!     labels = "instances"
//!     channels = [{ name = "grey", normalisation = "rgb" }]
//!     classes = [{ name = "nucleus" }]
//! "#;
//! // Instances have an inside and a boundary class, so that touching ones are separated.
//! assert_eq!(segmenter_classes(&Task::parse(nuclei)?), 3);
//! # Ok::<(), asyndgan_task::TaskError>(())
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
pub use score::{TaskScores, score, score_slices};
pub use target::{segmenter_classes, target};
pub use train::{SegmenterTraining, train_segmenter};

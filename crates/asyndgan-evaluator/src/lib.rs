#![doc = include_str!("../README.md")]

mod error;
mod federated;
mod predict;
mod score;
mod target;
mod touching;
mod train;

/// Tensors and devices in the interface of this crate are of this version.
pub use tch;

pub use asyndgan_models::{Segmenter, SegmenterConfig};
pub use error::Error;
pub use federated::{FederatedSegmenter, train_federated_segmenter};
pub use predict::predict;
pub use score::{TaskScores, score, score_slices};
pub use target::{segmenter_classes, target};
pub use train::{SegmenterTraining, train_segmenter, train_segmenter_on};

//! A segmentation task as data: what the images show, how they are normalised, which classes are marked, and how
//! predictions are scored.
//!
//! This crate does not read images and does not know networks or sites. Its main type is [`Task`], which is stored as
//! TOML. Preparation, segmenters, generators and tables all derive from it.
//!
//! ```
//! use asyndgan_task::Task;
//! let task = Task::parse(r#"
//!     name = "brain tumour"
//!     images = "volumes"
//!     outline = true
//!     channels = [{ name = "t2", normalisation = "foreground_percentile" }]
//!     classes = [{ name = "oedema", labels = [2] }, { name = "core", labels = [1, 3] }]
//!     regions = [{ name = "whole tumour", classes = ["oedema", "core"] }, { name = "core", classes = ["core"] }]
//! "#)?;
//! assert_eq!((task.code_of(3), task.outline_code()), (Some(2), Some(3)));
//! assert_eq!(task.regions_of_code(2), ["whole tumour", "core"]);
//! # Ok::<(), asyndgan_task::TaskError>(())
//! ```
//!
//! **Invariant:** a [`Task`] that was parsed is consistent: every region names existing classes, no label belongs to two
//! classes, and codes fit one byte.

mod column;
mod description;
mod metric;
mod sites;
mod task;

pub use column::Column;
pub use description::ImageDescription;
pub use metric::Metric;
pub use sites::{Absent, SiteList, SiteLists};
pub use task::{Channel, Class, ImageKind, LabelKind, Normalisation, Region, SliceAxis, Target, Task, TaskError};

/// Condition code of a pixel without annotation.
pub const IGNORED: u8 = 255;

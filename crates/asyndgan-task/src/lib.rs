#![doc = include_str!("../README.md")]

mod column;
mod description;
mod metric;
mod sites;
mod task;

pub use column::Column;
pub use description::ImageDescription;
pub use metric::Metric;
pub use sites::{Absent, SiteList, SiteLists, TestGroup};
pub use task::{Channel, Class, ImageKind, LabelKind, Normalisation, Region, SliceAxis, Target, Task, TaskError};

/// Condition code of a pixel without annotation.
///
/// A condition code is the value of a pixel of a condition: 0 is background, the classes follow from 1 in the order of
/// the task, then the outline, if the task has one. [`UNMARKED`] and this one are no classes.
pub const IGNORED: u8 = 255;

/// Condition code of a pixel that is background, or belongs to a class that its site does not mark.
pub const UNMARKED: u8 = 254;

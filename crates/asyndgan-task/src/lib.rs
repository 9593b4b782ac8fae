#![doc = include_str!("../README.md")]

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

/// Condition code of a pixel that is background, or belongs to a class that its site does not mark.
pub const UNMARKED: u8 = 254;

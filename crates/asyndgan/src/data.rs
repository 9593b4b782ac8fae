//! Data sets: lists the contents and problems of a folder, and prepares its cases for training.

mod inspect;
mod prepare;
mod prepared_folder;
mod real;
mod split;

pub use inspect::{Inspection, inspect};
pub use prepare::{Partition, PrepareOptions, prepare_folder};
pub(crate) use prepare::{own_lists, read, real};
pub(crate) use prepared_folder::{PreparedFolder, site_folder, test_folder};
pub use real::image_kind;
pub(crate) use real::{HELD_OUT, RealData, Selection, kind_of, phantom_name, phantom_stem, phantom_study, unlabelled};
pub(crate) use split::Rule;

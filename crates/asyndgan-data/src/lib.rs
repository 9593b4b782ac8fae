#![doc = include_str!("../README.md")]

mod axes;
mod case;
mod deform;
mod error;
mod export;
pub mod mask;
mod normalise;
mod partition;
pub mod phantom;
mod preparation;
mod recombine;
mod resample;
mod shape_model;
mod stain;
mod store;
mod transplant;
mod windows;

/// Types in the interface of this crate are of these versions.
pub use {ndarray, rand};

pub use axes::{from_slice_order, to_slice_order};
pub use case::{Case, Placement, Study, TestCase};
pub use deform::deform_condition;
pub use error::Error;
pub use export::Export;
pub use normalise::{check_intensities, check_stain, normalise};
pub use partition::{check_disjoint, partition_by_group, partition_by_size, partition_dirichlet};
pub use preparation::Preparation;
pub use recombine::recombine;
pub use resample::{resize_bilinear, resize_nearest};
pub use shape_model::ShapeModel;
pub use stain::{StainReference, macenko, reinhard, stain_jitter};
pub use store::{CaseOrigin, CaseSet, TestSet, write_cases, write_test_case};
pub use transplant::transplant;
pub use windows::{covering_windows, window, window_starts};

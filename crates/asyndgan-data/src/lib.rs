//! Prepares medical images for a segmentation task.
//!
//! A [`Preparation`] turns a [`Study`], a volume or picture in memory, into [`Case`]s for training and [`TestCase`]s for
//! scoring, as its [`Task`](asyndgan_task::Task) describes. A [`CaseSet`] reads one prepared case at a time from disk.
//! The partition functions split patients across sites, and [`phantom`] generates artificial patients. This crate reads
//! image files through `asyndgan-medio`; it does not know networks or the protocol.
//!
//! ```
//! use asyndgan_data::{Preparation, Study};
//! use asyndgan_task::Task;
//! use ndarray::{Array3, Array4};
//! let task = Task::parse(r#"
//!     name = "liver"
//!     images = "volumes"
//!     channels = [{ name = "CT", normalisation = { window = { low = -160, high = 240 } } }]
//!     classes = [{ name = "liver", labels = [1] }]
//! "#)?;
//! let labels = Array3::from_shape_fn((2, 40, 80), |(z, r, c)| u32::from(z == 1 && r < 20 && c < 40));
//! let study = Study { id: "a".into(), images: Array4::zeros((1, 2, 40, 80)), labels, spacing_mm: [5.0, 1.0, 1.0] };
//! let cases = Preparation { task: &task, size: 64, downsampling: 1, absent: asyndgan_task::Absent::none() }.cases(&study);
//! assert_eq!((cases.len(), cases[0].id.as_str(), cases[0].image.dim()), (1, "a#1", (1, 64, 64)));
//! # Ok::<(), asyndgan_task::TaskError>(())
//! ```
//!
//! **Invariant:** labels are only ever resampled by nearest neighbour.
//! **Invariant:** no image type can be serialised into a message: none implements `Serialize`.
//! **Invariant:** all randomness comes from the generator that the caller passes.

mod case;
mod deform;
mod error;
mod export;
pub mod mask;
mod normalise;
mod partition;
pub mod phantom;
mod preparation;
mod resample;
mod stain;
mod store;
mod transplant;
mod windows;

pub use case::{Case, Placement, Study, TestCase};
pub use deform::deformed;
pub use error::Error;
pub use export::Export;
pub use normalise::{check_intensities, check_stain, normalise};
pub use partition::{disjoint, partition_by_group, partition_by_size, partition_dirichlet};
pub use preparation::{Preparation, along, back_from};
pub use resample::{bilinear, nearest};
pub use stain::{StainReference, macenko, reinhard, stain_jitter};
pub use store::{CaseOrigin, CaseSet, TestSet, write_cases, write_test_case};
pub use transplant::transplant;
pub use windows::{Windows, window};

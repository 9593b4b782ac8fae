//! Medical images and data sets as plain arrays. This is the only crate that parses image files.
//!
//! It does not depend on networks, sites or the protocol. The most important types are [`Volume`], a NIfTI, NRRD or
//! MetaImage file or a DICOM series with its position in the patient; [`DataSet`], the contents of a data set folder;
//! and [`Case`], an image with its condition, ready for training. A [`CaseSet`] reads one case at a time from disk.
//! [`prepare`] converts patients and tiles to cases, and [`phantom`] generates artificial patients.
//!
//! ```
//! use asyndgan_medio::{Affine, Orientation, Volume, read_volume, write_volume};
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("t2.nii.gz");
//! let voxels = ndarray::Array3::from_shape_fn((4, 3, 2), |(k, j, i)| (100 * k + 10 * j + i) as f32);
//! write_volume(&path, &Volume { voxels, affine: Affine::scaling([1.0, 1.0, 2.5]) })?;
//! let found = read_volume(&path)?.oriented(Orientation::LPS);
//! assert_eq!((found.spacing_mm(), found.voxels[[3, 0, 0]]), ([2.5, 1.0, 1.0], 321.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Invariant:** labels are only ever resampled by nearest neighbour.
//! **Invariant:** no image type can be serialised into a message: none implements `Serialize`.
//! **Invariant:** all randomness comes from the generator that the caller passes.
//! **Invariant:** a malformed file is an error, never a panic, and allocations are limited to what the file's size can
//! justify.
//! **Invariant:** no DICOM element that names a patient, physician or institution is kept, and no identifier is
//! returned.

mod affine;
mod aperio;
mod case;
mod dataset;
pub mod dicom;
mod error;
mod export;
mod files;
mod format;
mod gzip;
mod labels;
pub mod mask;
mod metaimage;
mod nifti_file;
mod nrrd;
mod partition;
pub mod phantom;
mod picture;
pub mod prepare;
mod prepared;
mod resample;
mod split;
mod stain;
mod text_header;
mod transplant;
mod volume;
mod voxels;
mod windows;

pub use affine::{Affine, Distance, Orientation};
pub use aperio::{Annotations, parse_annotations, read_annotations};
pub use case::{Brain, Case, TestCase, Tile};
pub use dataset::{CaseFiles, DataSet, Description, Layout, SkippedFile, Split, Subject, is_companion, is_other_image};
pub use error::Error;
pub use export::Export;
pub use format::{Format, is_volume, parse_labels, parse_volume, read_labels, read_volume};
pub use nifti_file::{write_labels, write_volume};
pub use partition::{disjoint, partition_by_group, partition_by_size, partition_dirichlet};
pub use picture::{parse_instances, parse_rgb, read_instances, read_rgb, write_instances, write_rgb};
pub use prepared::{CaseSet, TestSet, write_cases, write_test_case};
pub use resample::{bilinear, nearest};
pub use split::{BRATS_2018, KUMAR, PublishedSplit, published_split};
pub use stain::{StainReference, macenko, reinhard, stain_jitter};
pub use transplant::transplant;
pub use volume::{Grid, OffGrid, Volume};
pub use windows::{Windows, window};

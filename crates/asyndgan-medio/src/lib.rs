//! Medical images and data sets as plain arrays. This is the only crate that parses image files.
//!
//! It does not know tasks, networks, sites or the protocol. The most important types are [`Volume`], a NIfTI, NRRD or
//! MetaImage file or a DICOM series with its position in the patient; [`DataSet`], the contents of a data set folder;
//! and [`Subject`], one case of it in memory.
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
//! **Invariant:** no image type can be serialised into a message: none implements `Serialize`.
//! **Invariant:** a malformed file is an error, never a panic, and allocations are limited to what the file's size can
//! justify.
//! **Invariant:** no DICOM element that names a patient, physician or institution is kept, and no identifier is
//! returned.

mod affine;
mod aperio;
mod dataset;
pub mod dicom;
mod error;
mod files;
mod format;
mod gzip;
mod labels;
mod metaimage;
mod nifti_file;
mod nrrd;
mod picture;
mod text_header;
mod volume;
mod voxels;

pub use affine::{Affine, Distance, Orientation};
pub use aperio::{Annotations, parse_annotations, read_annotations};
pub use dataset::{CaseFiles, DataSet, Description, Layout, SkippedFile, Split, Subject, is_companion, is_other_image};
pub use error::Error;
pub use format::{Format, is_volume, parse_labels, parse_volume, read_labels, read_volume};
pub use nifti_file::{write_labels, write_volume};
pub use picture::{
    is_grey, parse_instances, parse_rgb, read_grey_planes, read_instances, read_rgb, write_grey, write_instances, write_rgb,
};
pub use volume::{Grid, OffGrid, Volume};

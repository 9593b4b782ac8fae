#![doc = include_str!("../README.md")]

mod affine;
mod aperio;
mod dataset;
#[cfg(feature = "dicom")]
pub mod dicom;
mod error;
mod files;
mod format;
mod gzip;
mod jpeg;
mod labels;
mod metaimage;
mod nifti_file;
mod nrrd;
mod picture;
mod text_header;
mod volume;
mod voxels;

/// Arrays in the interface of this crate are of this version.
pub use ndarray;

pub use affine::{Affine, Distance, Orientation};
pub use aperio::{Annotations, parse_annotations, read_annotations};
pub use dataset::{CaseFiles, DataSet, Description, FileNames, Layout, SkippedFile, Split, Subject, is_other_image};
pub use error::Error;
pub use format::{Format, is_volume, parse_labels, parse_volume, read_labels, read_volume};
pub use nifti_file::{write_labels, write_volume};
pub use picture::{
    check_orientation_tag, is_grey, parse_instances, parse_rgb, read_grey_planes, read_instances, read_rgb, write_grey, write_instances,
    write_private_rgb, write_rgb,
};
pub use volume::{Grid, GridMismatch, Volume};

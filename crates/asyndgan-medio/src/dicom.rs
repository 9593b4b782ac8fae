//! DICOM: reads a folder with one CT or MR series as a [`Volume`](crate::Volume), and DICOM-SEG masks on its grid.
//!
//! Of each data set, only geometry and pixel elements are kept, and the series identifier to distinguish series
//! (`elements.rs` lists them), but no name or number of a patient, physician or institution. Only voxels and geometry
//! are returned. Errors contain file names, never identifying values.

mod elements;
mod object;
mod pixels;
mod rle;
mod segmentation;
mod series;

pub use segmentation::{Segmentation, parse_segmentation, read_segmentation};
pub use series::{read_series, skipped};

/// Reads one object from the bytes of a file and returns the voxels of its first frame; `path` is only used in error
/// messages.
///
/// # Errors
/// [`Error::Unreadable`](crate::Error::Unreadable).
pub fn parse_slice(path: &std::path::Path, bytes: &[u8]) -> Result<ndarray::Array2<f32>, crate::Error> {
    let slices = series::Slice::all_of(object::Object::parse(path, bytes)?)?;
    slices.first().ok_or_else(|| crate::Error::unsupported(path, "it has no frame"))?.pixels()
}

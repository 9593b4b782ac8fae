//! DICOM: a folder with one CT or MR series as a [`Volume`](crate::Volume), and DICOM-SEG masks on its grid.
//!
//! Only elements of geometry and pixels are kept of a data set, and the series' identifier to tell series apart (`elements.rs` lists
//! them): no name or number of a patient, a physician or an institution. Nothing but voxels and geometry is handed out, and errors
//! name files, never values that identify.

mod elements;
mod object;
mod pixels;
mod rle;
mod segmentation;
mod series;

pub use segmentation::{Segmentation, parse_segmentation, read_segmentation};
pub use series::{passed_over, read_series};

/// Reads one object from the bytes of a file and the voxels of its first frame; `path` only names it in errors.
///
/// # Errors
/// [`Error::Unreadable`](crate::Error::Unreadable).
pub fn parse_slice(path: &std::path::Path, bytes: &[u8]) -> Result<ndarray::Array2<f32>, crate::Error> {
    let slices = series::Slice::all_of(object::Object::parse(path, bytes)?)?;
    slices.first().ok_or_else(|| crate::Error::unsupported(path, "it has no frame"))?.pixels()
}

use std::path::Path;

use crate::{Error, Volume};

/// How far stored labels may be from whole numbers: scaled integers and 32-bit floats are that exact.
const OFF_MAX: f64 = 1e-3;

/// Converts a stored value to an integer from 0 to 4,294,967,295, if it is close enough to one.
pub(crate) fn integer(value: f64) -> Option<u32> {
    let nearest = value.round();
    let whole = (value - nearest).abs() <= OFF_MAX && (0.0..=f64::from(u32::MAX)).contains(&nearest);
    whole.then_some(nearest as u32)
}

/// Stored values as labels.
///
/// # Errors
/// [`Error::Unsupported`] for a value that is not a label.
pub(crate) fn labels_of(path: &Path, stored: Volume<f64>) -> Result<Volume<u32>, Error> {
    if let Some(odd) = stored.voxels.iter().find(|v| integer(**v).is_none()) {
        let fact =
            format!("it contains the label {odd}, but labels must be integers from 0 to {}; is it an image or probability map?", u32::MAX);
        return Err(Error::unsupported(path, fact));
    }
    Ok(Volume { voxels: stored.voxels.mapv(|v| v.round() as u32), affine: stored.affine })
}

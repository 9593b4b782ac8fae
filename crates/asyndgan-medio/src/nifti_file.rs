use std::path::Path;

use ndarray::{Array3, Ix3};
use nifti::{IntoNdArray, NiftiHeader, NiftiObject, ReaderOptions};

use crate::Error;

/// The largest volume that is read: 512 Mi voxels.
const VOXELS_MAX: u64 = 1 << 29;

/// A three-dimensional image.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Intensities, `[slices, rows, columns]` (NIfTI's k, j, i).
    pub voxels: Array3<f32>,
    /// Distance of neighbouring voxels along each of those axes, in millimetres.
    pub spacing_mm: [f64; 3],
}

/// Reads a `.nii` or `.nii.gz` volume.
///
/// # Shapes
/// `[slices, rows, columns]`: the file's axes, slowest first.
///
/// # Errors
/// [`Error::Unreadable`] for a truncated file, a header that asks for more than 512 Mi voxels, another number of
/// dimensions, a spacing that is not positive, or voxels that are not finite.
pub fn read_volume(path: &Path) -> Result<Volume, Error> {
    std::fs::metadata(path).map_err(Error::io(path))?;
    let header = NiftiHeader::from_file(path).map_err(|e| Error::unreadable(path, e))?;
    let dim = header.dim().map_err(|e| Error::unreadable(path, e))?;
    let voxels = dim.iter().try_fold(1_u64, |n, &d| n.checked_mul(u64::from(d))).unwrap_or(u64::MAX);
    if voxels == 0 || voxels > VOXELS_MAX {
        return Err(Error::unreadable(path, format!("its header declares {dim:?} voxels, supported are 1 to {VOXELS_MAX}")));
    }
    let spacing_mm = [3, 2, 1].map(|axis| f64::from(header.pixdim[axis]).abs());
    if spacing_mm.iter().any(|s| !s.is_finite() || *s <= 0.0) {
        return Err(Error::unreadable(path, format!("its voxel spacing is {spacing_mm:?} mm")));
    }
    let object = ReaderOptions::new().read_file(path).map_err(|e| Error::unreadable(path, e))?;
    let array = object.into_volume().into_ndarray::<f32>().map_err(|e| Error::unreadable(path, e))?;
    let found = array.shape().to_vec();
    let three = if array.ndim() == 4 && found[3] == 1 { array.index_axis_move(ndarray::Axis(3), 0) } else { array };
    let voxels: Array3<f32> = three
        .into_dimensionality::<Ix3>()
        .map_err(|_| Error::unreadable(path, format!("it has shape {found:?}, three dimensions are needed")))?
        .reversed_axes()
        .as_standard_layout()
        .into_owned();
    if voxels.iter().any(|v| !v.is_finite()) {
        return Err(Error::unreadable(path, "it holds voxels that are NaN or infinite"));
    }
    Ok(Volume { voxels, spacing_mm })
}

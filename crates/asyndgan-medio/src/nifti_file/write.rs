use std::path::Path;

use asyndgan_files::Access;
use nifti::{NiftiHeader, writer::WriterOptions};

use crate::{Error, Volume};

/// Writes a volume atomically as `.nii` or `.nii.gz`, depending on the extension.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unwritable`] for an axis with more than 32,767 voxels.
pub fn write_volume(path: &Path, volume: &Volume) -> Result<(), Error> {
    write(path, volume)
}

/// Writes labels atomically, as 16-bit integers if they fit, otherwise as 32-bit integers.
///
/// # Errors
/// As [`write_volume`].
pub fn write_labels(path: &Path, labels: &Volume<u32>) -> Result<(), Error> {
    if labels.voxels.iter().all(|&l| l <= u16::MAX.into()) {
        return write(path, &Volume { voxels: labels.voxels.mapv(|l| l as u16), affine: labels.affine });
    }
    write(path, labels)
}

fn write<T: nifti::DataElement + bytemuck::Pod>(path: &Path, volume: &Volume<T>) -> Result<(), Error> {
    let (slices, rows, columns) = volume.voxels.dim();
    if slices.max(rows).max(columns) > i16::MAX as usize {
        return Err(Error::unwritable(path, format!("NIfTI-1 axes have at most 32767 voxels; this volume has {:?}", volume.voxels.dim())));
    }
    let [k, j, i] = volume.spacing_mm();
    let [srow_x, srow_y, srow_z] = volume.affine.0.map(|row| row.map(|v| v as f32));
    let pixdim = [1.0, i as f32, j as f32, k as f32, 0.0, 0.0, 0.0, 0.0];
    let header = NiftiHeader { pixdim, sform_code: 2, srow_x, srow_y, srow_z, xyzt_units: 2, ..NiftiHeader::default() };
    let compressed = path.extension().is_some_and(|e| e == "gz");
    asyndgan_files::write_at_path(path, Access::Shared, Error::io(path), |beside| {
        // The nifti crate looks at the ending, and names the file itself.
        let stem = beside.file_name().unwrap_or_default().to_string_lossy().replace('.', "_");
        // Hidden: a process that is killed leaves it.
        let named = beside.with_file_name(format!(".{stem}") + if compressed { ".nii.gz" } else { ".nii" });
        let array = volume.voxels.view().reversed_axes();
        let written = WriterOptions::new(&named).reference_header(&header).compress(compressed).write_nifti(&array);
        if let Err(error) = written {
            // The first error is the one that matters.
            std::fs::remove_file(&named).ok();
            return Err(Error::unwritable(path, error));
        }
        std::fs::rename(&named, beside).map_err(|error| {
            std::fs::remove_file(&named).ok();
            Error::io(path)(error)
        })
    })
}

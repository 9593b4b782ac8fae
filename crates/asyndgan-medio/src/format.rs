//! Image file formats, detected by file extension.

use std::path::{Path, PathBuf};

use crate::{Error, Grid, Volume, files, labels::labels_of, metaimage, nifti_file, nrrd, picture, volume::finite};

/// A supported image format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Format {
    /// NIfTI-1 and NIfTI-2: `.nii`, `.nii.gz`, and the `.hdr` of a pair.
    Nifti,
    /// `.nrrd`, and `.nhdr` with the voxels in a separate file.
    Nrrd,
    /// `.mha`, and `.mhd` with the voxels in a separate file.
    MetaImage,
    /// `.tif`, `.tiff`: a picture, a label image, or a stack of slices.
    Tiff,
    /// `.png`: a picture or a label image.
    Png,
}

const ENDINGS: [(&str, Format); 13] = [
    (".nii.gz", Format::Nifti),
    (".nii", Format::Nifti),
    (".hdr.gz", Format::Nifti),
    (".hdr", Format::Nifti),
    (".nrrd", Format::Nrrd),
    (".nhdr", Format::Nrrd),
    (".mha", Format::MetaImage),
    (".mhd", Format::MetaImage),
    (".ome.tiff", Format::Tiff),
    (".ome.tif", Format::Tiff),
    (".tiff", Format::Tiff),
    (".tif", Format::Tiff),
    (".png", Format::Png),
];

impl Format {
    /// The format of a file, by its name only; case-insensitive.
    pub fn from_path(path: &Path) -> Option<Self> {
        Some(split(path)?.1)
    }

    /// A file's name without its extension, if the format is supported.
    pub fn stem(path: &Path) -> Option<String> {
        Some(split(path)?.0)
    }

    /// The extensions of all formats, for messages.
    pub fn endings() -> String {
        let endings: Vec<String> = ENDINGS.iter().map(|(ending, _)| format!("*{ending}")).collect();
        endings.join(", ")
    }

    /// Whether a file in this format is always a volume; a TIFF can be a picture or a volume.
    pub fn is_volume(self) -> bool {
        matches!(self, Self::Nifti | Self::Nrrd | Self::MetaImage)
    }
}

fn split(path: &Path) -> Option<(String, Format)> {
    let name = path.file_name()?.to_string_lossy();
    ENDINGS.iter().find_map(|(ending, format)| {
        let (stem, end) = name.split_at_checked(name.len().checked_sub(ending.len())?)?;
        end.eq_ignore_ascii_case(ending).then(|| (stem.to_owned(), *format))
    })
}

/// Reads a volume: NIfTI (`.nii`, `.nii.gz`, or a pair of `.hdr` and `.img`, given by either name), NRRD, MetaImage, or
/// a TIFF whose pages are the slices. A file with any other extension is read as NIfTI.
///
/// All integer and float types of 8 to 64 bits are supported, in either byte order. A NIfTI file is scaled by its slope
/// and intercept. Its affine is the sform if present, else the qform, else the spacing about the centre, as in nibabel.
/// The axes of a TIFF, and of an NRRD without `space`, are assumed to be LPS: to the left, to the back and up.
///
/// # Errors
/// [`Error::Io`]; [`Error::Unreadable`] for a damaged or truncated file; [`Error::Unsupported`] for unsupported
/// content, such as colours, more than three dimensions, more than 512 Mi voxels, units other than millimetres, a
/// degenerate geometry, and voxels that are not finite.
pub fn read_volume(path: &Path) -> Result<Volume, Error> {
    let path = &nifti_file::header_path(path);
    parse_volume(path, &files::read(path)?)
}

/// Reads labels from a volume file. For masks in PNG or TIFF, see [`read_instances`](crate::read_instances), which also
/// reads masks of classes.
///
/// # Errors
/// As [`read_volume`], and [`Error::Unsupported`] for a voxel that is further than 1e-3 from a whole number from 0 to
/// 4,294,967,295.
pub fn read_labels(path: &Path) -> Result<Volume<u32>, Error> {
    let path = &nifti_file::header_path(path);
    parse_labels(path, &files::read(path)?)
}

/// Reads a volume from the bytes of a file. `path` is its name. If the header refers to a separate file for the voxels,
/// that file is read.
///
/// # Errors
/// As [`read_volume`].
pub fn parse_volume(path: &Path, bytes: &[u8]) -> Result<Volume, Error> {
    finite(path, parse(path, bytes, |v| v as f32)?)
}

/// Reads labels from the bytes of a volume file, like [`parse_volume`].
///
/// # Errors
/// As [`read_labels`].
pub fn parse_labels(path: &Path, bytes: &[u8]) -> Result<Volume<u32>, Error> {
    labels_of(path, parse(path, bytes, |v| v)?)
}

fn parse<T>(path: &Path, bytes: &[u8], value: impl Fn(f64) -> T) -> Result<Volume<T>, Error> {
    match Format::from_path(path) {
        Some(Format::Nrrd) => nrrd::parse(path, bytes, value),
        Some(Format::MetaImage) => metaimage::parse(path, bytes, value),
        Some(Format::Tiff) => picture::stack(path, bytes, value),
        Some(Format::Png) => {
            Err(Error::unsupported(path, "it is a picture, but a volume is needed; provide a NIfTI, NRRD or MetaImage file"))
        }
        Some(Format::Nifti) | None => nifti_file::parse(path, bytes, value),
    }
}

/// Whether a file contains a volume: by its extension, or for a TIFF by the kind of its pages.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unreadable`] for a damaged TIFF.
pub fn is_volume(path: &Path) -> Result<bool, Error> {
    match Format::from_path(path) {
        Some(Format::Tiff) => picture::is_stack(path),
        format => Ok(format.is_some_and(Format::is_volume)),
    }
}

/// The files that a volume file refers to: the file with its voxels, or with the spacing of its slices.
pub(crate) fn companions(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let found = match Format::from_path(path) {
        Some(Format::Nifti) => nifti_file::image_path(path),
        Some(Format::Nrrd) => nrrd::data_path(path)?,
        Some(Format::MetaImage) => metaimage::data_path(path)?,
        Some(Format::Tiff) => picture::spacing_path(path),
        Some(Format::Png) | None => None,
    };
    Ok(found.into_iter().collect())
}

/// Reads the grid of a volume, from the header only if the format allows it.
pub(crate) fn read_grid(path: &Path) -> Result<Grid, Error> {
    let bytes = || files::read(path);
    match Format::from_path(path) {
        Some(Format::Nifti) => nifti_file::read_grid(path),
        Some(Format::Nrrd) => Ok(nrrd::declared(path, &bytes()?)?.0.grid()),
        Some(Format::MetaImage) => Ok(metaimage::declared(path, &bytes()?)?.declared.grid()),
        _ => Ok(read_volume(path)?.grid()),
    }
}

//! Formats of image files, by the endings of their names.

use std::path::{Path, PathBuf};

use crate::{Error, Grid, Volume, files, labels::labels_of, metaimage, nifti_file, nrrd, picture, volume::finite};

/// A format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Format {
    /// NIfTI-1 and NIfTI-2: `.nii`, `.nii.gz`, and the `.hdr` of a pair.
    Nifti,
    /// `.nrrd`, and `.nhdr` with the voxels beside it.
    Nrrd,
    /// `.mha`, and `.mhd` with the voxels beside it.
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
    /// The format of a file, by its name alone; capital letters count as small ones.
    pub fn of(path: &Path) -> Option<Self> {
        Some(split(path)?.1)
    }

    /// A file's name without its ending, if it is of a format that is read.
    pub fn stem(path: &Path) -> Option<String> {
        Some(split(path)?.0)
    }

    /// The endings of all formats, for people.
    pub fn endings() -> String {
        let endings: Vec<String> = ENDINGS.iter().map(|(ending, _)| format!("*{ending}")).collect();
        endings.join(", ")
    }

    /// Whether a file of this format is always a volume; a TIFF may be a picture or a volume.
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

/// Reads a volume: NIfTI (`.nii`, `.nii.gz`, or a pair of `.hdr` and `.img` by either name), NRRD, MetaImage, or a TIFF whose pages are its
/// slices. A file with another name is read as NIfTI.
///
/// Every integer and float type of 8 to 64 bits is read, in either byte order. A NIfTI file is scaled by its slope and intercept; its affine
/// is the sform's if there is one, else the qform's, else the spacing about the centre, as nibabel decides. A TIFF, and an NRRD without
/// `space`, are taken to run to the left, to the back and up.
///
/// # Errors
/// [`Error::Io`]; [`Error::Unreadable`] for a damaged or truncated file; [`Error::Unsupported`] for what is not read, such as colours, more
/// than three dimensions, more than 512 Mi voxels, units other than millimetres, a geometry that spans no space, and voxels that are not
/// finite.
pub fn read_volume(path: &Path) -> Result<Volume, Error> {
    let path = &nifti_file::header_path(path);
    parse_volume(path, &files::read(path)?)
}

/// Reads labels from a volume's file.
///
/// # Errors
/// As [`read_volume`], and [`Error::Unsupported`] for a voxel that is further than 1e-3 from a whole number from 0 to 4,294,967,295.
pub fn read_labels(path: &Path) -> Result<Volume<u32>, Error> {
    let path = &nifti_file::header_path(path);
    parse_labels(path, &files::read(path)?)
}

/// Reads a volume from the bytes of a file. `path` has its name; where its header says that the voxels are in a file beside it, that is read.
///
/// # Errors
/// As [`read_volume`].
pub fn parse_volume(path: &Path, bytes: &[u8]) -> Result<Volume, Error> {
    finite(path, parse(path, bytes, |v| v as f32)?)
}

/// Reads labels from the bytes of a volume's file, as [`parse_volume`] does.
///
/// # Errors
/// As [`read_labels`].
pub fn parse_labels(path: &Path, bytes: &[u8]) -> Result<Volume<u32>, Error> {
    labels_of(path, parse(path, bytes, |v| v)?)
}

fn parse<T>(path: &Path, bytes: &[u8], value: impl Fn(f64) -> T) -> Result<Volume<T>, Error> {
    match Format::of(path) {
        Some(Format::Nrrd) => nrrd::parse(path, bytes, value),
        Some(Format::MetaImage) => metaimage::parse(path, bytes, value),
        Some(Format::Tiff) => picture::stack(path, bytes, value),
        Some(Format::Png) => Err(Error::unsupported(path, "it is a picture, where a volume is needed")),
        Some(Format::Nifti) | None => nifti_file::parse(path, bytes, value),
    }
}

/// Whether a file holds a volume: by its name, or for a TIFF by what its pages are.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unreadable`] for a damaged TIFF.
pub fn is_volume(path: &Path) -> Result<bool, Error> {
    match Format::of(path) {
        Some(Format::Tiff) => picture::is_stack(path),
        format => Ok(format.is_some_and(Format::is_volume)),
    }
}

/// The files that a volume's file refers to: with its voxels, or with the spacing of its slices.
pub(crate) fn companions(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let found = match Format::of(path) {
        Some(Format::Nifti) => nifti_file::image_path(path),
        Some(Format::Nrrd) => nrrd::data_path(path)?,
        Some(Format::MetaImage) => metaimage::data_path(path)?,
        Some(Format::Tiff) => picture::spacing_path(path),
        Some(Format::Png) | None => None,
    };
    Ok(found.into_iter().collect())
}

/// Where a volume's voxels lie; the voxels are not decoded where a header says it.
pub(crate) fn read_grid(path: &Path) -> Result<Grid, Error> {
    let bytes = || files::read(path);
    match Format::of(path) {
        Some(Format::Nifti) => nifti_file::read_grid(path),
        Some(Format::Nrrd) => Ok(nrrd::declared(path, &bytes()?)?.0.grid()),
        Some(Format::MetaImage) => Ok(metaimage::declared(path, &bytes()?)?.declared.grid()),
        _ => Ok(read_volume(path)?.grid()),
    }
}

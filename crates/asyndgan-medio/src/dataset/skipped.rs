use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::{Format, files};

/// A file or folder in a data set that no case uses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Why it is not used.
    pub reason: String,
    /// Whether it looks like an image, a mask or a case, so that data may be missing.
    pub is_problem: bool,
}

/// Endings of images and masks of other formats.
const OTHER_IMAGES: [&str; 17] = [
    ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".dcm", ".ima", ".npy", ".npz", ".mat", ".h5", ".img", ".img.gz", ".svs", ".ndpi", ".vtk",
    ".mgz",
];

impl SkippedFile {
    pub(crate) fn note(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into(), is_problem: false }
    }

    pub(super) fn problem(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into(), is_problem: true }
    }

    /// A file that is not used. `reason` applies if its format is supported.
    pub(super) fn unused(path: &Path, reason: impl Into<String>) -> Self {
        match Format::from_path(path) {
            Some(_) => Self::problem(path, reason),
            None if files::ends(path, &[".img", ".img.gz"]) => {
                Self::problem(path, "it contains the voxels of a .hdr/.img pair, but its .hdr file is missing")
            }
            None if is_other_image(path) => {
                Self::problem(path, format!("this image format is not supported; convert it to one of {}", Format::endings()))
            }
            None => Self::note(path, "it is not an image"),
        }
    }
}

/// Whether a file's name shows that it is an image in an unsupported format.
pub fn is_other_image(path: &Path) -> bool {
    files::ends(path, &OTHER_IMAGES)
}

/// The names of the files in a folder, in lower case.
#[derive(Debug)]
pub struct FileNames(BTreeSet<String>);

impl FileNames {
    /// The names of files.
    pub fn new(files: &[PathBuf]) -> Self {
        Self(files.iter().map(|file| lower_name(file)).collect())
    }

    /// Whether a file is a companion of another one of these: the voxels for a header, the spacing of a stack, or the
    /// description of a volume.
    pub fn has_main_file_of(&self, companion: &Path) -> bool {
        const HEADERS: [(&str, &[&str]); 9] = [
            (".img", &[".hdr"]),
            (".img.gz", &[".hdr", ".hdr.gz"]),
            (".raw", &[".mhd", ".nhdr"]),
            (".zraw", &[".mhd"]),
            (".raw.gz", &[".nhdr"]),
            (".json", &[".tif", ".tiff"]),
            (".json", &["_0000.tif", "_0000.tiff"]),
            (".json", &[".nii", ".nii.gz"]),
            (".json", &["_0000.nii", "_0000.nii.gz"]),
        ];
        let own = lower_name(companion);
        HEADERS.iter().any(|(ending, headers)| {
            let stem = own.strip_suffix(ending);
            stem.is_some_and(|stem| headers.iter().any(|header| self.0.contains(&format!("{stem}{header}"))))
        })
    }
}

fn lower_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

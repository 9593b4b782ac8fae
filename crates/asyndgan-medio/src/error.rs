use std::path::PathBuf;

/// Errors when reading or writing images and data sets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operating system error.
    #[error("cannot read or write {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is damaged, or its content does not match its name.
    #[error("{path} is unreadable: {fact}; replace it with an intact copy")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was found.
        fact: String,
    },
    /// The file may be intact, but its content is not supported.
    #[error("{path} is not supported: {fact}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What was found, and how to fix it.
        fact: String,
    },
    /// The data cannot be written in this format.
    #[error("{path} cannot be written: {fact}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why not.
        fact: String,
    },
    /// A file of a case is missing.
    #[error("case {case} lacks {missing}; add it, or remove the case from the folder")]
    Incomplete {
        /// The case.
        case: String,
        /// The missing file.
        missing: PathBuf,
    },
    /// An image and its mask, or two channels, differ in shape.
    #[error("{path} has shape {found:?}, but its image has {expected:?}; both must have the same grid")]
    Shape {
        /// The file of the second.
        path: PathBuf,
        /// The first's shape.
        expected: Vec<usize>,
        /// The second's shape.
        found: Vec<usize>,
    },
    /// A mask or another channel is at a different position in the patient than its image.
    #[error(
        "{path} lies up to {distance} away from {reference}; resample it to that grid, for example with SimpleITK.Resample, \
         or correct its header"
    )]
    Geometry {
        /// The file of the second.
        path: PathBuf,
        /// The file of the first.
        reference: PathBuf,
        /// The largest distance.
        distance: crate::Distance,
    },
    /// A label that is not described.
    #[error("{path} contains label {label}, but the described labels are {known:?}; correct the mask or the description")]
    Label {
        /// The file of the mask.
        path: PathBuf,
        /// The label.
        label: u32,
        /// The described labels.
        known: Vec<u32>,
    },
    /// A channel that the images do not have.
    #[error("{path} has no channel {wanted}; it has {found}: choose one of those, or rename one")]
    Channel {
        /// The folder.
        path: PathBuf,
        /// The requested channel.
        wanted: String,
        /// The existing channels.
        found: String,
    },
    /// More than one interpretation fits.
    #[error("{path} can be read as {}; keep only one of them", .candidates.join(", or as "))]
    Ambiguous {
        /// The folder.
        path: PathBuf,
        /// The matching interpretations.
        candidates: Vec<String>,
    },
    /// A name appears in two places that must be disjoint.
    #[error("{name} appears in {}; keep it in only one", .places.join(" and in "))]
    Twice {
        /// The case or patient.
        name: String,
        /// The places where it appears.
        places: Vec<String>,
    },
    /// The given path is not a folder.
    #[error("{path} is not a folder; choose the folder that contains the cases")]
    NoFolder {
        /// The given path.
        path: PathBuf,
    },
    /// A file or folder in a data set looks like a case or a part of one, but cannot be used.
    #[error("{path} is not used: {reason}; fix it, move it away, or skip unusable files")]
    SkippedFile {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A folder contains nothing of the expected kind.
    #[error("{path} contains no case; expected {looked_for}")]
    Empty {
        /// The folder.
        path: PathBuf,
        /// The expected layout.
        looked_for: &'static str,
    },
}

impl Error {
    pub(crate) fn io(path: &std::path::Path) -> impl Fn(std::io::Error) -> Self {
        |source| Self::Io { path: path.into(), source }
    }

    pub(crate) fn unreadable(path: &std::path::Path, fact: impl std::fmt::Display) -> Self {
        Self::Unreadable { path: path.into(), fact: fact.to_string() }
    }

    pub(crate) fn unsupported(path: &std::path::Path, fact: impl std::fmt::Display) -> Self {
        Self::Unsupported { path: path.into(), fact: fact.to_string() }
    }

    pub(crate) fn unwritable(path: &std::path::Path, fact: impl std::fmt::Display) -> Self {
        Self::Unwritable { path: path.into(), fact: fact.to_string() }
    }
}

use std::path::PathBuf;

/// What can be wrong with somebody's files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read or write {path}: {cause}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is not what its name promises, or broken.
    #[error("{path} is unreadable: {fact}; replace it with an intact copy")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was found.
        fact: String,
    },
    /// The file may be whole, but is not of a kind that is read.
    #[error("{path} is not supported: {fact}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What was found, and the way out.
        fact: String,
    },
    /// What is to be written does not fit the format.
    #[error("{path} cannot be written: {fact}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why not.
        fact: String,
    },
    /// A file that belongs to a case is not there.
    #[error("case {case} lacks {missing}; add it, or take the case out of the folder")]
    Incomplete {
        /// The case.
        case: String,
        /// The file that was looked for.
        missing: PathBuf,
    },
    /// An image and its mask, or two channels, differ in shape.
    #[error("{path} has shape {found:?}, its image has {expected:?}; both must be of one grid")]
    Shape {
        /// The file of the second.
        path: PathBuf,
        /// The first's shape.
        expected: Vec<usize>,
        /// The second's shape.
        found: Vec<usize>,
    },
    /// A mask, or another channel, lies elsewhere in the patient than its image.
    #[error(
        "{path} lies up to {distance} away from {reference}; bring it to that grid, for example with SimpleITK.Resample, or correct its header"
    )]
    Geometry {
        /// The file of the second.
        path: PathBuf,
        /// The file of the first.
        reference: PathBuf,
        /// The largest distance.
        distance: crate::Distance,
    },
    /// A label that nothing describes.
    #[error("{path} holds label {label}, described are {known:?}; correct the mask or the description")]
    Label {
        /// The file of the mask.
        path: PathBuf,
        /// The label.
        label: u32,
        /// Those that are described.
        known: Vec<u32>,
    },
    /// A channel that the images do not have.
    #[error("{path} has no channel {wanted}, it has {found}; take one of those, or rename one")]
    Channel {
        /// The folder.
        path: PathBuf,
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// More than one reading fits.
    #[error("{path} can be read as {}; leave one of them there", .candidates.join(", or as "))]
    Ambiguous {
        /// The folder.
        path: PathBuf,
        /// What fits.
        candidates: Vec<String>,
    },
    /// One name stands in two places that must not share it.
    #[error("{name} stands in {}; leave it in one", .places.join(" and in "))]
    Twice {
        /// The case or patient.
        name: String,
        /// Where it stands.
        places: Vec<String>,
    },
    /// What was given is no folder.
    #[error("{path} is no folder; give the folder that holds the cases")]
    NoFolder {
        /// What was given.
        path: PathBuf,
    },
    /// Something in a data set looks like a case or a part of one, and cannot be used.
    #[error("{path} is not used: {reason}; correct it, move it away, or skip what is unusable")]
    PassedOver {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A folder holds nothing of the kind that was looked for.
    #[error("{path} holds no case: looked for {looked_for}")]
    Empty {
        /// The folder.
        path: PathBuf,
        /// The layout that was looked for.
        looked_for: &'static str,
    },
    /// What is to be made is there already.
    #[error("{path} exists already; choose another place, or remove it")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Too few cases to share out.
    #[error("{path} holds {found} usable cases, at least {expected} are needed")]
    TooFew {
        /// The folder.
        path: PathBuf,
        /// The smallest number that works.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

impl Error {
    pub(crate) fn io(path: &std::path::Path) -> impl Fn(std::io::Error) -> Self {
        |cause| Self::Io { path: path.into(), cause }
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

use std::path::{Path, PathBuf};

use asyndgan_task::TaskError;

/// Errors when preparing data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image or a data set cannot be read or written.
    #[error(transparent)]
    Images(#[from] asyndgan_medio::Error),
    /// A task is inconsistent.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// An operating system error.
    #[error("cannot read or write {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A prepared file is damaged.
    #[error("{path} is unreadable: {fact}; prepare it again")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was found.
        fact: String,
    },
    /// The content is valid, but does not fit the task.
    #[error("{path} is not supported: {fact}")]
    Unsupported {
        /// The file or case.
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
    /// A name appears in two places that must be disjoint.
    #[error("{name} appears in {}; keep it in only one", .places.join(" and in "))]
    Twice {
        /// The case or patient.
        name: String,
        /// The places where it appears.
        places: Vec<String>,
    },
    /// All masks to be recombined are of one patient.
    #[error("masks of a single patient cannot be recombined: deform them, or do not take part")]
    OnePatient,
    /// The output already exists.
    #[error("{path} already exists; choose another path, or remove it")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Too few cases to distribute.
    #[error("{path} contains {found} usable cases, but at least {expected} are needed")]
    TooFew {
        /// The folder.
        path: PathBuf,
        /// The minimum number.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> Self {
        |source| Self::Io { path: path.into(), source }
    }

    pub(crate) fn unreadable(path: &Path, fact: impl std::fmt::Display) -> Self {
        Self::Unreadable { path: path.into(), fact: fact.to_string() }
    }

    pub(crate) fn unsupported(path: &Path, fact: impl std::fmt::Display) -> Self {
        Self::Unsupported { path: path.into(), fact: fact.to_string() }
    }

    pub(crate) fn unwritable(path: &Path, fact: impl std::fmt::Display) -> Self {
        Self::Unwritable { path: path.into(), fact: fact.to_string() }
    }
}

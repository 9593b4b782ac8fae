use std::path::PathBuf;

/// Errors of stored weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot read or write {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not a safetensors file, or is damaged.
    #[error("{path} is unreadable: {fact}; delete it to start over, or replace it with an intact copy")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was found.
        fact: String,
    },
    /// Weights that do not fit the network.
    #[error("tensor {name} has shape {found:?}, but the network needs {expected:?}; the weights are from a different configuration")]
    Mismatch {
        /// The state-dict name.
        name: String,
        /// The shape that the network needs.
        expected: Vec<i64>,
        /// The shape in the file; `None` if the tensor is missing.
        found: Option<Vec<i64>>,
    },
}

use std::path::PathBuf;

/// What can go wrong with stored weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read or write {path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is no safetensors file, or broken.
    #[error("{path} is unreadable: {fact}; delete it to start over, or replace it with an intact copy")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was found.
        fact: String,
    },
    /// Weights that do not fit the network.
    #[error("tensor {name} has shape {found:?}, the network needs {expected:?}; the weights are of another configuration")]
    Mismatch {
        /// The state-dict name.
        name: String,
        /// What the network needs.
        expected: Vec<i64>,
        /// What there is; none when it is missing.
        found: Option<Vec<i64>>,
    },
}

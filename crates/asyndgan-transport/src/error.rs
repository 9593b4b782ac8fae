use std::{net::SocketAddr, path::PathBuf};

/// What can end a server's or a site's part in a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The protocol was broken, or refused.
    #[error(transparent)]
    Protocol(#[from] asyndgan_protocol::Error),
    /// The other end is gone.
    #[error("the connection to the {peer} is gone; see why it stopped, then start both again")]
    Disconnected {
        /// Who.
        peer: String,
    },
    /// The worker failed.
    #[error("{0}")]
    Work(String),
    /// The server ended the run early.
    #[error("the server ended this site's part: {reason}")]
    Ended {
        /// Why.
        reason: String,
    },
    /// A record cannot be read or written.
    #[error("cannot read or write {path}: {cause}")]
    Record {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A journal whose chain is broken.
    #[error("{path}: entry {entry}: {fact}")]
    Journal {
        /// The file.
        path: PathBuf,
        /// Which entry, from 0.
        entry: u64,
        /// What is wrong with it.
        fact: String,
    },
    /// A key, certificate or name that is of no use.
    #[error("keys: {fact}")]
    Keys {
        /// What is wrong.
        fact: String,
    },
    /// A file that holds no such key, certificate or list.
    #[error("{path}: {fact}; have it issued again")]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fact: String,
    },
    /// A private key that others on the machine can read.
    #[error("{path} can be read by others on this machine: it holds a private key; run chmod 600 on it")]
    NotPrivate {
        /// The file.
        path: PathBuf,
    },
    /// The hospital has not agreed to this run.
    #[error("{path}: {fact}; a run needs a folder of its own, and its own approval")]
    Consent {
        /// Where the consent is kept.
        path: PathBuf,
        /// Why the site does not take part.
        fact: String,
    },
    /// A journal's receipt that proves nothing, or proves that the journal was changed.
    #[error("receipts: {fact}")]
    Receipt {
        /// What is wrong.
        fact: String,
    },
    /// A line of a ledger that cannot be read.
    #[error("{path}: line {line} is no entry of a ledger; restore the file, or begin a new folder")]
    Ledger {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// An address that cannot be listened at.
    #[error("cannot listen at {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The server does not let this site in.
    #[error("{server} refuses this site: {fact}")]
    Rejected {
        /// Which server.
        server: String,
        /// What it said.
        fact: String,
    },
    /// The server's certificate is not what it should be.
    #[error("{server} cannot be trusted: {fact}; is it the right host, of the right authority, and is this machine's clock right")]
    Untrusted {
        /// Which server.
        server: String,
        /// What is wrong with its certificate.
        fact: String,
    },
    /// The server cannot be reached.
    #[error("{server} could not be reached for {waited_s} s, the last time because: {fact}")]
    Unreachable {
        /// Which server.
        server: String,
        /// How long it was tried.
        waited_s: u64,
        /// What came of the last attempt.
        fact: String,
    },
}

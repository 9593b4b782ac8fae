use std::{net::SocketAddr, path::PathBuf};

/// An error that ends a server's or a site's part in a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The protocol was violated, or a request was refused.
    #[error(transparent)]
    Protocol(#[from] asyndgan_protocol::Error),
    /// The other end has disconnected.
    #[error("lost the connection to the {peer}; check why it stopped, then restart both ends")]
    Disconnected {
        /// The other end.
        peer: String,
    },
    /// The worker failed.
    #[error(transparent)]
    Work(Box<dyn std::error::Error + Send + Sync>),
    /// A thread cannot be started.
    #[error("cannot start a thread; raise the limit of threads of this user")]
    Thread {
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The server cannot be reached now; a later attempt may succeed.
    #[error("{fact}")]
    Transient {
        /// Why the attempt failed.
        fact: String,
    },
    /// The server ended the run early.
    #[error("the server ended this site's part in the run: {reason}")]
    Ended {
        /// The reason that the server gave.
        reason: String,
    },
    /// A record cannot be read or written.
    #[error("cannot read or write {path}")]
    Record {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A journal whose chain is broken.
    #[error("{path}: entry {entry}: {fact}")]
    Journal {
        /// The file.
        path: PathBuf,
        /// The number of the entry, from 0.
        entry: u64,
        /// What is wrong with it.
        fact: String,
    },
    /// A key, certificate or name that cannot be used.
    #[error("keys: {fact}")]
    Keys {
        /// What is wrong.
        fact: String,
    },
    /// A file that does not contain the expected key, certificate or list.
    #[error("{path}: {fact}; ask the operator to issue it again")]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fact: String,
    },
    /// A file that should contain a private key.
    #[error("{path} contains no private key; if `keys request` made it, set `key` in site.toml to its file")]
    NoPrivateKey {
        /// The file.
        path: PathBuf,
    },
    /// A private key or token that other users of the machine can read.
    #[error("{path} contains a secret, but other users of this machine can read it: run chmod 600 on it")]
    NotPrivate {
        /// The file.
        path: PathBuf,
    },
    /// The hospital has not agreed to this run.
    #[error("{path}: {fact}; every run needs its own folder and its own approval")]
    Consent {
        /// The file with the consent.
        path: PathBuf,
        /// Why the site does not take part.
        fact: String,
    },
    /// The server describes another run than the one that was expected.
    #[error("the server now describes the run {described}, and not {expected}")]
    OtherRun {
        /// Identity of the run that was expected.
        expected: String,
        /// Identity of the run that the server describes.
        described: String,
    },
    /// A journal's receipt that is invalid, or that shows that the journal was changed.
    #[error("receipts: {fact}")]
    Receipt {
        /// What is wrong.
        fact: String,
    },
    /// A line of a ledger that cannot be read.
    #[error("{path}: line {line} is not a ledger entry; restore the file, or use a new folder")]
    Ledger {
        /// The file.
        path: PathBuf,
        /// The line number, from 1.
        line: usize,
    },
    /// The server cannot listen on an address.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// An address that other machines reach, for a connection that is not encrypted.
    #[error("cannot listen on {address} for a relay: the connection is not encrypted, so it must stay on this machine; use 127.0.0.1")]
    NotLocal {
        /// The address.
        address: SocketAddr,
    },
    /// The server rejects this site.
    #[error("{server} rejects this site: {fact}")]
    Rejected {
        /// The server's address.
        server: String,
        /// The reason that it gave.
        fact: String,
    },
    /// The server's certificate is not valid.
    #[error("cannot trust {server}: {fact}; check the host name, the authority in this site's bundle, and this machine's clock")]
    Untrusted {
        /// The server's address.
        server: String,
        /// What is wrong with its certificate.
        fact: String,
    },
    /// The server answers, but has no run now.
    #[error("{server} has no run now: {reason}")]
    NoRun {
        /// The server's address.
        server: String,
        /// Why.
        reason: String,
    },
    /// The HTTP proxy cannot be used.
    #[error("the proxy {proxy}: {fact}")]
    Proxy {
        /// The proxy's address, without user and password.
        proxy: String,
        /// What is wrong.
        fact: String,
    },
    /// The server cannot be reached.
    #[error("could not reach {server} for {waited_s} s; the last attempt failed: {fact}")]
    Unreachable {
        /// The server's address.
        server: String,
        /// For how many seconds the site has tried.
        waited_s: u64,
        /// Why the last attempt failed.
        fact: String,
    },
}

/// An error with its causes, on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

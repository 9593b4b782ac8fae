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
    #[error("the run ended early: {reason}")]
    Ended {
        /// Why.
        reason: String,
    },
}

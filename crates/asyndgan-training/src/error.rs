use std::path::PathBuf;

/// What can stop a trainer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Weights or checkpoints.
    #[error(transparent)]
    Models(#[from] asyndgan_models::Error),
    /// A prepared case cannot be read.
    #[error(transparent)]
    Medio(#[from] asyndgan_medio::Error),
    /// A site without a case has nothing to teach.
    #[error("the site has no case; prepare its data again, or leave the site out")]
    NoCases,
    /// A tensor in transit.
    #[error(transparent)]
    Protocol(#[from] asyndgan_protocol::Error),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// The checkpoint folder cannot be listed or changed.
    #[error("cannot list or change {path}: {cause}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The threads of the server's lanes.
    #[error("cannot start {threads} threads: {cause}; choose fewer server_threads")]
    Threads {
        /// How many.
        threads: u32,
        /// What the system said.
        cause: rayon::ThreadPoolBuildError,
    },
    /// Work was asked for before the run began.
    #[error("the run has not begun")]
    NotBegun,
    /// A run whose networks cannot be built here.
    #[error("the run's networks cannot be built: {fact}; check that both ends run the same version")]
    Networks {
        /// What is wrong with them.
        fact: String,
    },
    /// The loss is no number any more.
    #[error("the loss or gradient of round {round} is not finite; lower the learning rate")]
    Diverged {
        /// In which round.
        round: u64,
    },
    /// The site's discriminator separates real from synthetic images without error, for so long that the generator will not recover.
    #[error(
        "the discriminator has separated real from synthetic images without error for {rounds} rounds up to round {round}: the generator \
         learns nothing from it any more; lower its learning rate, or augment more"
    )]
    Collapsed {
        /// In which round it was given up.
        round: u64,
        /// For how many rounds.
        rounds: u32,
    },
}

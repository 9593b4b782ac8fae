use std::path::PathBuf;

/// Errors that stop a trainer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Weights or checkpoints are not valid.
    #[error(transparent)]
    Models(#[from] asyndgan_models::Error),
    /// A prepared case cannot be read.
    #[error(transparent)]
    Data(#[from] asyndgan_data::Error),
    /// The site has no cases.
    #[error("the site has no cases; prepare its data again, or remove the site from the run")]
    NoCases,
    /// A transmitted tensor is not valid.
    #[error(transparent)]
    Protocol(#[from] asyndgan_protocol::Error),
    /// libtorch refused an operation.
    #[error("libtorch refused an operation")]
    Torch(#[from] tch::TchError),
    /// The checkpoint folder cannot be listed or changed.
    #[error("cannot list or change {path}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The folder has checkpoints of another run.
    #[error(
        "{path} has checkpoints of a run with another description: finish that run with the version and the settings that began it, use a \
         new folder, or delete that one"
    )]
    OtherRun {
        /// The folder of the other run.
        path: PathBuf,
    },
    /// The server's threads cannot be started.
    #[error("cannot start {threads} threads; lower server_threads")]
    Threads {
        /// How many.
        threads: u32,
        /// The error of the operating system.
        source: rayon::ThreadPoolBuildError,
    },
    /// Work was requested before the run started.
    #[error("the run has not started")]
    NotBegun,
    /// The networks of the run cannot be built here.
    #[error("the run's networks cannot be built: {fact}; check that both ends run the same version")]
    Networks {
        /// What is wrong with them.
        fact: String,
    },
    /// The site's images were prepared for another task or scale than those of the run.
    #[error("this site's images do not fit the run; {mismatch} (run and site); prepare them again with the task and scale of the run")]
    Images {
        /// The first difference.
        mismatch: String,
    },
    /// A budget, a sampling rate or a noise multiplier out of range, or a budget that no noise meets.
    #[error(transparent)]
    Privacy(#[from] asyndgan_privacy::Error),
    /// A line of a privacy ledger that is not a step.
    #[error(
        "line {line} of {path} is not a step of a privacy ledger: {fact}; restore the file, because its steps count towards the budget"
    )]
    PrivacyLedger {
        /// The ledger.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        fact: String,
    },
    /// Another process is using the privacy ledger.
    #[error("another process is using {path}: wait until it ends, or stop it; runs on the same patients share one budget")]
    PrivacyLedgerInUse {
        /// The ledger.
        path: PathBuf,
    },
    /// The data do not name the patient of every case, and so no budget for patients can be kept.
    #[error("the run protects patients, but the patient of {cases} cases is unknown: prepare the data again with names of patients")]
    UnknownPatients {
        /// How many cases.
        cases: usize,
    },
    /// A step with differential privacy that is repeated has another result than before.
    #[error(
        "the gradient of round {round} differs from the one that was recorded for the same discriminator: the machine, its libraries or the \
         data have changed. Continue on the machine and with the data of before, or take part in a new run"
    )]
    NotReproducible {
        /// The round.
        round: u64,
    },
    /// The ledger lacks the steps of a run that the site has checkpoints of.
    #[error(
        "{path} lacks the steps of this run, of which there are checkpoints: restore the ledger, because its steps count towards the budget"
    )]
    LedgerLost {
        /// The ledger.
        path: PathBuf,
    },
    /// No masks can be drawn from a model of shapes.
    #[error("no masks can be sampled: {fact}")]
    Masks {
        /// Why, and what to do.
        fact: String,
    },
    /// The privacy budget does not allow another step.
    #[error("{reason}")]
    BudgetSpent {
        /// Why.
        reason: String,
    },
    /// The loss or gradient is not finite.
    #[error("the loss or gradient of round {round} is not finite; lower the learning rate")]
    Diverged {
        /// The round.
        round: u64,
    },
    /// The site's discriminator separates real from synthetic images without error, for so long that the generator will
    /// not recover.
    #[error(
        "the discriminator has separated real from synthetic images without error for {rounds} rounds up to round {round}: the generator \
         no longer learns from it; lower the learning rate of the discriminator, or increase the augmentation"
    )]
    Collapsed {
        /// The round in which the trainer gave up.
        round: u64,
        /// For how many rounds.
        rounds: u32,
    },
}

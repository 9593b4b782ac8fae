#![doc = include_str!("../README.md")]

pub mod audit;
mod configure;
pub mod consortium;
mod curves;
pub mod data;
pub mod device;
pub mod experiment;
mod figures;
mod files;
pub mod in_process;
mod masks;
pub mod network_file;
pub mod plan;
mod precision;
pub mod privacy;
pub mod progress;
pub mod run;
pub mod score;
pub mod segmenter;
mod shared_masks;
pub mod synthesis;
pub mod task_file;
mod tensors;

/// The crates whose types appear in the interface of this crate.
pub use {
    asyndgan_data, asyndgan_evaluator, asyndgan_medio, asyndgan_metrics, asyndgan_models, asyndgan_paper, asyndgan_privacy,
    asyndgan_protocol, asyndgan_task, asyndgan_training, asyndgan_transport,
};
/// Devices and arrays in the interface of this crate are of these versions.
pub use {ndarray, serde_json, tch};

pub use anyhow::{Error, Result};

#[cfg(doc)]
mod guide {
    //! The guide, one module per page. Links between the pages work in the repository.

    #[doc = include_str!("../guide/reproduce.md")]
    mod reproduce {}
    #[doc = include_str!("../guide/own-data.md")]
    mod own_data {}
    #[doc = include_str!("../guide/operator.md")]
    mod operator {}
    #[doc = include_str!("../guide/hospital.md")]
    mod hospital {}
    #[doc = include_str!("../guide/security.md")]
    mod security {}
    #[doc = include_str!("../guide/privacy.md")]
    mod privacy {}
    #[doc = include_str!("../guide/score.md")]
    mod score {}
    #[doc = include_str!("../guide/formats.md")]
    mod formats {}
    #[doc = include_str!("../guide/settings.md")]
    mod settings {}
    #[doc = include_str!("../guide/performance.md")]
    mod performance {}
    #[doc = include_str!("../guide/troubleshooting.md")]
    mod troubleshooting {}
}

#![doc = include_str!("../README.md")]

mod answers;
pub mod attack;
mod augment;
mod baselines;
mod checkpoints;
mod collapse;
mod conditions;
mod config;
mod dp_sgd;
mod error;
mod lanes;
mod pairs;
mod privacy_ledger;
mod sampled_masks;
mod server;
mod site;
mod synthesize;
mod tensors;
pub mod toy;

/// Tensors and devices in the interface of this crate are of this version.
pub use tch;

pub use asyndgan_models::Precision;
pub use baselines::{Baseline, BaselineJob, BaselineResult, SiteBytes};
pub use config::{GanConfig, learning_rate_scale};
pub use dp_sgd::DpSgd;
pub use error::Error;
pub use pairs::Pairs;
pub use privacy_ledger::{PrivacyLedger, PrivateStep};
pub use sampled_masks::{MASKS, SampledMasks};
pub use server::ServerTrainer;
pub use site::{PrivateSteps, SiteOptions, SiteTrainer};
pub use synthesize::{SynthesisRequest, synthesize};
pub use tensors::{one_hot_condition, to_payload, to_payload_as, to_tensor};

#![doc = include_str!("../README.md")]

mod answers;
mod augment;
mod checkpoints;
mod collapse;
mod conditions;
mod config;
mod error;
mod lanes;
mod pairs;
mod server;
mod site;
mod synthesize;
mod tensors;
pub mod toy;

pub use config::{GanConfig, Precision, learning_rate_scale};
pub use error::Error;
pub use pairs::Pairs;
pub use server::ServerTrainer;
pub use site::{SiteOptions, SiteTrainer};
pub use synthesize::{SynthesisRequest, synthesize};
pub use tensors::{condition_planes, payload_as, payload_of, tensor_of};

//! Trains `AsynDGAN`'s networks through the protocol.
//!
//! [`ServerTrainer`] does the computation of a protocol server, [`SiteTrainer`] that of a site; a regular GAN on all data is the
//! same with a single site. Network links and result tables are handled elsewhere. [`synthesize()`] generates images with a
//! trained generator, [`toy`] is the one-dimensional experiment of figure 5.
//!
//! ```
//! use asyndgan_training::learning_rate_scale;
//! // Constant for the first half of the rounds, then linear to zero.
//! assert_eq!([0, 50, 75, 99].map(|round| learning_rate_scale(round, 100)), [1.0, 1.0, 0.5, 0.02]);
//! ```
//!
//! **Invariant:** a site's trainer holds only that site's cases, and returns only masks, feedback and losses.
//! **Invariant:** on a CPU, the same seed gives the same generator bytes, for any order in which sites answer, and whether the run was
//! interrupted or not.

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
pub use synthesize::{Wanted, synthesize};
pub use tensors::{condition_planes, payload_as, payload_of, tensor_of};

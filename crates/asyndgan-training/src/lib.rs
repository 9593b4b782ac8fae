//! Drives `AsynDGAN`'s networks through the protocol.
//!
//! [`ServerTrainer`] does the computing that a protocol server asks for, [`SiteTrainer`] a site's; one regular GAN on all data is
//! the same with a single site. Knows nothing of links, threads or tables. [`synthesize()`] makes images from a trained generator,
//! [`toy`] is the one-dimensional experiment of figure 5.
//!
//! ```
//! use asyndgan_training::learning_rate_scale;
//! // Constant for the first half of the rounds, then down to zero in a line.
//! assert_eq!([0, 50, 75, 99].map(|round| learning_rate_scale(round, 100)), [1.0, 1.0, 0.5, 0.02]);
//! ```
//!
//! **Invariant:** a site's trainer holds that site's cases only, and hands out nothing but masks, feedback and losses.
//! **Invariant:** on a CPU the same seed gives the same generator bytes, whatever order sites answer in, stopped and continued or not.

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

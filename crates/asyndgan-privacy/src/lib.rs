#![doc = include_str!("../README.md")]

mod budget;
mod composition;
mod error;
mod mechanism;
mod membership;
mod normal;
mod plan;
mod pld;
mod rdp;

pub use budget::Budget;
pub use composition::Composition;
pub use error::Error;
pub use mechanism::SubsampledGaussian;
pub use membership::MembershipTest;
pub use plan::noise_multiplier;
pub use pld::PldAccountant;
pub use rdp::RdpAccountant;

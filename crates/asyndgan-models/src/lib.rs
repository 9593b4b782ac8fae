#![doc = include_str!("../README.md")]

mod adam;
mod checkpoint;
mod config;
mod discriminator;
mod error;
mod generator;
mod layer;
pub mod loss;
mod noise;
mod parameters;
mod segmenter;
mod segmenting;
mod threads;

pub use adam::{Adam, AdamConfig};
pub use checkpoint::{read_about, read_tensors, write_described, write_tensors};
pub use config::{DiscriminatorConfig, GeneratorConfig, Guidance, Norm, ResNetConfig, SegmenterConfig, Upsample, Variation};
pub use discriminator::Discriminator;
pub use error::Error;
pub use generator::Generator;
pub use noise::Noise;
pub use parameters::Parameters;
pub use segmenter::Segmenter;
pub use threads::set_threads;

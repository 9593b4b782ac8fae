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
mod precision;
mod segmenter;
mod threads;
mod unet_discriminator;

/// Types in the interface of this crate are of these versions.
pub use {rand, rand_chacha, tch};

pub use adam::{Adam, AdamConfig};
pub use checkpoint::{read_metadata, read_tensors, write_tensors, write_with_metadata};
pub use config::{Conditioning, DiscriminatorConfig, GeneratorConfig, NoiseInjection, Norm, ResNetConfig, SegmenterConfig, Upsample};
pub use discriminator::Discriminator;
pub use error::Error;
pub use generator::Generator;
pub use noise::Noise;
pub use parameters::Parameters;
pub use precision::Precision;
pub use segmenter::Segmenter;
pub use threads::set_threads;

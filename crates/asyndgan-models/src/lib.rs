//! `AsynDGAN`'s networks, losses, optimiser and checkpoints, on libtorch.
//!
//! Independent of sites, messages and image files. The main types are [`Generator`], [`Discriminator`] and
//! [`Segmenter`], each built from a plain configuration; [`Adam`]; and the losses in [`loss`].
//!
//! ```
//! use asyndgan_models::{Generator, GeneratorConfig, Guidance, Noise, Norm, ResNetConfig, Upsample, Variation};
//! use rand::SeedableRng;
//! use tch::{Device, Kind, Tensor};
//! let (norm, upsample, variation) = (Norm::Instance, Upsample::Transposed, Variation::Dropout);
//! let guidance = Guidance::First;
//! let config = ResNetConfig { condition_channels: 1, image_channels: 1, width: 4, blocks: 1, norm, upsample, variation, guidance };
//! let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
//! let generator = Generator::new(&GeneratorConfig::ResNet(config), Device::Cpu, &mut rng);
//! let condition = Tensor::ones([2, 1, 16, 16], (Kind::Float, Device::Cpu));
//! assert_eq!(generator.forward(&condition, &mut Noise::new(vec![(2, rng)])).size(), [2, 1, 16, 16]);
//! ```
//!
//! **Invariant:** libtorch's own random state is never used: weights, dropout and noise come from the caller's random streams.
//! **Invariant:** state-dict names are those of `torch.nn.Sequential` of the same layout.

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

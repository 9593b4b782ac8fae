//! Medical images and data sets as plain arrays: the only crate that parses image files.
//!
//! Knows nothing of networks, sites or the protocol. The most important types are [`Case`], an image with its condition
//! ready for training, and [`TestCase`], what a segmenter is scored on; [`brats`] and [`monuseg`] find them in folders,
//! [`phantom`] makes artificial patients, [`prepare`] brings both into the shapes that networks take.
//!
//! ```
//! use asyndgan_medio::{mask, phantom};
//! use rand::SeedableRng;
//! let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let brain = phantom::brain("phantom-0", 0, &phantom::Scanner::of_site(0), &mut rng);
//! assert_eq!(brain.t2.dim(), brain.labels.dim());
//! ```
//!
//! **Invariant:** labels are only ever resampled to the nearest neighbour.
//! **Invariant:** no image type can be serialised into a message: none implements `Serialize`.
//! **Invariant:** nothing is random but through the generator that the caller passes.

mod aperio;
pub mod brats;
mod case;
mod error;
pub mod mask;
pub mod monuseg;
mod nifti_file;
mod partition;
pub mod phantom;
mod picture;
pub mod prepare;
mod resample;
mod split;
mod stain;
mod transplant;

pub use aperio::read_annotations;
pub use case::{Brain, Case, TestCase, Tile, read_cases, read_test_cases, write_cases, write_test_cases};
pub use error::Error;
pub use nifti_file::{Volume, read_volume};
pub use partition::partition_by_size;
pub use picture::{read_instances, read_rgb, write_rgb};
pub use resample::{bilinear, nearest};
pub use split::{BRATS_2018, KUMAR, PublishedSplit, published_split};
pub use stain::{StainReference, reinhard};
pub use transplant::transplant;

//! The `AsynDGAN` protocol: one server that owns the generator, and sites that hold patient data and discriminators.
//!
//! Two deterministic, sans-I/O state machines: events go in through `handle_event`, actions come out of `poll_action`,
//! and time is an argument. The crate does not depend on sockets, threads, neural networks or image files; tensors are
//! opaque [`Payload`]s. The most important types are [`Server`], [`Site`] and [`Message`].
//!
//! ```
//! use asyndgan_protocol::{Role, draw_cases, stream};
//! use rand::Rng;
//! // Every random draw comes from a stream that is named after its purpose.
//! assert_eq!(stream(7, Role::Dropout, 2, 40).random::<u64>(), stream(7, Role::Dropout, 2, 40).random::<u64>());
//! // Two rounds with a batch size of 2 show each of a site's four cases once.
//! let mut seen = [draw_cases(7, 0, 0, 2, 4), draw_cases(7, 0, 1, 2, 4)].concat();
//! seen.sort();
//! assert_eq!(seen, [0, 1, 2, 3]);
//! ```
//!
//! **Invariant:** [`Message`] is the complete list of what may cross a hospital's boundary.
//! **Invariant:** the server's behaviour depends on the content of events, never on the order in which sites answer.

mod batches;
mod error;
mod history;
mod loss_mean;
mod message;
mod payload;
mod policy;
mod randomness;
mod run;
mod seat;
mod server;
mod site;
mod stream;
mod work;

pub use batches::{Augmentation, Symmetry, draw_augmentations, draw_cases, draw_real_cases};
pub use error::Error;
pub use history::{History, synthetic_digest};
pub use message::{JournalHead, JournalReceipt, Losses, Message, MessageKind, PROTOCOL_VERSION, SiteSummary, Standing};
pub use payload::{Dtype, Payload};
pub use policy::{ConditionPolicy, DiscriminatorFamily, LOSS_ROUNDS_MIN, Learning, LossPolicy, SitePolicy};
pub use randomness::{SiteRandomness, SiteSecret};
pub use run::{BATCH_BYTES_MAX, CONDITION_BYTES_MAX, Draw, RoundDraw, RunDescription, Waiting, Weighting, hex};
pub use server::{
    CHECKPOINTS_KEPT, FEEDBACK_MAGNITUDE_MAX, FEEDBACK_ROUNDS_KEPT, LostState, Patience, Server, ServerAction, ServerEvent, ServerPolicy,
};
pub use site::{Site, SiteAction, SiteEvent, SiteSetup};
pub use stream::{Role, Stream, stream};
pub use work::{Contribution, ServerWork, SiteWork};

/// A site's index in the run, from 0. Sums over sites are always computed in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct SiteId(pub u32);

impl std::fmt::Display for SiteId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // People count from 1, as the tables do.
        write!(f, "site {}", self.0 + 1)
    }
}

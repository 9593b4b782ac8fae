#![doc = include_str!("../README.md")]

mod batches;
mod error;
mod history;
mod loss_mean;
mod message;
mod payload;
mod peer;
mod policy;
mod randomness;
mod run;
mod server;
mod site;
mod stream;
mod work;

pub use batches::{Augmentation, Symmetry, draw_augmentations, draw_augmentations_of, draw_cases, draw_real_cases};
pub use error::{Error, is_hidden};
pub use history::{AnswerDigest, History};
pub use message::{JournalHead, JournalReceipt, Losses, Message, MessageKind, PROTOCOL_VERSION, ResumeState, SiteSummary};
pub use payload::{Dtype, Payload};
pub use policy::{
    ConditionPolicy, DiscriminatorFamily, LOSS_ROUNDS_MIN, LossPolicy, PrivacyBudget, RequestedPrivacy, RequestedTraining, SitePolicy,
};
pub use randomness::{SiteRandomness, SiteSecret};
pub use run::{BATCH_BYTES_MAX, CONDITION_BYTES_MAX, Draw, RoundDraw, RunDescription, Waiting, Weighting, hex};
pub use server::{
    CHECKPOINTS_KEPT, FEEDBACK_MAGNITUDE_MAX, FEEDBACK_ROUNDS_KEPT, LostState, Server, ServerAction, ServerEvent, ServerPolicy, Timeouts,
};
pub use site::{Site, SiteAction, SiteEvent, SiteSetup};
pub use stream::{Role, Stream, stream};
pub use work::{Contribution, Readiness, ServerWork, SiteWork};

/// A site's index in the run, from 0. Sums over sites are always computed in this order. Messages for people count from
/// 1: `SiteId(0)` is printed as "site 1".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct SiteId(pub u32);

impl std::fmt::Display for SiteId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // People count from 1, as the tables do.
        write!(f, "site {}", self.0 + 1)
    }
}

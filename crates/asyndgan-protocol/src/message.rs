//! The complete list of what may cross a hospital's boundary. A change here is a change of what leaves a hospital.
//!
//! No variant can carry a real image or discriminator weights. That is necessary, not sufficient: feedback is a gradient that
//! depends on real images, and tells something about them; with an L1 term it tells them outright (see
//! [`RunDescription::l1_weight`]).

use serde::{Deserialize, Serialize};

use crate::{Augmentation, Error, Payload, RunDescription};

/// Both ends must speak the same.
pub const PROTOCOL_VERSION: u32 = 1;

/// What a site tells about its data on joining: counts and shapes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSummary {
    /// Number of cases.
    pub cases: u32,
    /// Dimensions of one image, `[channels, rows, columns]`, or `[values]` for data that are no images.
    pub image_dims: Vec<u32>,
    /// Rounds for which the site holds a checkpoint of this run, ascending.
    pub checkpoints: Vec<u64>,
}

/// The discriminator's and the adversarial loss of one site in one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Mean binary cross-entropy of the discriminator over real and synthetic.
    pub discriminator: f32,
    /// The generator's adversarial loss through the updated discriminator.
    pub generator: f32,
}

/// Whatever travels between a server and a site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Site to server: wants to join.
    Join {
        /// The site's protocol version.
        protocol_version: u32,
        /// Counts and shapes.
        summary: SiteSummary,
    },
    /// Server to site: what the run is.
    Describe {
        /// The description; the site's policy decides.
        run: RunDescription,
    },
    /// Site to server: accepts, with its masks, once. `[cases, rows, columns]` of condition codes.
    Conditions {
        /// Condition codes of every case.
        codes: Payload,
    },
    /// Server to site: everybody is here.
    Start {
        /// Rounds already done; both ends go on from their checkpoint of that round.
        rounds_done: u64,
    },
    /// Server to site: the synthetic images of a round.
    Round {
        /// Which round, from 0.
        round: u64,
        /// Indices of the site's cases.
        cases: Vec<u32>,
        /// Crop and flips of each.
        augmentations: Vec<Augmentation>,
        /// Synthetic images, `[batch, channels, rows, columns]`.
        synthetic: Payload,
    },
    /// Site to server: the gradient of its generator loss with respect to the synthetic images. Nothing else.
    Feedback {
        /// Which round.
        round: u64,
        /// The gradient, of the shape of the synthetic images.
        feedback: Payload,
        /// Scalar losses.
        losses: Losses,
    },
    /// Server to site: the run is over.
    Finish,
    /// Either way: leaves, or refuses.
    Leave {
        /// Why, for people.
        reason: String,
    },
}

/// A message's kind, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the variants are those of Message")]
pub enum MessageKind {
    Join,
    Describe,
    Conditions,
    Start,
    Round,
    Feedback,
    Finish,
    Leave,
}

impl Message {
    /// The message's kind.
    pub fn kind(&self) -> MessageKind {
        match self {
            Message::Join { .. } => MessageKind::Join,
            Message::Describe { .. } => MessageKind::Describe,
            Message::Conditions { .. } => MessageKind::Conditions,
            Message::Start { .. } => MessageKind::Start,
            Message::Round { .. } => MessageKind::Round,
            Message::Feedback { .. } => MessageKind::Feedback,
            Message::Finish => MessageKind::Finish,
            Message::Leave { .. } => MessageKind::Leave,
        }
    }

    /// The message as bytes (postcard).
    ///
    /// # Panics
    /// Never: every message can be encoded.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("messages hold nothing that cannot be encoded")
    }

    /// The message that bytes hold; never allocates beyond their length.
    ///
    /// # Errors
    /// [`Error::Malformed`], or [`Error::PayloadSize`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = |fact: String| Error::Malformed { bytes: bytes.len(), expected: PROTOCOL_VERSION, fact };
        let (message, rest) = postcard::take_from_bytes::<Self>(bytes).map_err(|e| malformed(e.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed(format!("{} bytes too many", rest.len())));
        }
        match &message {
            Message::Conditions { codes: payload }
            | Message::Round { synthetic: payload, .. }
            | Message::Feedback { feedback: payload, .. } => payload.check()?,
            _ => {}
        }
        Ok(message)
    }
}

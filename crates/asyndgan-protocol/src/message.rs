//! The complete list of what may cross a hospital's boundary. A change here changes what leaves a hospital.
//!
//! No variant can carry a real image or discriminator weights. That is necessary but not sufficient: feedback is a
//! gradient that depends on real images and leaks information about them. With an L1 term it reveals them directly (see
//! [`RunDescription::l1_weight`]).

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{Augmentation, Error, Payload, RunDescription, SiteId};

/// Both ends must use the same protocol version.
pub const PROTOCOL_VERSION: u32 = 7;

/// The most dimensions of a tensor.
const DIMS_MAX: usize = 8;

/// What a site reveals about its data when it joins: counts, shapes, and a digest that identifies its masks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSummary {
    /// Number of cases.
    pub cases: u32,
    /// Dimensions of one image, `[channels, rows, columns]`, or `[values]` for data that are not images.
    pub image_dims: Vec<u32>,
    /// SHA-256 of the conditions that the site would send.
    pub conditions_sha256: [u8; 32],
}

/// A site's state in a run in which it may have taken part before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResumeState {
    /// Rounds for which the site holds a checkpoint of this run, ascending.
    pub checkpoints: Vec<u64>,
    /// Rounds completed by the networks in its memory, if the site still holds this run in memory.
    pub in_memory: Option<u64>,
}

/// The discriminator's and the adversarial loss of one site in one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Mean binary cross-entropy of the discriminator over real and synthetic.
    pub discriminator: f32,
    /// The generator's adversarial loss through the updated discriminator.
    pub generator: f32,
}

/// A message between a server and a site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Site to server: request to join, for the first time or again. The site's identity comes from the transport,
    /// never from a message.
    Join {
        /// The site's protocol version.
        protocol_version: u32,
        /// Counts and shapes.
        summary: SiteSummary,
    },
    /// Server to site: the description of the run, and whether the site must still send its conditions.
    Describe {
        /// The site's index in the run.
        site: SiteId,
        /// The description, which the site checks against its policy.
        run: RunDescription,
        /// Whether the server lacks the site's conditions.
        conditions_wanted: bool,
    },
    /// Site to server: accepts the run, and sends its masks if requested, which happens once per run.
    Accept {
        /// The checkpoints and networks that the site holds for this run.
        resume_state: ResumeState,
        /// Label maps of the conditions of all cases, `[cases, rows, columns]`.
        conditions: Option<Payload>,
    },
    /// Server to site: take part from this round on.
    Start {
        /// How often the run was rolled back. Messages of an earlier attempt are discarded.
        attempt: u32,
        /// The next round.
        round: u64,
        /// The checkpoint to restore, or 0 for initial weights; none to continue with the networks in memory.
        restore: Option<u64>,
    },
    /// Server to site: the synthetic images of a round.
    Round {
        /// The attempt that it belongs to.
        attempt: u32,
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
        /// The attempt that it belongs to.
        attempt: u32,
        /// Which round.
        round: u64,
        /// The gradient, with the same shape as the synthetic images.
        feedback: Payload,
        /// Scalar losses, if the site's policy allows them to leave.
        losses: Option<Losses>,
    },
    /// Server to site: the run is over, or the site has left it in order.
    Finish,
    /// Either direction: leaves, or refuses.
    Leave {
        /// A human-readable reason.
        reason: String,
    },
    /// Site to server: takes part in no further round. The run continues with the other sites. The server confirms with
    /// [`Message::Finish`].
    Retire {
        /// The first round without the site.
        round: u64,
        /// A human-readable reason.
        reason: String,
    },
    /// Site to server, after every checkpoint: the length of the site's journal, signed with the site's key.
    JournalHead(JournalHead),
    /// Server to site: confirms that it received a journal head, signed with the server's key.
    JournalReceipt(JournalReceipt),
}

/// The current end of a site's journal. A copy can later prove that an entry was removed or rewritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalHead {
    /// Entries in the journal.
    pub entries: u64,
    /// The last entry's chain hash, which covers all entries.
    pub link: String,
    /// Rounds that the site has done.
    pub rounds_done: u64,
    /// The site's signature over the run, its name and the fields above.
    pub signature: Vec<u8>,
}

/// A server's confirmation that it has seen a journal head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalReceipt {
    /// Entries in the journal that the server has seen.
    pub entries: u64,
    /// The server's signature over the head, the site's signature included.
    pub signature: Vec<u8>,
}

/// The kind of a message, for counters and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the variants are those of Message")]
pub enum MessageKind {
    Join,
    Describe,
    Accept,
    Start,
    Round,
    Feedback,
    Finish,
    Leave,
    Retire,
    JournalHead,
    JournalReceipt,
}

impl MessageKind {
    /// Whether a site sends it. Both ends can send [`Message::Leave`].
    pub fn leaves_a_site(self) -> bool {
        use MessageKind::{Accept, Feedback, Join, JournalHead, Leave, Retire};
        matches!(self, Join | Accept | Feedback | Leave | Retire | JournalHead)
    }
}

impl std::fmt::Display for MessageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{self:?}").to_lowercase())
    }
}

impl Message {
    /// The message's kind.
    pub fn kind(&self) -> MessageKind {
        match self {
            Message::Join { .. } => MessageKind::Join,
            Message::Describe { .. } => MessageKind::Describe,
            Message::Accept { .. } => MessageKind::Accept,
            Message::Start { .. } => MessageKind::Start,
            Message::Round { .. } => MessageKind::Round,
            Message::Feedback { .. } => MessageKind::Feedback,
            Message::Finish => MessageKind::Finish,
            Message::Leave { .. } => MessageKind::Leave,
            Message::Retire { .. } => MessageKind::Retire,
            Message::JournalHead(_) => MessageKind::JournalHead,
            Message::JournalReceipt(_) => MessageKind::JournalReceipt,
        }
    }

    /// The round that the message is about, if it is about one.
    pub fn round(&self) -> Option<u64> {
        match self {
            Message::Start { round, .. }
            | Message::Round { round, .. }
            | Message::Feedback { round, .. }
            | Message::Retire { round, .. } => Some(*round),
            _ => None,
        }
    }

    fn payload(&mut self) -> Option<&mut Payload> {
        match self {
            Message::Round { synthetic: payload, .. }
            | Message::Feedback { feedback: payload, .. }
            | Message::Accept { conditions: Some(payload), .. } => Some(payload),
            _ => None,
        }
    }

    /// The message as bytes: first everything except the tensor's elements (postcard), then the elements.
    ///
    /// # Panics
    /// Never: every message can be encoded.
    pub fn encode(&self) -> Bytes {
        self.encode_in(&mut BytesMut::new())
    }

    /// Like [`Message::encode`], but reuses the buffer of an earlier message once nothing refers to that message any
    /// more. Allocating a fresh buffer for every message is slow.
    ///
    /// # Panics
    /// Never: every message can be encoded.
    pub fn encode_in(&self, room: &mut BytesMut) -> Bytes {
        let elements = self.clone().payload().map_or_else(Bytes::new, |payload| payload.bytes.clone());
        let head = postcard::to_stdvec(self).expect("messages hold nothing that cannot be encoded");
        room.reserve(head.len() + elements.len());
        room.extend_from_slice(&head);
        room.extend_from_slice(&elements);
        room.split().freeze()
    }

    /// Decodes a message. The tensor's elements are not copied. Allocates at most eight times the length of `bytes`.
    ///
    /// # Errors
    /// [`Error::Malformed`], or [`Error::PayloadSize`].
    pub fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let malformed = |fact: String| Error::Malformed { bytes: bytes.len(), expected: PROTOCOL_VERSION, fact };
        let (mut message, rest) = postcard::take_from_bytes::<Self>(bytes).map_err(|e| malformed(e.to_string()))?;
        // Errors and logs name dimensions.
        let is_long = |dims: &[u32]| dims.len() > DIMS_MAX;
        if matches!(&message, Self::Join { summary, .. } if is_long(&summary.image_dims)) {
            return Err(malformed(format!("more than {DIMS_MAX} dimensions of an image")));
        }
        match message.payload() {
            Some(payload) => {
                if is_long(&payload.dims) {
                    return Err(malformed(format!("more than {DIMS_MAX} dimensions of a tensor")));
                }
                payload.bytes = bytes.slice_ref(rest);
                payload.check()?;
            }
            None if !rest.is_empty() => return Err(malformed(format!("{} extra bytes at the end", rest.len()))),
            None => {}
        }
        Ok(message)
    }
}

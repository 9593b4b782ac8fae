use crate::{MessageKind, SiteId};

/// What can go wrong between a server and its sites.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes that are no message of this protocol.
    #[error("a frame of {bytes} bytes is no message of protocol version {expected}: {fact}; check that both ends run the same version")]
    Malformed {
        /// The frame's length.
        bytes: usize,
        /// The version spoken here.
        expected: u32,
        /// What the decoder said.
        fact: String,
    },
    /// A tensor whose bytes do not match its dimensions.
    #[error("a payload of dimensions {dims:?} has {found} bytes, {expected} belong to it")]
    PayloadSize {
        /// The declared dimensions.
        dims: Vec<u32>,
        /// Bytes that the dimensions ask for.
        expected: u64,
        /// Bytes that came.
        found: usize,
    },
    /// A site's frame that cannot be taken for what it should be.
    #[error("{site} sent in round {round}: {fact}")]
    Frame {
        /// Who sent it.
        site: SiteId,
        /// The round that was under way.
        round: u64,
        /// What is wrong with it.
        fact: String,
    },
    /// A tensor of other dimensions or element type than the round asks for.
    #[error("{site} sent a tensor of {found} in round {round}, {expected} was expected")]
    PayloadDims {
        /// Who sent it.
        site: SiteId,
        /// In which round.
        round: u64,
        /// What was expected.
        expected: String,
        /// What came.
        found: String,
    },
    /// Feedback that is no number, or too large to be a gradient.
    #[error("{site} sent feedback in round {round} that is {fact}; a sound discriminator's stays far below: see that site's log")]
    Absurd {
        /// Who sent it.
        site: SiteId,
        /// In which round.
        round: u64,
        /// What is wrong with it.
        fact: String,
    },
    /// A round that asks for other cases or crops than the seed does.
    #[error(
        "the server asks {site} in round {round} for cases or crops that the run's seed does not draw; check that both ends run the same version"
    )]
    Draw {
        /// Which site.
        site: SiteId,
        /// In which round.
        round: u64,
    },
    /// Images of a site that the run cannot use.
    #[error(
        "{site} has images of dimensions {found:?}, the run takes {channels} channels, {size} rows and columns, and crops of {crop}; prepare them at that size and scale"
    )]
    ImageDims {
        /// Which site.
        site: SiteId,
        /// What it has.
        found: Vec<u32>,
        /// Channels, or values, that the run needs.
        channels: u32,
        /// Rows and columns that the run needs.
        crop: u32,
        /// Rows and columns of the run's images.
        size: u32,
    },
    /// A site that came back with other data than it joined with.
    #[error("{site} had {expected} when it joined and came back with {found}; give it its first data again, or begin a new run")]
    Changed {
        /// Which site.
        site: SiteId,
        /// Cases and masks at first.
        expected: String,
        /// Cases and masks now.
        found: String,
    },
    /// More cases than the operator lets one site claim.
    #[error("{site} claims {found} cases, at most {limit} are taken: the operator's cases_max")]
    TooManyCases {
        /// Which site.
        site: SiteId,
        /// What it claims.
        found: u32,
        /// The largest number.
        limit: u32,
    },
    /// A site that comes back without its checkpoint, where the operator waits for it.
    #[error("{site} has lost its checkpoint of round {round}: restore its folder, or let it go on afresh (the operator's lost_state)")]
    StateLost {
        /// Which site.
        site: SiteId,
        /// The round from which the run goes on.
        round: u64,
    },
    /// Feedback that is again and again far larger than the others' or than the site's own before.
    #[error(
        "{site} sends feedback that is {ratio:.0} times the usual, in more than {strikes} of 100 rounds up to round {round}; see that site's log"
    )]
    FeedbackRatio {
        /// Who sent it.
        site: SiteId,
        /// In which round it was dismissed.
        round: u64,
        /// The last feedback's norm beside the reference.
        ratio: f64,
        /// How often it may happen.
        strikes: u32,
    },
    /// More masks than a server takes.
    #[error("{site} has masks of {found} bytes, at most {limit} are taken; let it join with fewer cases")]
    TooMany {
        /// Which site.
        site: SiteId,
        /// Bytes of its masks.
        found: u64,
        /// The largest number.
        limit: u64,
    },
    /// A run that asks for more than any sensible one does.
    #[error(
        "the run asks for batches of {batch} ({bytes} bytes, at most {limit} are taken) and {threads} threads at a site; change the run"
    )]
    Unbounded {
        /// Pairs in a round.
        batch: u32,
        /// Bytes of their images.
        bytes: u64,
        /// The largest number.
        limit: u64,
        /// Threads of one operation.
        threads: u32,
    },
    /// A message that has no place in the present state.
    #[error("{site} sent {kind} while {state} in round {round}; restart it")]
    OutOfTurn {
        /// Who sent it, or to whom a server did.
        site: SiteId,
        /// What was sent.
        kind: MessageKind,
        /// The round that was under way.
        round: u64,
        /// What was going on.
        state: &'static str,
    },
    /// A message of the server that has no place in a site's present state.
    #[error("the server sent {kind} while {state} in round {round}; check that both ends run the same version")]
    ServerOutOfTurn {
        /// What was sent.
        kind: MessageKind,
        /// Rounds that the site has done.
        round: u64,
        /// What was going on.
        state: &'static str,
    },
    /// The two ends speak different versions.
    #[error("{site} speaks protocol version {found}, this server {expected}; install the same release on both ends")]
    Version {
        /// Which site.
        site: SiteId,
        /// The server's version.
        expected: u32,
        /// The site's.
        found: u32,
    },
    /// A site has no cases.
    #[error("{site} has no cases; a run needs at least one a site")]
    NoCases {
        /// Which site.
        site: SiteId,
    },
    /// A site left or was lost.
    #[error("{site} left in round {round}: {reason}")]
    SiteLeft {
        /// Which site.
        site: SiteId,
        /// The round that was under way.
        round: u64,
        /// What it, or the carrier, said.
        reason: String,
    },
    /// A site that is connected, yet does not answer.
    #[error("{site} has not answered for {waited_ms} ms in round {round}; see whether it still computes")]
    Silent {
        /// Which site.
        site: SiteId,
        /// The round that was under way.
        round: u64,
        /// How long the server waited.
        waited_ms: u64,
    },
    /// Sites without which the run cannot go on, and that stay away too long.
    #[error(
        "{sites:?} stayed away for {waited_ms} ms in round {round}; start them, then the server: the run goes on from its last checkpoint"
    )]
    Away {
        /// Which sites.
        sites: Vec<SiteId>,
        /// The round that was under way.
        round: u64,
        /// How long the server waited.
        waited_ms: u64,
    },
    /// A policy that makes no sense.
    #[error("the policy's {field} takes {takes}")]
    Policy {
        /// Which field.
        field: &'static str,
        /// What it takes.
        takes: &'static str,
    },
    /// The site's own policy does not allow the run.
    #[error("the site's policy refuses the run {run}: {fact}; change the policy or the run")]
    Refused {
        /// Which run.
        run: String,
        /// Which rule.
        fact: String,
    },
}

impl Error {
    /// Whether a site that is dismissed for this must be mended before it comes back; a site that was lost, or silent for too long,
    /// may come back by itself.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Error::SiteLeft { .. } | Error::Silent { .. })
    }
}

/// What somebody else wrote, fit for a terminal.
pub(crate) fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

use crate::{MessageKind, SiteId};

/// What can go wrong between a server and its sites.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes that are not a message of this protocol.
    #[error("a frame of {bytes} bytes is not a message of protocol version {expected}: {fact}; check that both ends run the same version")]
    Malformed {
        /// The frame's length.
        bytes: usize,
        /// The local protocol version.
        expected: u32,
        /// The decoder's message.
        fact: String,
    },
    /// A tensor whose bytes do not match its dimensions.
    #[error("a payload of dimensions {dims:?} has {found} bytes, but these dimensions require {expected}")]
    PayloadSize {
        /// The declared dimensions.
        dims: Vec<u32>,
        /// Bytes that the dimensions require.
        expected: u64,
        /// Bytes received.
        found: usize,
    },
    /// Invalid data in a site's frame.
    #[error("{site} sent invalid data in round {round}: {fact}")]
    Frame {
        /// Who sent it.
        site: SiteId,
        /// The round that was under way.
        round: u64,
        /// What is wrong with it.
        fact: String,
    },
    /// A tensor whose dimensions or element type differ from what the round requires.
    #[error("{site} sent a tensor of {found} in round {round}; expected {expected}")]
    PayloadDims {
        /// Who sent it.
        site: SiteId,
        /// In which round.
        round: u64,
        /// What was expected.
        expected: String,
        /// What was received.
        found: String,
    },
    /// Feedback that is not finite, or too large to be a gradient.
    #[error(
        "{site} sent invalid feedback in round {round}: {fact}; a working discriminator stays far below the limit, so check \
         that site's log"
    )]
    InvalidFeedback {
        /// Who sent it.
        site: SiteId,
        /// In which round.
        round: u64,
        /// What is wrong with it.
        fact: String,
    },
    /// Synthetic images whose values are not those of images.
    #[error(
        "the server sent {site} in round {round} synthetic images with values that are not from -1 to 1: its generator may have diverged, \
         or runs another version"
    )]
    SyntheticRange {
        /// Which site.
        site: SiteId,
        /// In which round.
        round: u64,
    },
    /// A round whose cases or crops do not follow from the run's seed.
    #[error(
        "the server asks {site} in round {round} for cases or crops that do not follow from the run's seed; check \
         that both ends run the same version"
    )]
    Draw {
        /// Which site.
        site: SiteId,
        /// In which round.
        round: u64,
    },
    /// Images of a site that the run cannot use.
    #[error(
        "{site} has images of dimensions {found:?}, but the run needs {channels} channels, {size} rows and columns, \
         and crops of {crop}; prepare the images at that size and scale"
    )]
    ImageDims {
        /// Which site.
        site: SiteId,
        /// What it has.
        found: Vec<u32>,
        /// Channels, or values, that the run needs.
        channels: u32,
        /// Rows and columns of the run's crops.
        crop: u32,
        /// Rows and columns of the run's images.
        size: u32,
    },
    /// A site that reconnected with a different data set.
    #[error(
        "{site} joined with {expected} and came back with {found}; restore its original data set, or ask the operator to amend the run"
    )]
    Changed {
        /// Which site.
        site: SiteId,
        /// Cases and masks when it first joined.
        expected: String,
        /// Cases and masks now.
        found: String,
    },
    /// More cases than the operator allows for one site.
    #[error("{site} claims {found} cases, and at most {limit} are allowed (the operator's cases_max)")]
    TooManyCases {
        /// Which site.
        site: SiteId,
        /// What it claims.
        found: u32,
        /// The largest number.
        limit: u32,
    },
    /// A site that comes back without its checkpoint, while the operator's policy is to wait until it is restored.
    #[error(
        "{site} has lost its checkpoint of round {round}; restore its folder, or let it continue with a fresh \
         discriminator (the operator's lost_state)"
    )]
    StateLost {
        /// Which site.
        site: SiteId,
        /// The round from which the run resumes.
        round: u64,
    },
    /// The server describes another run than the one that the site has joined, or another number of the site.
    #[error(
        "the site joined the run {joined} as {joined_as}, but the server now describes the run {described}, with this site as {described_as}"
    )]
    OtherRun {
        /// Identity of the run that the site has joined.
        joined: String,
        /// The number of the site in it.
        joined_as: SiteId,
        /// Identity of the run that the server describes.
        described: String,
        /// The number of the site in it.
        described_as: SiteId,
    },
    /// Feedback that is repeatedly far larger than that of the other sites, or than the site's own earlier feedback.
    #[error(
        "{site} sent feedback of {ratio:.0} times the usual norm, and exceeded the server's feedback_ratio_max in more than \
         {strikes} of 100 rounds up to round {round}; check the images of that site, then start it again, or raise the limit"
    )]
    FeedbackRatio {
        /// Who sent it.
        site: SiteId,
        /// In which round it was dismissed.
        round: u64,
        /// The norm of the last feedback divided by the reference.
        ratio: f64,
        /// How often it may happen.
        strikes: u32,
    },
    /// More masks than a server accepts.
    #[error("{site} has {found} bytes of masks, and the limit is {limit}; let it join with fewer cases")]
    ConditionsTooLarge {
        /// Which site.
        site: SiteId,
        /// Bytes of its masks.
        found: u64,
        /// The largest number.
        limit: u64,
    },
    /// A run whose batch size or thread count is out of range.
    #[error(
        "the run asks for batches of {batch} images ({bytes} bytes; from 1 image to {limit} bytes are allowed) and {threads} threads per site \
         (from 1 to 1024 are allowed); change the run"
    )]
    RunLimits {
        /// Pairs in a round.
        batch: u32,
        /// Bytes of their images.
        bytes: u64,
        /// The largest number.
        limit: u64,
        /// Threads of one operation.
        threads: u32,
    },
    /// A site's message that is not allowed in the current state.
    #[error("{site} sent an unexpected {kind} message while {state} in round {round}; restart that site")]
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
    /// A server's message that is not allowed in the site's current state.
    #[error("the server sent an unexpected {kind} message while {state} in round {round}; check that both ends run the same version")]
    ServerOutOfTurn {
        /// What was sent.
        kind: MessageKind,
        /// Rounds that the site has done.
        round: u64,
        /// What was going on.
        state: &'static str,
    },
    /// The two ends use different protocol versions.
    #[error("{site} uses protocol version {found}, and this server uses {expected}; install the same release on both ends")]
    Version {
        /// Which site.
        site: SiteId,
        /// The server's version.
        expected: u32,
        /// The site's.
        found: u32,
    },
    /// A site has no cases.
    #[error("{site} has no cases; a run needs at least one case per site")]
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
        /// The reason that the site or the transport gave.
        reason: String,
    },
    /// A site that is connected but does not answer.
    #[error("{site} has not answered for {waited_ms} ms in round {round}; check whether it is still running")]
    Silent {
        /// Which site.
        site: SiteId,
        /// The round that was under way.
        round: u64,
        /// How long the server waited.
        waited_ms: u64,
    },
    /// Sites that the run needs to continue and that stayed disconnected too long.
    #[error(
        "{} stayed disconnected for {waited_ms} ms in round {round}; start them, then the server: the run resumes \
         from its last checkpoint",
        listed(sites)
    )]
    SitesDisconnected {
        /// Which sites.
        sites: Vec<SiteId>,
        /// The round that was under way.
        round: u64,
        /// How long the server waited.
        waited_ms: u64,
    },
    /// Every site has left the run in order before anything was learnt.
    #[error("every site has left the run before its first round, because its privacy budget is spent")]
    AllRetired,
    /// An invalid value in a policy.
    #[error("the policy's {field} must be {takes}")]
    Policy {
        /// Which field.
        field: &'static str,
        /// The values that it accepts.
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
    /// Whether a site that is dismissed for this error must be fixed before it can rejoin. A site that was lost, or did
    /// not answer in time, may rejoin on its own.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Error::SiteLeft { .. } | Error::Silent { .. })
    }

    /// The sites that the error is about.
    pub fn sites(&self) -> &[SiteId] {
        match self {
            Error::Frame { site, .. }
            | Error::PayloadDims { site, .. }
            | Error::InvalidFeedback { site, .. }
            | Error::Draw { site, .. }
            | Error::SyntheticRange { site, .. }
            | Error::ImageDims { site, .. }
            | Error::Changed { site, .. }
            | Error::TooManyCases { site, .. }
            | Error::StateLost { site, .. }
            | Error::FeedbackRatio { site, .. }
            | Error::ConditionsTooLarge { site, .. }
            | Error::OutOfTurn { site, .. }
            | Error::Version { site, .. }
            | Error::NoCases { site }
            | Error::SiteLeft { site, .. }
            | Error::Silent { site, .. } => std::slice::from_ref(site),
            Error::SitesDisconnected { sites, .. } => sites,
            Error::Malformed { .. }
            | Error::PayloadSize { .. }
            | Error::RunLimits { .. }
            | Error::AllRetired
            | Error::OtherRun { .. }
            | Error::ServerOutOfTurn { .. }
            | Error::Policy { .. }
            | Error::Refused { .. } => &[],
        }
    }
}

/// A list of sites, for a message.
fn listed(sites: &[SiteId]) -> String {
    sites.iter().map(SiteId::to_string).collect::<Vec<_>>().join(", ")
}

/// Text from the other end, safe to print: without control characters, and at most 500 characters long.
pub(crate) fn readable(text: &str) -> String {
    text.chars().filter(|&c| !is_hidden(c)).take(500).collect()
}

/// Whether a character controls a terminal, is invisible, or changes the direction of other text.
pub fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

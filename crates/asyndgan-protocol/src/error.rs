use crate::{MessageKind, SiteId};

/// What can go wrong between a server and its sites.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes that are no message of this protocol.
    #[error("a frame of {bytes} bytes is no message of protocol version {expected}: {fact}; are both ends of one version")]
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
    /// A tensor of other dimensions than the round asks for.
    #[error("{site} sent a tensor of dimensions {found:?} in round {round}, {expected:?} were expected")]
    PayloadDims {
        /// Who sent it.
        site: SiteId,
        /// In which round.
        round: u64,
        /// What was expected.
        expected: Vec<u32>,
        /// What came.
        found: Vec<u32>,
    },
    /// A round that asks for cases or crops that the site does not have.
    #[error("the server asks {site} in round {round} for cases or crops that it does not have; restart the run on both ends")]
    Draw {
        /// Which site.
        site: SiteId,
        /// In which round.
        round: u64,
    },
    /// Images of a site that the run cannot use.
    #[error(
        "{site} has images of dimensions {found:?}, the run crops [channels, rows, columns] to {crop} rows and columns; prepare larger ones"
    )]
    ImageDims {
        /// Which site.
        site: SiteId,
        /// What it has.
        found: Vec<u32>,
        /// What the run needs.
        crop: u32,
    },
    /// A message that has no place in the present state.
    #[error("{site} sent {kind:?} while {state}; restart the run on both ends")]
    OutOfTurn {
        /// Who sent it.
        site: SiteId,
        /// What it sent.
        kind: MessageKind,
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
    /// A site left or was lost while it was needed.
    #[error("{site} left in round {round}: {reason}; mend it and start again, the run goes on from its last checkpoint")]
    SiteLeft {
        /// Which site.
        site: SiteId,
        /// The round that was under way.
        round: u64,
        /// What it said.
        reason: String,
    },
    /// Sites that kept silent too long.
    #[error("no word from {sites:?} for {waited_ms} ms in round {round}; see whether they still run")]
    Silent {
        /// Which sites.
        sites: Vec<SiteId>,
        /// The round that was under way.
        round: u64,
        /// How long the server waited.
        waited_ms: u64,
    },
    /// The site's own policy does not allow the run.
    #[error("the site's policy refuses the run: {fact}; change the policy or the run's description")]
    Refused {
        /// Which rule.
        fact: String,
    },
}

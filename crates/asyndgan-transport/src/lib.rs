#![doc = include_str!("../README.md")]

mod consent;
mod control;
mod error;
#[cfg(feature = "grpc")]
mod grpc;
mod journal;
mod keys;
mod ledger;
mod lines;
mod link;
mod memory;
mod receipts;
mod reorder;
mod retry;
mod server;
mod site;
mod stamp;

pub use bytes::Bytes;
/// Runtimes, clocks and TLS configurations in the interface of this crate are of these versions.
#[cfg(feature = "grpc")]
pub use {tokio, tokio_rustls::rustls};

pub use consent::{Approval, ApprovedRun, Consent, differences};
pub use control::{Control, Outcome};
pub use error::Error;
#[cfg(feature = "grpc")]
pub use grpc::{
    Absence, AbsenceReason, Absences, CHUNK_BYTES_MAX, EndedRuns, FRAME_BYTES_MAX, GrpcServer, GrpcServerLink, GrpcSite, GrpcSiteLink,
    Preflight, Proxy, RelayServer, RelayServerLink, RelaySite, RelaySiteLink, RelayToken, RevocationStatus, RunEnd,
};
pub use journal::{Journal, JournalEntry, ShownCases};
pub use keys::{Authority, CertificateFacts, Certificates, Identity, Issued, request};
pub use ledger::{Ledger, LedgerLine, Traffic};
pub use link::{Frame, Incoming, ServerLink, SiteLink};
pub use memory::{MemoryServerLink, MemorySiteLink, in_memory};
pub use receipts::{Confirmation, Receipt, Receipts};
pub use server::{ServerRecords, ServerRun, ServerRunEvent};
pub use site::{Signer, SiteRecords, SiteRun, SiteRunEvent};
pub use stamp::RunStamp;

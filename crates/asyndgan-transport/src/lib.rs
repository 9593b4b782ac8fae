#![doc = include_str!("../README.md")]

mod consent;
mod error;
mod grpc;
mod journal;
mod keys;
mod ledger;
mod link;
mod memory;
mod numbers;
mod receipts;
mod retry;
mod server;
mod site;
mod stamp;

pub use consent::{Approval, ApprovedRun, Consent, differences};
pub use error::Error;
pub use grpc::{CHUNK_BYTES_MAX, FRAME_BYTES_MAX, GrpcServer, GrpcServerLink, GrpcSite, GrpcSiteLink, Look};
pub use journal::{Journal, JournalEntry, Shown};
pub use keys::{Authority, CertificateFacts, Identity, Issued, request};
pub use ledger::{Ledger, LedgerLine, Traffic};
pub use link::{Frame, Incoming, ServerLink, SiteLink};
pub use memory::{MemoryServerLink, MemorySiteLink, in_memory};
pub use receipts::{Confirmed, Receipt, Receipts};
pub use server::{ServerNews, ServerRecords, run_server};
pub use site::{Signer, SiteNews, SiteRecords, run_site};
pub use stamp::RunStamp;

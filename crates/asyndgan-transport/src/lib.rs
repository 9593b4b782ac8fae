//! Transports protocol messages between a server and its sites, and drives the two state machines.
//!
//! This crate owns the threads and the clock. It knows nothing about neural networks or images: the computation is
//! behind [`asyndgan_protocol::ServerWork`] and [`asyndgan_protocol::SiteWork`]. The most important items are
//! [`in_memory`], which connects a server and sites within one process; [`run_server`] and [`run_site`], which work
//! over any [`ServerLink`] and [`SiteLink`]; and the [`Ledger`] of all messages.
//!
//! ```
//! use asyndgan_protocol::{Message, SiteId};
//! use asyndgan_transport::{Frame, Incoming, ServerLink, SiteLink, in_memory};
//! use std::time::Duration;
//! let (mut server, mut sites) = in_memory(2);
//! sites[1].send(Frame { number: 0, bytes: Message::Finish.encode() });
//! let Some((site, Incoming::Frame(frame))) = server.receive(Some(Duration::from_secs(1))) else { panic!() };
//! assert_eq!((site, Message::decode(&frame.bytes)), (SiteId(1), Ok(Message::Finish)));
//! ```
//!
//! **Invariant:** only encoded [`asyndgan_protocol::Message`]s are transported, even in memory.
//! **Invariant:** if a site has a [`Journal`], everything it sends is written to the journal first.

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

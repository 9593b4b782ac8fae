//! Carries protocol messages between a server and its sites, and drives the two state machines.
//!
//! Owns threads and the clock; knows nothing of networks (the learning kind) or images: computing is behind
//! [`asyndgan_protocol::ServerWork`] and [`asyndgan_protocol::SiteWork`]. The most important items are [`in_memory`], which joins
//! a server and sites of one process, [`run_server`] and [`run_site`], which work over any [`ServerLink`] and [`SiteLink`], and
//! the [`Ledger`] of what travelled.
//!
//! ```
//! use asyndgan_protocol::{Message, SiteId};
//! use asyndgan_transport::{Incoming, ServerLink, SiteLink, in_memory};
//! use std::time::Duration;
//! let (mut server, mut sites) = in_memory(2);
//! sites[1].send(Message::Finish.encode()).unwrap();
//! let Some((site, Incoming::Frame(frame))) = server.receive(Some(Duration::from_secs(1))) else { panic!() };
//! assert_eq!((site, Message::decode(&frame)), (SiteId(1), Ok(Message::Finish)));
//! ```
//!
//! **Invariant:** only encoded [`asyndgan_protocol::Message`]s travel, also in memory.

mod error;
mod ledger;
mod link;
mod memory;
mod server;
mod site;

pub use error::Error;
pub use ledger::{Ledger, Traffic};
pub use link::{Incoming, ServerLink, SiteLink};
pub use memory::{MemoryServerLink, MemorySiteLink, in_memory};
pub use server::run_server;
pub use site::run_site;

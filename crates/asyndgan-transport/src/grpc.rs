//! The network transport: gRPC over HTTP/2 with mutual TLS.

mod absence;
mod chunks;
mod clock;
mod connections;
mod ended;
mod listener;
mod outbox;
mod preflight;
mod proxy;
mod relay;
mod server;
mod service;
mod site;
mod slots;
mod tls_error_tap;
mod wire;

pub use absence::{Absence, AbsenceReason};
pub use chunks::{CHUNK_BYTES_MAX, FRAME_BYTES_MAX};
pub use ended::{EndedRuns, RunEnd};
pub use preflight::Preflight;
pub use proxy::Proxy;
pub use relay::{RelayServer, RelayServerLink, RelaySite, RelaySiteLink, RelayToken};
pub use server::{GrpcServer, GrpcServerLink, RevocationStatus};
pub use site::{GrpcSite, GrpcSiteLink};
pub use slots::Absences;

//! The network transport: gRPC over HTTP/2 with mutual TLS.

mod chunks;
mod connections;
mod listener;
mod proxy;
mod relay;
mod server;
mod site;
mod slots;
mod tls_error_tap;
mod wire;

pub use chunks::{CHUNK_BYTES_MAX, FRAME_BYTES_MAX};
pub use proxy::Proxy;
pub use relay::{RelayServer, RelayServerLink, RelaySite, RelaySiteLink, RelayToken};
pub use server::{GrpcServer, GrpcServerLink, RevocationStatus};
pub use site::{GrpcSite, GrpcSiteLink, Preflight};

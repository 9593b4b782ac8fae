//! Certificates: the consortium's authority, the identities of server and sites, and the TLS configuration.

mod authority;
mod identity;
mod request;
#[cfg(feature = "grpc")]
mod tls;

pub(crate) use authority::SERVER;
pub use authority::{Authority, Issued};
pub use identity::{CertificateFacts, Certificates, Identity};
pub(crate) use identity::{is_issued_by, verify_signature};
pub use request::request;
#[cfg(feature = "grpc")]
pub(crate) use tls::{Tls, client_config};

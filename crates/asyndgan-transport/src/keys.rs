//! Certificates: the consortium's authority, who a certificate says one is, and what TLS makes of it.

mod authority;
mod identity;
mod tls;

pub use authority::{Authority, Issued};
pub use identity::{CertificateFacts, Identity};
pub(crate) use tls::{Tls, client_config};

//! Certificates: the consortium's authority, who a certificate says one is, and what TLS makes of it.

mod authority;
mod identity;
mod request;
mod tls;

pub(crate) use authority::SERVER;
pub use authority::{Authority, Issued};
pub use identity::{CertificateFacts, Identity};
pub(crate) use identity::{is_issued_by, verify_signature};
pub use request::request;
pub(crate) use tls::{Tls, client_config};

use asyndgan_protocol::{RunDescription, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Identifies the run and the server that a record belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStamp {
    /// The name of the run.
    pub name: String,
    /// The run's identity ([`RunDescription::sha256`]), in hexadecimal; empty before the server has described the run.
    pub run: String,
    /// SHA-256 of the server's certificate, in hexadecimal; empty without a certificate, as in memory.
    pub server: String,
}

impl RunStamp {
    /// The stamp of a run with a server that presented this certificate (DER), if any.
    pub fn new(run: &RunDescription, server_certificate: Option<&[u8]>) -> Self {
        Self {
            name: run.name.chars().filter(|c| !c.is_control()).collect(),
            run: hex(&run.sha256()),
            server: server_certificate.map_or_else(String::new, fingerprint),
        }
    }
}

/// SHA-256 of a certificate, in hexadecimal.
pub(crate) fn fingerprint(certificate: &[u8]) -> String {
    hex(&Sha256::digest(certificate))
}

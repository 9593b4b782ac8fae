use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use asyndgan_protocol::hex;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateRevocationListDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    time_provider::TimeProvider,
    version::TLS13,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::Identity;
use crate::{Error, error::with_causes};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The server's TLS requirements: TLS 1.3, and a client certificate of its authority that is not revoked. The list of
/// revoked certificates is reloaded when it changes.
#[derive(Debug)]
pub(crate) struct Tls {
    identity: Identity,
    revoked: PathBuf,
    /// The content of the list.
    list: Vec<u8>,
    config: Arc<ServerConfig>,
    serials: Vec<String>,
    /// Why the list cannot be read now.
    unreadable: Option<String>,
}

impl Tls {
    pub(crate) fn new(identity: Identity, revoked: &Path) -> Result<Self, Error> {
        let list = fs::read(revoked).map_err(|source| Error::Record { path: revoked.into(), source })?;
        let (config, serials) = server_config(&identity, revoked, &list)?;
        Ok(Self { identity, revoked: revoked.into(), list, config, serials, unreadable: None })
    }

    /// The file with the list of revoked certificates.
    pub(crate) fn list_path(&self) -> &Path {
        &self.revoked
    }

    /// Takes the list of revoked certificates as it was read now. If it cannot be read, the previous list stays in
    /// force, and no site may join until it can be read again.
    ///
    /// # Errors
    /// The reason why it cannot be read, if it is another one than the last time.
    pub(crate) fn update(&mut self, read: io::Result<Vec<u8>>) -> Result<(), Error> {
        let updated = match read {
            Ok(list) if list == self.list => Ok(()),
            Ok(list) => {
                server_config(&self.identity, &self.revoked, &list).map(|new| ((self.config, self.serials), self.list) = (new, list))
            }
            Err(source) => Err(Error::Record { path: self.revoked.clone(), source }),
        };
        let before = self.unreadable.take();
        self.unreadable = updated.as_ref().err().map(|error| with_causes(error));
        if self.unreadable == before { Ok(()) } else { updated }
    }

    /// Why the list of revoked certificates cannot be read, if so.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }

    /// The configuration with the list that was loaded last.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    pub(crate) fn is_revoked(&self, serial: &str) -> bool {
        self.serials.iter().any(|s| s == serial)
    }
}

fn server_config(identity: &Identity, revoked: &Path, text: &[u8]) -> Result<(Arc<ServerConfig>, Vec<String>), Error> {
    let broken = |fact: String| Error::Bundle { path: revoked.into(), fact };
    let list = CertificateRevocationListDer::from_pem_slice(text).map_err(|e| broken(e.to_string()))?;
    let (_, parsed) = CertificateRevocationList::from_der(&list).map_err(|e| broken(e.to_string()))?;
    let serials = parsed.iter_revoked_certificates().map(|c| hex(c.raw_serial())).collect();
    let tls = |e: &dyn std::fmt::Display| Error::Keys { fact: e.to_string() };
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(identity)?), provider())
        .with_crls([list.clone()])
        .build()
        .map_err(|e| tls(&e))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| tls(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificates.certificate.clone()], identity.key.clone_key())
        .map_err(|e| tls(&e))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // TLS sessions are not resumed, so that the certificate is checked at every connection.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((Arc::new(config), serials))
}

/// TLS 1.3 for a web page.
pub(super) fn https_config(identity: &Identity) -> Result<Arc<ServerConfig>, Error> {
    let tls = |e: &dyn std::fmt::Display| Error::Keys { fact: e.to_string() };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| tls(&e))?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificates.certificate.clone()], identity.key.clone_key())
        .map_err(|e| tls(&e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A site's TLS requirements: TLS 1.3, and a server certificate of the authority for the host name.
pub(crate) fn client_config(identity: &Identity, clock: Arc<dyn TimeProvider>) -> Result<Arc<ClientConfig>, Error> {
    let tls = |e: &dyn std::fmt::Display| Error::Keys { fact: e.to_string() };
    let mut config = ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| tls(&e))?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(vec![identity.certificates.certificate.clone()], identity.key.clone_key())
        .map_err(|e| tls(&e))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn roots(identity: &Identity) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots
        .add(identity.certificates.authority.clone())
        .map_err(|e| Error::Keys { fact: format!("the authority's certificate is not valid: {e}") })?;
    Ok(roots)
}

use std::{fs, path::Path};

use asyndgan_protocol::hex;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::Error;

/// Who a program is: a private key, its certificate, and the authority's. All three lie in one PEM file, a site's start-up bundle.
#[derive(Debug)]
pub struct Identity {
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) authority: CertificateDer<'static>,
    facts: CertificateFacts,
}

/// What stands in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The common name: a site's name.
    pub name: String,
    /// The serial number, in hexadecimal.
    pub serial: String,
    /// Valid from: seconds since 1970.
    pub not_before: i64,
    /// Valid until: seconds since 1970.
    pub not_after: i64,
}

impl CertificateFacts {
    /// What a DER certificate says.
    pub(crate) fn of(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|e| format!("no certificate: {e}"))?;
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Ok(Self {
            name: name.ok_or("a certificate without a name")?.into(),
            serial: hex(certificate.raw_serial()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

impl Identity {
    /// Reads a bundle: private key, certificate, authority, in PEM, in one file.
    ///
    /// # Errors
    /// [`Error::Record`], or [`Error::Bundle`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read(path).map_err(|cause| Error::Record { path: path.into(), cause })?;
        let broken = |fact: String| Error::Bundle { path: path.into(), fact };
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|e| broken(format!("no private key: {e}")))?;
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|e| broken(e.to_string()))?;
        let found = certificates.len();
        let [certificate, authority] = <[_; 2]>::try_from(certificates)
            .map_err(|_| broken(format!("{found} certificates; its own and the authority's are needed")))?;
        let facts = CertificateFacts::of(&certificate).map_err(broken)?;
        Ok(Self { key, certificate, authority, facts })
    }

    /// What its own certificate says.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }
}

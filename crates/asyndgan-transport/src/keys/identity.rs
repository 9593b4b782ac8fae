use std::{fs, net::IpAddr, path::Path};

use asyndgan_files::is_private;
use asyndgan_protocol::hex;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, UnparsedPublicKey},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::{Error, stamp::fingerprint};

/// Host names and addresses in a certificate.
fn hosts(certificate: &X509Certificate) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten().map(|extension| &extension.value.general_names);
    let host = |name: &GeneralName| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|v6| format!("[{}]", IpAddr::from(v6))),
        },
        _ => None,
    };
    names.into_iter().flatten().filter_map(host).collect()
}

/// Whether a signature of [`Identity::sign`] over a text was made with the key of a certificate (DER).
pub(crate) fn verify_signature(certificate: &[u8], text: &[u8], signature: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let key = &certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(text, signature).is_ok()
}

/// Whether an authority's key signed a certificate (both DER).
pub(crate) fn is_issued_by(certificate: &[u8], authority: &[u8]) -> bool {
    let (Ok((_, certificate)), Ok((_, authority))) = (X509Certificate::from_der(certificate), X509Certificate::from_der(authority)) else {
        return false;
    };
    certificate.verify_signature(Some(authority.public_key())).is_ok()
}

/// The certificates of a bundle: that of a server or a site, and the authority's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) authority: CertificateDer<'static>,
    facts: CertificateFacts,
}

impl Certificates {
    /// Reads a bundle. It need not have the private key.
    ///
    /// # Errors
    /// [`Error::Record`], [`Error::Bundle`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let broken = |fact: String| Error::Bundle { path: path.into(), fact };
        let text = fs::read(path).map_err(|source| Error::Record { path: path.into(), source })?;
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|e| broken(e.to_string()))?;
        let found = certificates.len();
        let [certificate, authority] = <[_; 2]>::try_from(certificates)
            .map_err(|_| broken(format!("found {found} certificates, expected 2: its own and the authority's")))?;
        let facts = CertificateFacts::from_der(&certificate).map_err(broken)?;
        Ok(Self { certificate, authority, facts })
    }

    /// The contents of the certificate.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }
}

/// The identity of a server or a site: a private key, its certificate and the authority's certificate. A bundle is one
/// PEM file with all three.
#[derive(Debug)]
pub struct Identity {
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) certificates: Certificates,
}

/// The contents of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The common name: a site's name.
    pub name: String,
    /// Host names and IP addresses that it is valid for.
    pub hosts: Vec<String>,
    /// The serial number, in hexadecimal.
    pub serial: String,
    /// Start of the validity: seconds since the Unix epoch.
    pub not_before: i64,
    /// End of the validity: seconds since the Unix epoch.
    pub not_after: i64,
}

impl CertificateFacts {
    /// Parses a DER certificate.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|e| format!("not a valid certificate: {e}"))?;
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Ok(Self {
            name: name.ok_or("the certificate has no common name")?.into(),
            hosts: hosts(&certificate),
            serial: hex(certificate.raw_serial()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

impl Identity {
    /// Reads a bundle: a PEM file with the private key, the certificate and the authority's certificate.
    ///
    /// # Errors
    /// [`Error::Record`], [`Error::Bundle`], or [`Error::NotPrivate`] for a file that other users can read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::read_parts(path, path)
    }

    /// Reads the certificate and the authority's certificate from one file, and the private key from another.
    ///
    /// # Errors
    /// As [`Identity::read`], and [`Error::Keys`] if the key does not match the certificate.
    pub fn read_with_key(certificates: &Path, key: &Path) -> Result<Self, Error> {
        let identity = Self::read_parts(certificates, key)?;
        let text = b"asyndgan: does this key belong to this certificate";
        if !verify_signature(identity.certificate(), text, &identity.sign(text)?) {
            let fact = format!("{} is not the key of {}: use the key of this certificate", key.display(), certificates.display());
            return Err(Error::Keys { fact });
        }
        Ok(identity)
    }

    fn read_parts(path: &Path, key: &Path) -> Result<Self, Error> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Record { path, source }
        };
        let key_text = fs::read(key).map_err(io(key))?;
        let no_key = |e: pem::Error| match e {
            pem::Error::NoItemsFound => Error::NoPrivateKey { path: key.into() },
            e => Error::Bundle { path: key.into(), fact: format!("cannot read a private key: {e}") },
        };
        let private = PrivateKeyDer::from_pem_slice(&key_text).map_err(no_key)?;
        // After the key was found: a bundle without one may be readable for all.
        if !is_private(key).map_err(io(key))? {
            return Err(Error::NotPrivate { path: key.into() });
        }
        Ok(Self { key: private, certificates: Certificates::read(path)? })
    }

    /// Signs a text with the private key: ECDSA on P-256 with SHA-256, as ASN.1.
    ///
    /// # Errors
    /// [`Error::Keys`] for a key of another kind.
    pub(crate) fn sign(&self, text: &[u8]) -> Result<Vec<u8>, Error> {
        let random = SystemRandom::new();
        let failed = |e: &dyn std::fmt::Display| Error::Keys { fact: format!("cannot sign with the private key: {e}") };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, self.key.secret_der(), &random).map_err(|e| failed(&e))?;
        Ok(key.sign(&random, text).map_err(|e| failed(&e))?.as_ref().to_vec())
    }

    /// Host names and IP addresses that its certificate is valid for.
    pub fn hosts(&self) -> &[String] {
        &self.certificates.facts.hosts
    }

    /// The TLS configuration of an HTTPS server with this certificate. Clients need no certificate.
    ///
    /// # Errors
    /// [`Error::Keys`].
    #[cfg(feature = "grpc")]
    pub fn https(&self) -> Result<std::sync::Arc<tokio_rustls::rustls::ServerConfig>, Error> {
        super::tls::https_config(self)
    }

    /// Its own certificate (DER).
    pub fn certificate(&self) -> &[u8] {
        &self.certificates.certificate
    }

    /// SHA-256 of the authority's certificate, in hexadecimal: the consortium that it belongs to.
    pub fn authority_sha256(&self) -> String {
        fingerprint(&self.certificates.authority)
    }

    /// The contents of its own certificate.
    pub fn facts(&self) -> &CertificateFacts {
        &self.certificates.facts
    }
}

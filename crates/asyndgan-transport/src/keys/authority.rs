use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use asyndgan_files::{Access, Lock, create_private_folder};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument, der::pem::PemLabel as _};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, RevokedCertParams,
    SanType, SerialNumber,
};
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::Error;

/// Certificates are valid from a time in the past, so that a clock that is a day slow does no harm.
const BACKDATED: Duration = Duration::days(2);
const AUTHORITY_DAYS: i64 = 3650;
/// The common name of a server's certificate, reserved for it.
pub(crate) const SERVER: &str = "server";

fn read_index(folder: &Path) -> Result<Vec<Issued>, Error> {
    let path = folder.join("issued.json");
    let text = fs::read_to_string(&path).map_err(|source| Error::Record { path: path.clone(), source })?;
    serde_json::from_str(&text).map_err(|e| Error::Keys { fact: format!("{}: {e}", path.display()) })
}

/// Checks that sites can dial these names: host names or addresses, without a scheme or a port.
fn check_hosts(names: &[String]) -> Result<(), Error> {
    let is_host = |name: &&String| ServerName::try_from(name.as_str()).is_ok();
    match names.iter().find(|name| !is_host(name)) {
        Some(name) => {
            let fact = format!("{name:?} is not a host name or an IP address: leave out a scheme such as https:// and the port");
            Err(Error::Keys { fact })
        }
        None => Ok(()),
    }
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The name of the server or site.
    pub name: String,
    /// The serial number, from 1.
    pub serial: u64,
    /// End of the validity: seconds since the Unix epoch.
    pub not_after: i64,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// The consortium's certificate authority: a folder with its key, the server's bundle, the sites' bundles and the list
/// of revoked certificates.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issued: Vec<Issued>,
    /// The passphrase of the authority's key, if it is encrypted.
    passphrase: Option<String>,
    /// Only one process may use the folder at a time.
    _lock: Lock,
}

impl Authority {
    /// Creates an authority, and a server certificate for these host names or IP addresses. The authority's key is not
    /// encrypted: keep the folder off the server, which needs only `server.pem` and `revoked.pem`.
    ///
    /// # Errors
    /// [`Error::Keys`] if the folder already contains an authority, or [`Error::Record`].
    pub fn init(folder: &Path, server_names: &[String], days: u32) -> Result<Self, Error> {
        Self::make(folder, server_names, days, None)
    }

    /// As [`Authority::init`], but encrypts the key with a passphrase (PKCS #8, scrypt and AES-256).
    ///
    /// # Errors
    /// As [`Authority::init`].
    pub fn init_encrypted(folder: &Path, server_names: &[String], days: u32, passphrase: String) -> Result<Self, Error> {
        Self::make(folder, server_names, days, Some(passphrase))
    }

    fn make(folder: &Path, server_names: &[String], days: u32, passphrase: Option<String>) -> Result<Self, Error> {
        check_hosts(server_names)?;
        if folder.join("ca.pem").exists() {
            return Err(Error::Keys {
                fact: format!("{} already contains an authority: a new one would invalidate its certificates", folder.display()),
            });
        }
        create_private_folder(folder)
            .and_then(|()| create_private_folder(&folder.join("sites")))
            .map_err(|source| Error::Record { path: folder.into(), source })?;
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = named("AsynDGAN consortium authority", 0, AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(failed)?;
        let text = match &passphrase {
            None => key.serialize_pem(),
            Some(passphrase) => encrypted(&key, passphrase)?,
        };
        write(&folder.join(AUTHORITY_KEY), &text)?;
        write(&folder.join("ca.pem"), &certificate.pem())?;
        let mut authority = Self { folder: folder.into(), issued: Vec::new(), passphrase, _lock: lock(folder)? };
        authority.renew_server(server_names, days)?;
        authority.write_revoked()?;
        Ok(authority)
    }

    /// Opens an authority's folder.
    ///
    /// # Errors
    /// [`Error::Record`], or [`Error::Keys`].
    pub fn open(folder: &Path) -> Result<Self, Error> {
        // Before the lock, which would otherwise be created in a wrong folder.
        if !folder.join("ca.pem").is_file() {
            let fact = format!("there is no authority in {}: create it with asyndgan keys init", folder.display());
            return Err(Error::Keys { fact });
        }
        let lock = lock(folder)?;
        Ok(Self { folder: folder.into(), issued: read_index(folder)?, passphrase: None, _lock: lock })
    }

    /// The names of the sites in an authority's folder that have a certificate which is not revoked. The folder may be
    /// in use.
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub fn valid_sites(folder: &Path) -> Result<Vec<String>, Error> {
        let valid = read_index(folder)?.into_iter().filter(|issued| !issued.revoked && issued.name != SERVER);
        Ok(valid.map(|issued| issued.name).collect())
    }

    /// Whether the authority's key in a folder is encrypted.
    ///
    /// # Errors
    /// [`Error::Record`].
    pub fn is_encrypted(folder: &Path) -> Result<bool, Error> {
        let path = folder.join(AUTHORITY_KEY);
        let text = fs::read_to_string(&path).map_err(|source| Error::Record { path, source })?;
        Ok(text.contains(ENCRYPTED))
    }

    /// The authority with the passphrase of its key.
    #[must_use]
    pub fn with_passphrase(self, passphrase: String) -> Self {
        Self { passphrase: Some(passphrase), ..self }
    }

    /// Renews the server's certificate before it expires.
    ///
    /// # Errors
    /// [`Error::Keys`] for an invalid host name, or [`Error::Record`].
    pub fn renew_server(&mut self, server_names: &[String], days: u32) -> Result<(), Error> {
        check_hosts(server_names)?;
        self.bundle(SERVER, server_names, days, &self.folder.join("server.pem"))
    }

    /// Issues a site's bundle: one file that includes the site's private key. Deliver it over a secure channel. An
    /// earlier certificate of the same name is revoked.
    ///
    /// # Errors
    /// [`Error::Keys`] for an invalid name, or [`Error::Record`].
    pub fn issue(&mut self, site: &str, days: u32) -> Result<PathBuf, Error> {
        let path = self.prepare_for(site)?;
        self.bundle(site, &[site.to_owned()], days, &path)?;
        Ok(path)
    }

    /// Signs a site's request ([`request`](super::request())); the private key stays at the site. Returns the file to
    /// send back, which contains no secret. An earlier certificate of the same name is revoked.
    ///
    /// # Errors
    /// [`Error::Keys`] for an invalid request or the request of another site, or [`Error::Record`].
    pub fn sign(&mut self, site: &str, request: &Path, days: u32) -> Result<PathBuf, Error> {
        let text = fs::read_to_string(request).map_err(|source| Error::Record { path: request.into(), source })?;
        let broken = |e: &dyn std::fmt::Display| Error::Keys { fact: format!("cannot sign the request {}: {e}", request.display()) };
        let request = CertificateSigningRequestParams::from_pem(&text).map_err(|e| broken(&e))?;
        let name = match request.params.distinguished_name.get(&DnType::CommonName) {
            Some(DnValue::Utf8String(name)) => name.clone(),
            Some(DnValue::PrintableString(name)) => name.as_str().to_owned(),
            _ => return Err(broken(&"it does not name a site")),
        };
        // Else one hospital could take the name of another.
        if name != site {
            return Err(broken(&format!("it is for {name:?}, expected {site}")));
        }
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(broken(&"its key does not use the curve P-256; create it with `asyndgan keys request`"));
        }
        let path = self.prepare_for(site)?;
        // Nothing but the key is taken from the request.
        let certificate = self.certify(site, &[site.to_owned()], days, &request.public_key)?;
        write(&path, &certificate)?;
        Ok(path)
    }

    /// Checks a site's name, revokes an earlier certificate, and returns where the new one goes.
    fn prepare_for(&mut self, site: &str) -> Result<PathBuf, Error> {
        let fits = !site.is_empty() && site.len() <= 63 && site.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !fits || site == SERVER {
            let fact = format!("{site:?} is not a valid site name: use up to 63 letters, digits and hyphens, but not \"server\"");
            return Err(Error::Keys { fact });
        }
        if self.valid(site).is_some() {
            self.revoke(site)?;
        }
        Ok(self.folder.join("sites").join(format!("{site}.pem")))
    }

    /// Revokes a site's certificate. A running server applies this within seconds.
    ///
    /// # Errors
    /// [`Error::Keys`] if the site has no valid certificate, or [`Error::Record`].
    pub fn revoke(&mut self, site: &str) -> Result<(), Error> {
        if site == SERVER {
            return Err(Error::Keys {
                fact: "sites do not check whether the server is revoked; create a new authority, and issue new bundles".into(),
            });
        }
        let Some(at) = self.valid(site) else {
            return Err(Error::Keys { fact: format!("{site} has no valid certificate; `asyndgan keys show` lists what was issued") });
        };
        self.issued[at].revoked = true;
        // The list first: it is what servers read, and asking again repairs the index.
        self.write_revoked()?;
        self.write_index()
    }

    /// All issued certificates, in order.
    pub fn issued(&self) -> &[Issued] {
        &self.issued
    }

    fn valid(&self, name: &str) -> Option<usize> {
        self.issued.iter().rposition(|i| i.name == name && !i.revoked)
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, Error> {
        let read = |name: &str| {
            let path = self.folder.join(name);
            fs::read_to_string(&path).map_err(|source| Error::Record { path, source })
        };
        let text = read(AUTHORITY_KEY)?;
        let key = match &self.passphrase {
            _ if !text.contains(ENCRYPTED) => KeyPair::from_pem(&text).map_err(failed)?,
            Some(passphrase) => decrypted(&text, passphrase)?,
            None => return Err(Error::Keys { fact: "the authority's key is encrypted; its passphrase is required".into() }),
        };
        Issuer::from_ca_cert_pem(&read("ca.pem")?, key).map_err(failed)
    }

    /// A certificate with its private key, in one file.
    fn bundle(&mut self, name: &str, hosts: &[String], days: u32, path: &Path) -> Result<(), Error> {
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = self.certify(name, hosts, days, &key)?;
        write(path, &format!("{}{certificate}", key.serialize_pem()))
    }

    /// A certificate for a public key, with the authority's, in PEM.
    fn certify(&mut self, name: &str, hosts: &[String], days: u32, key: &impl PublicKeyData) -> Result<String, Error> {
        let serial = self.issued.len() as u64 + 1;
        let mut params = named(name, serial, days.into());
        params.subject_alt_names = hosts.iter().map(|host| alternative(host)).collect::<Result<_, _>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages =
            vec![if name == SERVER { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth }];
        let not_after = params.not_after.unix_timestamp();
        let issuer = self.issuer()?;
        let certificate = params.signed_by(key, &issuer).map_err(failed)?;
        let path_of_authority = self.folder.join("ca.pem");
        let authority = fs::read_to_string(&path_of_authority).map_err(|source| Error::Record { path: path_of_authority, source })?;
        // The index first: a certificate that nobody knows of could not be revoked.
        self.issued.push(Issued { name: name.into(), serial, not_after, revoked: false });
        self.write_index()?;
        Ok(format!("{}{authority}", certificate.pem()))
    }

    fn write_index(&self) -> Result<(), Error> {
        write(&self.folder.join("issued.json"), &(serde_json::to_string_pretty(&self.issued).unwrap_or_default() + "\n"))
    }

    fn write_revoked(&self) -> Result<(), Error> {
        let now = OffsetDateTime::now_utc();
        let revoked = self.issued.iter().filter(|i| i.revoked).map(|i| RevokedCertParams {
            serial_number: serial_number(i.serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: now - BACKDATED,
            next_update: now + Duration::days(AUTHORITY_DAYS),
            crl_number: SerialNumber::from(now.unix_timestamp() as u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer()?).map_err(failed)?;
        write(&self.folder.join("revoked.pem"), &list.pem().map_err(failed)?)
    }
}

const AUTHORITY_KEY: &str = "ca-key.pem";
const ENCRYPTED: &str = "BEGIN ENCRYPTED PRIVATE KEY";

/// A key as encrypted PEM.
fn encrypted(key: &KeyPair, passphrase: &str) -> Result<String, Error> {
    let failed = |e: &dyn std::fmt::Display| Error::Keys { fact: format!("the authority's key cannot be encrypted: {e}") };
    let plain = key.serialize_der();
    let info = PrivateKeyInfoRef::try_from(plain.as_slice()).map_err(|e| failed(&e))?;
    let document = info.encrypt(passphrase).map_err(|e| failed(&e))?;
    Ok(document.to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF).map_err(|e| failed(&e))?.to_string())
}

fn decrypted(text: &str, passphrase: &str) -> Result<KeyPair, Error> {
    let damaged = |e: &dyn std::fmt::Display| Error::Keys { fact: format!("the authority's key is damaged: {e}") };
    let (_, document) = SecretDocument::from_pem(text).map_err(|e| damaged(&e))?;
    let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|e| damaged(&e))?;
    let plain = info.decrypt(passphrase).map_err(|_| Error::Keys { fact: "that is not the passphrase of the authority's key".into() })?;
    KeyPair::try_from(plain.as_bytes()).map_err(failed)
}

fn lock(folder: &Path) -> Result<Lock, Error> {
    let path = folder.join("keys.lock");
    Lock::wait_exclusive(&path).map_err(|source| Error::Record { path, source })
}

pub(super) fn failed(error: rcgen::Error) -> Error {
    Error::Keys { fact: error.to_string() }
}

fn serial_number(serial: u64) -> SerialNumber {
    // Without leading zeros, as certificates are read back.
    let bytes = serial.to_be_bytes();
    let first = bytes.iter().position(|&b| b > 0).unwrap_or(7);
    SerialNumber::from_slice(&bytes[first..])
}

fn named(name: &str, serial: u64, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = (serial > 0).then(|| serial_number(serial));
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATED;
    params.not_after = now + Duration::days(days);
    params
}

fn alternative(host: &str) -> Result<SanType, Error> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let name = host.try_into().map_err(|_| Error::Keys { fact: format!("{host:?} is not a valid host name") })?;
    Ok(SanType::DnsName(name))
}

/// Atomically writes a file that only its owner can read.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
    asyndgan_files::write(path, Access::Private, text.as_bytes()).map_err(|source| Error::Record { path: path.into(), source })
}

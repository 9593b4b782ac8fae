use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::Error;

/// Certificates begin in the past, so that a clock that is a day slow does no harm.
const BACKDATED: Duration = Duration::days(2);
const AUTHORITY_DAYS: i64 = 3650;
const SERVER: &str = "server";

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// For whom.
    pub name: String,
    /// Counts from 1.
    pub serial: u64,
    /// Valid until: seconds since 1970.
    pub not_after: i64,
    /// Whether it counts no longer.
    pub revoked: bool,
}

/// The consortium's small certificate authority: a folder with its key, the server's bundle, the sites' bundles and the list of
/// what was revoked.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issued: Vec<Issued>,
    /// One program at a time.
    _lock: fs::File,
}

impl Authority {
    /// Makes a new authority with a server's certificate for these host names or addresses.
    ///
    /// # Errors
    /// [`Error::Keys`] when there is one already, or [`Error::Record`].
    pub fn init(folder: &Path, server_names: &[String], days: u32) -> Result<Self, Error> {
        if folder.join("ca.pem").exists() {
            return Err(Error::Keys {
                fact: format!("{} holds an authority already: what it issued would be worth nothing", folder.display()),
            });
        }
        fs::create_dir_all(folder.join("sites")).map_err(|cause| Error::Record { path: folder.into(), cause })?;
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = named("AsynDGAN consortium authority", 0, AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(failed)?;
        write(&folder.join("ca-key.pem"), &key.serialize_pem())?;
        write(&folder.join("ca.pem"), &certificate.pem())?;
        let mut authority = Self { folder: folder.into(), issued: Vec::new(), _lock: lock(folder)? };
        authority.renew_server(server_names, days)?;
        authority.write_revoked()?;
        Ok(authority)
    }

    /// Opens an authority's folder.
    ///
    /// # Errors
    /// [`Error::Record`], or [`Error::Keys`].
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let lock = lock(folder)?;
        let path = folder.join("issued.json");
        let text = fs::read_to_string(&path).map_err(|cause| Error::Record { path: path.clone(), cause })?;
        let issued = serde_json::from_str(&text).map_err(|e| Error::Keys { fact: format!("{}: {e}", path.display()) })?;
        Ok(Self { folder: folder.into(), issued, _lock: lock })
    }

    /// Issues the server's certificate anew, before its days are over.
    ///
    /// # Errors
    /// [`Error::Keys`] for names that are none, or [`Error::Record`].
    pub fn renew_server(&mut self, server_names: &[String], days: u32) -> Result<(), Error> {
        self.certify(SERVER, server_names, days, &self.folder.join("server.pem"))
    }

    /// Issues a site's bundle: one file for the site, to be handed over on a safe way. An earlier certificate of that name is
    /// revoked.
    ///
    /// # Errors
    /// [`Error::Keys`] for a name that is none, or [`Error::Record`].
    pub fn issue(&mut self, site: &str, days: u32) -> Result<PathBuf, Error> {
        let fits = !site.is_empty() && site.len() <= 63 && site.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !fits || site == SERVER {
            return Err(Error::Keys { fact: format!("{site:?} is no site's name: take letters, digits and hyphens, and not server") });
        }
        if self.valid(site).is_some() {
            self.revoke(site)?;
        }
        let path = self.folder.join("sites").join(format!("{site}.pem"));
        self.certify(site, &[site.to_owned()], days, &path)?;
        Ok(path)
    }

    /// Revokes a site's certificate: a running server notices within seconds.
    ///
    /// # Errors
    /// [`Error::Keys`] when there is none that counts, or [`Error::Record`].
    pub fn revoke(&mut self, site: &str) -> Result<(), Error> {
        if site == SERVER {
            return Err(Error::Keys {
                fact: "sites look at no list of revoked servers; make a new authority, and issue new bundles".into(),
            });
        }
        let Some(at) = self.valid(site) else {
            return Err(Error::Keys { fact: format!("no certificate of {site} that counts; see what was issued") });
        };
        self.issued[at].revoked = true;
        // The list first: it is what counts, and asking again mends the index.
        self.write_revoked()?;
        self.write_index()
    }

    /// All that was issued, in order.
    pub fn issued(&self) -> &[Issued] {
        &self.issued
    }

    fn valid(&self, name: &str) -> Option<usize> {
        self.issued.iter().rposition(|i| i.name == name && !i.revoked)
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, Error> {
        let read = |name: &str| {
            let path = self.folder.join(name);
            fs::read_to_string(&path).map_err(|cause| Error::Record { path, cause })
        };
        let key = KeyPair::from_pem(&read("ca-key.pem")?).map_err(failed)?;
        Issuer::from_ca_cert_pem(&read("ca.pem")?, key).map_err(failed)
    }

    fn certify(&mut self, name: &str, hosts: &[String], days: u32, path: &Path) -> Result<(), Error> {
        let serial = self.issued.len() as u64 + 1;
        let mut params = named(name, serial, days.into());
        params.subject_alt_names = hosts.iter().map(|host| alternative(host)).collect::<Result<_, _>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages =
            vec![if name == SERVER { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth }];
        let not_after = params.not_after.unix_timestamp();
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = self.issuer()?;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        let path_of_authority = self.folder.join("ca.pem");
        let authority = fs::read_to_string(&path_of_authority).map_err(|cause| Error::Record { path: path_of_authority, cause })?;
        // The index first: a certificate that nobody knows of could not be revoked.
        self.issued.push(Issued { name: name.into(), serial, not_after, revoked: false });
        self.write_index()?;
        write(path, &format!("{}{}{authority}", key.serialize_pem(), certificate.pem()))
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

fn lock(folder: &Path) -> Result<fs::File, Error> {
    let path = folder.join("keys.lock");
    let lock = || {
        let file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        file.lock()?;
        Ok(file)
    };
    lock().map_err(|cause| Error::Record { path: path.clone(), cause })
}

fn failed(error: rcgen::Error) -> Error {
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
    let name = host.try_into().map_err(|_| Error::Keys { fact: format!("{host:?} is no host's name") })?;
    Ok(SanType::DnsName(name))
}

/// Writes a file that only its owner may read, whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let beside = path.with_extension("partial");
    let save = || {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    save().map_err(|cause| Error::Record { path: path.into(), cause })
}

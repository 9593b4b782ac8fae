use std::path::Path;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::authority::{failed, write};
use crate::Error;

/// Creates a site's private key, which never leaves the site, and a certificate signing request, which the operator
/// signs ([`Authority::sign`](super::Authority::sign)).
///
/// # Errors
/// [`Error::Keys`] if the key file already exists, or [`Error::Record`].
pub fn request(site: &str, key: &Path, request: &Path) -> Result<(), Error> {
    if key.exists() {
        return Err(Error::Keys {
            fact: format!("{} already exists, and a certificate for this key may be in use: choose another file", key.display()),
        });
    }
    let pair = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, site);
    let signed = params.serialize_request(&pair).map_err(failed)?;
    write(key, &pair.serialize_pem())?;
    write(request, &signed.pem().map_err(failed)?)
}

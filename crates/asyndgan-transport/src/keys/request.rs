use std::path::Path;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::authority::{failed, write};
use crate::Error;

/// Makes a site's private key, which never leaves the site, and a request for its certificate, which the operator signs
/// ([`Authority::sign`](super::Authority::sign)).
///
/// # Errors
/// [`Error::Keys`] when the key is there already, or [`Error::Record`].
pub fn request(site: &str, key: &Path, request: &Path) -> Result<(), Error> {
    if key.exists() {
        return Err(Error::Keys {
            fact: format!("{} is there already: a certificate for it may be in use; choose another name", key.display()),
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

//! The secret seed of a site's own random numbers.

use std::{fs, io, path::Path};

use anyhow::{Context, Result, anyhow, ensure};
use asyndgan_files::{Access, create_private_folder, is_private, write};
use asyndgan_protocol::SiteSecret;
use rand::RngExt as _;

/// Reads the secret in a site's folder, or creates one if the folder has no checkpoints yet.
pub(crate) fn secret(folder: &Path) -> Result<SiteSecret> {
    create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if let Some(secret) = read_secret(folder)? {
        return Ok(secret);
    }
    let (path, bytes) = (folder.join("site.secret"), rand::rng().random::<[u8; 32]>());
    write(&path, Access::Private, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(SiteSecret::new(bytes))
}

/// Reads the secret in a site's folder; none if the folder has neither a secret nor checkpoints.
pub(super) fn read_secret(folder: &Path) -> Result<Option<SiteSecret>> {
    let path = folder.join("site.secret");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let checkpoints = folder.join("checkpoints");
            let used = match fs::read_dir(&checkpoints) {
                Ok(mut runs) => runs.next().is_some(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", checkpoints.display())),
            };
            ensure!(!used, "{} is missing, but the checkpoints next to it need it: restore it, or use a new folder", path.display());
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    ensure!(is_private(&path)?, "{} can be read by other users of this machine: run chmod 600 on it", path.display());
    let bytes = bytes.try_into().map_err(|_| anyhow!("{} is damaged: restore it, or use a new folder", path.display()))?;
    Ok(Some(SiteSecret::new(bytes)))
}

//! The secret seed of a site's own random numbers.

use std::{fs, io, io::Write as _, path::Path};

use anyhow::{Context, Result, anyhow, ensure};
use asyndgan_files::{create_private_folder, is_private, sync_folder};
use asyndgan_protocol::SiteSecret;
use rand::RngExt as _;

/// Reads the secret in a site's folder, or creates one if the folder has no checkpoints yet.
pub(crate) fn secret(folder: &Path) -> Result<SiteSecret> {
    create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if let Some(secret) = read_secret(folder)? {
        return Ok(secret);
    }
    let path = folder.join("site.secret");
    let cannot_write = || format!("cannot write {}", path.display());
    // Another process may create it at the same time: the first one counts, for both.
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(cannot_write)?;
    file.write_all(&rand::rng().random::<[u8; 32]>()).and_then(|()| file.as_file().sync_all()).with_context(cannot_write)?;
    match file.persist_noclobber(&path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => return Err(error.error).with_context(cannot_write),
        _ => sync_folder(&path).with_context(cannot_write)?,
    }
    read_secret(folder)?.with_context(|| format!("{} was removed", path.display()))
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn processes_that_create_a_secret_at_once_have_the_same() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let made: Vec<SiteSecret> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| secret(folder.path()).expect("a secret"))).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            assert!(made.iter().all(|one| *one == made[0]));
            assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        }
    }
}

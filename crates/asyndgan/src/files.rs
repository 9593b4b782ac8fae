//! Text and JSON files, and folders that are locked or removed.

use std::{
    fs::{self, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use asyndgan_files::{Access, Lock};
use serde::{Serialize, de::DeserializeOwned};

/// Locks a folder for this process, by a file `name` in it.
pub(crate) fn lock_folder(folder: &Path, name: &str) -> Result<Lock> {
    locked(folder, Lock::try_exclusive(&folder.join(name)))
}

/// Like [`lock_folder`], shared with other processes that also share it.
pub(crate) fn lock_folder_shared(folder: &Path, name: &str) -> Result<Lock> {
    locked(folder, Lock::try_shared(&folder.join(name)))
}

fn locked(folder: &Path, lock: Result<Lock, TryLockError>) -> Result<Lock> {
    lock.map_err(|error| {
        let fact = match error {
            TryLockError::WouldBlock => format!("another process is using {}: wait until it ends, or stop it", folder.display()),
            TryLockError::Error(_) => format!("cannot lock {}", folder.display()),
        };
        anyhow::Error::new(error).context(fact)
    })
}

/// Whether an error of [`lock_folder`] is that another process uses the folder.
pub(crate) fn is_in_use(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(TryLockError::WouldBlock)))
}

/// Removes a folder, if it is there.
pub(crate) fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Reads the record of a step of a run, which the step can write again.
pub(crate) fn read_record<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| {
        let hint = if path.exists() { "" } else { ": run the previous steps first" };
        format!("cannot read {}{hint}", path.display())
    })?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} was written by a different version or is damaged: delete it and run its step again", path.display()))
}

/// Reads a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&read_text(path)?).with_context(|| format!("{} was written by a different version, or is damaged", path.display()))
}

/// The path `STEM.EXTENSION` in a folder, or the first of `STEM-2.EXTENSION`, `STEM-3.EXTENSION`, ... that does not
/// exist.
pub(crate) fn free_name(folder: &Path, stem: &str, extension: &str) -> Result<PathBuf> {
    let mut path = folder.join(format!("{stem}.{extension}"));
    let mut number = 2;
    while path.try_exists().with_context(|| path.display().to_string())? {
        path = folder.join(format!("{stem}-{number}.{extension}"));
        number += 1;
    }
    Ok(path)
}

/// Reads a text file.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a text file atomically.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    asyndgan_files::write(path, Access::Shared, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write_text(path, &(serde_json::to_string_pretty(value)? + "\n"))
}

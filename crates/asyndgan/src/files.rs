//! Text and JSON files, and folders that are removed.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use asyndgan_files::Access;
use serde::{Serialize, de::DeserializeOwned};

/// Removes a folder, if it is there.
pub(crate) fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| {
        let hint = if path.exists() { "" } else { ": run the previous steps first" };
        format!("cannot read {}{hint}", path.display())
    })?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} was written by a different version or is damaged: delete it and run its step again", path.display()))
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

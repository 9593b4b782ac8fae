//! Files read within bounds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use asyndgan_files::Access;

use crate::Error;

/// Files beyond 4 GiB are refused before they are read.
const BYTES_MAX: u64 = 4 << 30;

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let about = fs::metadata(path).map_err(Error::io(path))?;
    if !about.is_file() {
        return Err(Error::unsupported(path, "it is not a regular file; choose a file"));
    }
    if about.len() > BYTES_MAX {
        return Err(Error::unsupported(path, format!("it has {} bytes; the limit is {BYTES_MAX}, so split or compress it", about.len())));
    }
    fs::read(path).map_err(Error::io(path))
}

/// Atomically writes a file that others can read.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    asyndgan_files::write(path, Access::Shared, bytes).map_err(Error::io(path))
}

/// The entries of a folder, sorted by name; hidden files, including `._` files from archives, are skipped.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// A JSON file, with or without a byte-order mark.
pub(crate) fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = read(path)?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    serde_json::from_slice(text).map_err(|e| Error::unsupported(path, format!("{e}; correct it")))
}

/// Whether a file's name ends in one of these, in capital or small letters.
pub(crate) fn ends(path: &Path, endings: &[&str]) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    endings.iter().any(|e| name.ends_with(e))
}

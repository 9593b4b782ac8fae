//! Files read within bounds and written whole or not at all.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::Error;

/// Files beyond 4 GiB are refused before they are read.
const BYTES_MAX: u64 = 4 << 30;

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let about = fs::metadata(path).map_err(Error::io(path))?;
    if !about.is_file() {
        return Err(Error::unsupported(path, "it is no regular file; give a file"));
    }
    if about.len() > BYTES_MAX {
        return Err(Error::unsupported(path, format!("it has {} bytes, at most {BYTES_MAX} are read; split or compress it", about.len())));
    }
    fs::read(path).map_err(Error::io(path))
}

/// Lets `make` write a file beside, which then takes the place of `path`.
pub(crate) fn write_with(path: &Path, make: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = path.with_file_name(format!(".{name}.partial"));
    let done = make(&beside).and_then(|()| {
        fs::File::open(&beside).and_then(|f| f.sync_all()).map_err(Error::io(path))?;
        fs::rename(&beside, path).map_err(Error::io(path))
    });
    if done.is_err() {
        // What is half-written is of no use to anyone; the error that matters is the first.
        fs::remove_file(&beside).ok();
    }
    done
}

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_with(path, |beside| fs::write(beside, bytes).map_err(Error::io(path)))
}

/// The entries of a folder, sorted by name; hidden ones and `._` companions that archives leave are passed over.
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

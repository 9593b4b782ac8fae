//! Files of images and masks, known by the endings of their names.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

const ENDINGS: [&str; 5] = [".nii.gz", ".nii", ".png", ".tif", ".tiff"];

/// Images of other kinds: a mask must not be passed over in silence.
const OTHERS: [&str; 10] = [".nrrd", ".mha", ".mhd", ".jpg", ".jpeg", ".bmp", ".gif", ".dcm", ".npy", ".hdr"];

/// The kinds that are read, for people.
pub(crate) fn kinds() -> String {
    format!("*{}", ENDINGS.join(", *"))
}

fn ending(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    ENDINGS.into_iter().find(|end| name.ends_with(end))
}

/// A file's name without its ending, if it is of a kind that is read.
pub(crate) fn stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    Some(name[..name.len() - ending(path)?.len()].to_owned())
}

/// Whether a file's name says that it is a volume.
pub(crate) fn is_volume(path: &Path) -> bool {
    ending(path).is_some_and(|end| end.starts_with(".nii"))
}

/// The masks of a folder by their names without ending; anything else in it is passed over, but images of other kinds.
pub(crate) fn masks(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(case) = stem(&path).filter(|_| !name.starts_with('.')) else {
            let image = OTHERS.iter().any(|e| name.to_ascii_lowercase().ends_with(e));
            ensure!(!image, "{} is of a kind that is not read; convert it to one of {}", path.display(), kinds());
            continue;
        };
        if let Some(other) = found.insert(case, path.clone()) {
            bail!("{} and {} are of one name; take one away", path.display(), other.display());
        }
    }
    Ok(found)
}

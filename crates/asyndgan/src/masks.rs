//! Masks in a folder, by the names of their files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use asyndgan_medio::{FileNames, Format, is_other_image};

/// Returns the masks of a folder by file name without extension. Images in unsupported formats are rejected, unless a
/// mask of the same name exists. Other files are skipped, and a message lists them.
pub(crate) fn masks(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let (mut found, mut others) = (BTreeMap::new(), Vec::new());
    let listed = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let entries = listed.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let names = FileNames::new(&entries);
    for path in &entries {
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if is_hidden || names.has_main_file_of(path) {
            continue;
        }
        let Some(case) = Format::stem(path) else {
            others.push(path);
            continue;
        };
        if let Some(other) = found.insert(case, path.clone()) {
            bail!("{} and {} differ only in their extension; remove one", path.display(), other.display());
        }
    }
    // nnU-Net writes probabilities next to their mask.
    let has_mask = |path: &Path| path.file_stem().is_some_and(|stem| found.contains_key(&*stem.to_string_lossy()));
    if let Some(unread) = others.iter().find(|path| is_other_image(path) && !has_mask(path)) {
        bail!("{} has an unsupported format; convert it to one of {}", unread.display(), Format::endings());
    }
    if !others.is_empty() {
        let mut names: Vec<_> = others.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy()).collect();
        names.sort();
        tracing::info!("{}: skipped files that are not masks in a supported format: {}", folder.display(), names.join(", "));
    }
    Ok(found)
}

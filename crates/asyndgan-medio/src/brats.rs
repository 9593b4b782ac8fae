//! BraTS folders: one folder a patient, with `*_t2.nii[.gz]` and `*_seg.nii[.gz]` inside.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Brain, Error, read_volume};

/// Finds the patients below a folder (directly, or one level down as in `HGG/` and `LGG/`), sorted by name.
///
/// # Errors
/// [`Error::Empty`] when there is none, [`Error::Incomplete`] when one lacks a file, [`Error::Io`].
pub fn find(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for child in folders(folder)? {
        if is_case(&child)? {
            found.push(child);
        } else {
            for grandchild in folders(&child)? {
                if is_case(&grandchild)? {
                    found.push(grandchild);
                }
            }
        }
    }
    if found.is_empty() {
        return Err(Error::Empty { path: folder.into(), looked_for: "folders with *_t2.nii.gz and *_seg.nii.gz (BraTS 2018)" });
    }
    found.sort();
    for case in &found {
        file(case, "t2")?;
        file(case, "seg")?;
    }
    Ok(found)
}

/// Reads one patient's T2 volume and tumour labels.
///
/// # Errors
/// [`Error::Incomplete`], [`Error::Shape`], or [`Error::Unreadable`] also for a label that is not 0, 1, 2, 3 or 4.
pub fn read(case: &Path) -> Result<Brain, Error> {
    let (t2_path, seg_path) = (file(case, "t2")?, file(case, "seg")?);
    let (t2, seg) = (read_volume(&t2_path)?, read_volume(&seg_path)?);
    if t2.voxels.dim() != seg.voxels.dim() {
        return Err(Error::Shape { path: seg_path, expected: t2.voxels.shape().into(), found: seg.voxels.shape().into() });
    }
    if let Some(label) = seg.voxels.iter().find(|&&l| ![0.0, 1.0, 2.0, 3.0, 4.0].contains(&l)) {
        return Err(Error::unreadable(&seg_path, format!("it holds label {label}, BraTS has 0, 1, 2, 3 and 4")));
    }
    let labels = seg.voxels.mapv(|l| if l > 3.5 { 3 } else { l as u8 });
    Ok(Brain { id: name(case), t2: t2.voxels, labels, spacing_mm: t2.spacing_mm })
}

/// A case's name: its folder's.
pub fn name(case: &Path) -> String {
    case.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A patient's folder holds a volume named after it.
fn is_case(folder: &Path) -> Result<bool, Error> {
    let own = format!("{}_", name(folder));
    let mut entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    Ok(entries.any(|e| {
        e.is_ok_and(|e| {
            let file = e.file_name();
            let file = file.to_string_lossy();
            file.starts_with(&own) && (file.ends_with(".nii") || file.ends_with(".nii.gz"))
        })
    }))
}

fn file(case: &Path, modality: &str) -> Result<PathBuf, Error> {
    let compressed = case.join(format!("{}_{modality}.nii.gz", name(case)));
    let plain = case.join(format!("{}_{modality}.nii", name(case)));
    if plain.is_file() {
        Ok(plain)
    } else if compressed.is_file() {
        Ok(compressed)
    } else {
        Err(Error::Incomplete { case: name(case), missing: compressed })
    }
}

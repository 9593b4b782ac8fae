//! `BraTS` 2018 to 2021 name files `CASE_t2.nii.gz`, 2023 `CASE-t2w.nii.gz`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{CaseFiles, DataSet, Layout, NIFTI, Split, ends};
use crate::{Error, files};

/// Modality, and how its files end by year.
const MODALITIES: [(&str, [&str; 2]); 4] =
    [("t1", ["_t1", "-t1n"]), ("t1ce", ["_t1ce", "-t1c"]), ("t2", ["_t2", "-t2w"]), ("flair", ["_flair", "-t2f"])];
/// A patient's folder lies this deep at most: `MICCAI_BraTS_2018_Data_Training/HGG/CASE`.
const DEPTH_MAX: usize = 3;

/// Whether a patient's folder lies at the top, or below one that bears no other mark.
pub(super) fn fits(folder: &Path, entries: &[PathBuf]) -> Result<bool, Error> {
    let (mut found, mut seen) = (Vec::new(), itself(folder)?);
    for entry in entries {
        patients(entry, DEPTH_MAX, &mut seen, &mut found)?;
        if !found.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn find(folder: &Path) -> Result<DataSet, Error> {
    let (mut found, mut seen) = (Vec::new(), itself(folder)?);
    for entry in files::entries(folder)? {
        patients(&entry, DEPTH_MAX, &mut seen, &mut found)?;
    }
    let cases: Vec<CaseFiles> = found.iter().map(|patient| case(patient)).collect::<Result<_, _>>()?;
    // A modality that no case has is one that this download left out; one that some have is missing in the others.
    let has = |k: usize| cases.iter().any(|c| c.images[k].symlink_metadata().is_ok());
    let kept: Vec<usize> = (0..MODALITIES.len()).filter(|&k| has(k)).collect();
    let cases = cases
        .into_iter()
        .map(|mut case| {
            case.images = kept.iter().map(|&k| case.images[k].clone()).collect();
            case.missing.extend(case.images.iter().filter(|f| !f.is_file()).cloned());
            case
        })
        .collect();
    let labels = [(1, "necrotic core"), (2, "oedema"), (3, "enhancing tumour (4 in the files until 2021)")];
    Ok(DataSet {
        folder: folder.into(),
        layout: Layout::Brats,
        channels: kept.iter().map(|&k| MODALITIES[k].0.to_owned()).collect(),
        labels: labels.into_iter().map(|(l, name)| (l, name.to_owned())).collect(),
        cases,
    })
}

fn itself(folder: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    Ok([folder.canonicalize().map_err(Error::io(folder))?].into())
}

/// Links are followed, but no folder is entered twice, so that one that contains itself ends.
fn patients(folder: &Path, depth: usize, seen: &mut BTreeSet<PathBuf>, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    if depth == 0 || !folder.is_dir() || !seen.insert(folder.canonicalize().map_err(Error::io(folder))?) {
        return Ok(());
    }
    let entries = files::entries(folder)?;
    let own = name(folder);
    let volume = |path: &&PathBuf| {
        let file = name(path);
        let rest = file.strip_prefix(&own).unwrap_or_default();
        ends(path, &NIFTI)
            && MODALITIES.iter().any(|(_, by_year)| by_year.iter().any(|s| rest == format!("{s}.nii") || rest == format!("{s}.nii.gz")))
    };
    if entries.iter().any(|e| volume(&e)) {
        found.push(folder.into());
        return Ok(());
    }
    entries.iter().try_for_each(|entry| patients(entry, depth - 1, seen, found))
}

fn case(folder: &Path) -> Result<CaseFiles, Error> {
    let id = name(folder);
    let entries = files::entries(folder)?;
    let place = |by_year: &[&str]| {
        let names: Vec<String> =
            by_year.iter().flat_map(|s| NIFTI.iter().rev().map(|e| format!("{id}{s}{e}")).collect::<Vec<_>>()).collect();
        let there = names.iter().map(|n| folder.join(n)).find(|p| p.is_file());
        let odd = || names.iter().map(|n| folder.join(n)).find(|p| p.symlink_metadata().is_ok());
        there.or_else(odd).unwrap_or_else(|| folder.join(&names[0]))
    };
    let images = MODALITIES.iter().map(|(_, by_year)| place(by_year)).collect();
    let usual = place(&["_seg", "-seg"]);
    // One patient of 2020 has its segmentation under another name.
    let odd = || entries.iter().filter(|e| ends(e, &NIFTI) && name(e).to_ascii_lowercase().contains("seg")).collect::<Vec<_>>();
    let labels = if usual.is_file() {
        Some(usual.clone())
    } else if let [one] = odd()[..] {
        Some(one.clone())
    } else {
        None
    };
    let missing = if labels.is_none() { vec![usual] } else { Vec::new() };
    Ok(CaseFiles { patient: super::patient(&id), id, split: Split::Train, images, labels, missing })
}

fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

//! `BraTS` 2018 to 2021 name files `CASE_t2.nii.gz`, later ones `CASE-t2w.nii.gz`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{CaseFiles, DataSet, FileNames, Layout, SkippedFile, Split, patients};
use crate::{Error, Format, files};

/// Modality, and how the names of its files end: until 2021, and later.
const MODALITIES: [(&str, [&str; 2]); 4] =
    [("t1", ["_t1", "-t1n"]), ("t1ce", ["_t1ce", "-t1c"]), ("t2", ["_t2", "-t2w"]), ("flair", ["_flair", "-t2f"])];
const SEGMENTATION: [&str; 2] = ["_seg", "-seg"];
/// A patient's folder lies this deep at most: `MICCAI_BraTS_2018_Data_Training/HGG/CASE`.
const DEPTH_MAX: usize = 3;

/// What the folders hold.
#[derive(Default)]
struct Found {
    cases: Vec<CaseFiles>,
    skipped: Vec<SkippedFile>,
}

/// One case's files in a folder.
#[derive(Default)]
struct Parts {
    images: [Option<PathBuf>; 4],
    labels: Option<PathBuf>,
}

/// Whether a patient's files lie at the top, or below.
pub(super) fn fits(folder: &Path) -> Result<bool, Error> {
    Ok(!look(folder)?.cases.is_empty())
}

/// A volume that no case uses, in a folder without any case.
pub(super) fn unused_volume(folder: &Path) -> Result<Option<SkippedFile>, Error> {
    let is_volume = |p: &SkippedFile| p.is_problem && Format::from_path(&p.path).is_some_and(Format::is_volume);
    Ok(look(folder)?.skipped.into_iter().find(is_volume))
}

pub(super) fn find(folder: &Path) -> Result<DataSet, Error> {
    let Found { cases, skipped } = look(folder)?;
    // A modality that no case has is one that this download left out; one that some have is missing in the others.
    let has = |k: usize| cases.iter().any(|c| c.images[k].symlink_metadata().is_ok());
    let kept: Vec<usize> = (0..MODALITIES.len()).filter(|&k| has(k)).collect();
    let cases: Vec<CaseFiles> = cases
        .into_iter()
        .map(|mut case| {
            case.images = kept.iter().map(|&k| case.images[k].clone()).collect();
            case.missing.extend(case.images.iter().filter(|f| !f.is_file()).cloned());
            case
        })
        .collect();
    let labels = labels(&cases);
    let regions = regions(&labels);
    Ok(DataSet {
        regions,
        channels: kept.iter().map(|&k| MODALITIES[k].0.to_owned()).collect(),
        labels,
        skipped,
        ..DataSet::new(folder, Layout::Brats, cases)
    })
}

/// What labels mean, which has changed: 4 was the enhancing tumour until 2021, and is something else since 2024.
fn labels(cases: &[CaseFiles]) -> BTreeMap<u32, String> {
    let named = |names: &[&str]| (1..).zip(names).map(|(label, name)| (label, (*name).to_owned())).collect();
    if cases.iter().any(|case| case.id.starts_with("BraTS-PED")) {
        // Their order has changed between years.
        return named(&["label 1", "label 2", "label 3", "label 4"]);
    }
    if cases.iter().any(four_is_enhancing) {
        return named(&["necrotic core", "oedema", "enhancing tumour (4 in the files)"]);
    }
    named(&["necrotic core", "oedema", "enhancing tumour", "resection cavity"])
}

/// The regions that the challenge scores, where labels have their usual meaning.
fn regions(labels: &BTreeMap<u32, String>) -> BTreeMap<String, Vec<u32>> {
    if labels.get(&1).is_none_or(|name| name != "necrotic core") {
        return BTreeMap::new();
    }
    let regions = [("whole tumour", vec![1, 2, 3]), ("tumour core", vec![1, 3]), ("enhancing tumour", vec![3])];
    regions.into_iter().map(|(name, labels)| (name.to_owned(), labels)).collect()
}

/// Whether label 4 of a case's segmentation is the enhancing tumour: where case and files are named as until 2021.
pub(super) fn four_is_enhancing(case: &CaseFiles) -> bool {
    let is_later = |path: &PathBuf| Format::stem(path).is_some_and(|stem| stem.as_bytes().get(case.id.len()) == Some(&b'-'));
    !case.id.to_ascii_lowercase().starts_with("brats-") && !case.images.iter().chain(&case.labels).any(is_later)
}

/// A name without its suffix, in capital or small letters.
fn without<'a>(stem: &'a str, suffix: &str) -> Option<&'a str> {
    let (name, end) = stem.split_at_checked(stem.len().checked_sub(suffix.len())?)?;
    (end.eq_ignore_ascii_case(suffix) && !name.is_empty()).then_some(name)
}

fn look(folder: &Path) -> Result<Found, Error> {
    let (mut found, mut seen) = (Found::default(), BTreeSet::new());
    enter(folder, DEPTH_MAX, &mut seen, &mut found)?;
    Ok(found)
}

/// Links are followed, but no folder is entered twice, so that one that contains itself ends.
fn enter(folder: &Path, depth: usize, seen: &mut BTreeSet<PathBuf>, found: &mut Found) -> Result<(), Error> {
    if !seen.insert(folder.canonicalize().map_err(Error::io(folder))?) {
        return Ok(());
    }
    let entries = files::entries(folder)?;
    if entries.is_empty() {
        found.skipped.push(SkippedFile::note(folder, "it is empty"));
    }
    let (mut parts, mut others) = (BTreeMap::<String, Parts>::new(), Vec::new());
    let names = FileNames::new(&entries);
    for path in &entries {
        match if path.is_dir() { None } else { place(path) } {
            Some((case, place)) => {
                let case = parts.entry(case).or_default();
                let taken = place.map_or(&mut case.labels, |k| &mut case.images[k]);
                if let Some(first) = taken {
                    found.skipped.push(SkippedFile::problem(path, format!("{} is the same part of that case", first.display())));
                } else {
                    *taken = Some(path.clone());
                }
            }
            None if !path.is_dir() && names.has_main_file_of(path) => {}
            None if !path.is_dir() => others.push(path.clone()),
            None if depth > 0 => enter(path, depth - 1, seen, found)?,
            None => found.skipped.push(SkippedFile::note(path, format!("it is more than {DEPTH_MAX} folders deep"))),
        }
    }
    let is_single = parts.len() == 1;
    if let Some(only) = parts.values_mut().next().filter(|parts| parts.labels.is_none())
        && is_single
    {
        // One patient of 2020 has its segmentation under another name.
        let odd: Vec<usize> = (0..others.len()).filter(|&n| may_be_segmentation(&others[n])).collect();
        if let [n] = odd[..] {
            let labels = others.remove(n);
            found.skipped.push(SkippedFile::note(&labels, "its name is unusual, but it is used as the case's segmentation"));
            only.labels = Some(labels);
        }
    }
    let of_case = !parts.is_empty();
    for (id, parts) in parts {
        found.cases.push(parts.case(folder, id));
    }
    found.skipped.extend(others.iter().map(|path| {
        let is_volume = Format::from_path(path).is_some_and(Format::is_volume);
        if is_volume && of_case {
            return SkippedFile::note(path, "its name is neither that of a BraTS modality nor that of a BraTS segmentation");
        }
        SkippedFile::unused(path, "its name does not end in a BraTS modality or segmentation, such as _t2 or -t2w")
    }));
    Ok(())
}

/// A file's case, and the modality that it holds, or none for the segmentation.
fn place(path: &Path) -> Option<(String, Option<usize>)> {
    let stem = Format::stem(path).filter(|_| Format::from_path(path).is_some_and(Format::is_volume))?;
    let modality = (0..MODALITIES.len()).find_map(|k| Some((MODALITIES[k].1.iter().find_map(|suffix| without(&stem, suffix))?, Some(k))));
    let (case, place) = modality.or_else(|| Some((SEGMENTATION.iter().find_map(|suffix| without(&stem, suffix))?, None)))?;
    Some((case.to_owned(), place))
}

fn may_be_segmentation(path: &Path) -> bool {
    Format::from_path(path).is_some_and(Format::is_volume)
        && path.file_name().is_some_and(|n| n.to_string_lossy().to_ascii_lowercase().contains("seg"))
}

impl Parts {
    fn case(self, folder: &Path, id: String) -> CaseFiles {
        // As the case's other files are named.
        let there = self.images.iter().flatten().chain(&self.labels).next();
        let later = there.and_then(|p| Format::stem(p)).is_some_and(|stem| stem.as_bytes().get(id.len()) == Some(&b'-'));
        let named = |suffixes: [&str; 2]| folder.join(format!("{id}{}.nii.gz", suffixes[usize::from(later)]));
        let images = self.images.into_iter().zip(MODALITIES).map(|(found, (_, by_year))| found.unwrap_or_else(|| named(by_year))).collect();
        let missing = if self.labels.is_none() { vec![named(SEGMENTATION)] } else { Vec::new() };
        CaseFiles { patient: patients::of_name(&id), id, split: Split::Train, images, labels: self.labels, missing }
    }
}

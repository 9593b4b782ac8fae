//! A folder of images and a folder of masks, matched by name and described by a `pairs.toml`:
//!
//! ```toml
//! images = "images"       # NAME.nii.gz, NAME.nrrd, NAME.mha, NAME.png, NAME.tif, or a folder NAME with a DICOM series
//! masks = "masks"         # NAME with any of those endings, NAME.dcm (DICOM-SEG) or NAME.xml (ImageScope)
//! channels = ["T2"]
//!
//! [labels]                # omit this table if labels number instances
//! tumour = 1
//! ignore = 255            # pixels that were not annotated
//!
//! [patients]              # if case names do not identify patients: cases of one patient stay together
//! scan_17 = "patient 4"
//! ```

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{CaseFiles, DataSet, FileNames, Layout, SkippedFile, Split, nnunet::IGNORE, patients};
use crate::{Error, Format, files};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    images: String,
    masks: String,
    channels: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, u32>,
    #[serde(default)]
    patients: BTreeMap<String, String>,
}

pub(super) fn fits(folder: &Path) -> bool {
    folder.join("pairs.toml").is_file()
}

pub(super) fn find(folder: &Path) -> Result<DataSet, Error> {
    let path = folder.join("pairs.toml");
    let text = String::from_utf8(files::read(&path)?).map_err(|e| Error::unsupported(&path, format!("{e}; write it as UTF-8")))?;
    let description: Description = toml::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|e| Error::unsupported(&path, format!("{}; correct it", e.to_string().trim())))?;
    if description.channels.is_empty() {
        return Err(Error::unsupported(&path, "its channels list is empty; name the image's channel, or red, green and blue"));
    }
    let (images, masks) = (folder.join(&description.images), folder.join(&description.masks));
    if images == masks {
        return Err(Error::unsupported(&path, "images and masks are the same folder; use two different folders"));
    }
    let (found_images, found_masks) = (files::entries(&images)?, files::entries(&masks)?);
    let (image_names, mask_names) = (FileNames::new(&found_images), FileNames::new(&found_masks));
    let (mut cases, mut skipped) = (Vec::new(), Vec::new());
    let mut masks_by_stem = BTreeMap::<String, Vec<PathBuf>>::new();
    for mask in &found_masks {
        match mask_stem(mask) {
            Some(stem) => masks_by_stem.entry(stem).or_default().push(mask.clone()),
            None if mask_names.has_main_file_of(mask) => {}
            None => skipped.push(SkippedFile::unused(mask, "")),
        }
    }
    for image in &found_images {
        // A folder is a DICOM series.
        let id = if image.is_dir() { Some(name(image)) } else { Format::stem(image) };
        let Some(id) = id else {
            if !image_names.has_main_file_of(image) {
                skipped.push(SkippedFile::unused(image, ""));
            }
            continue;
        };
        let mut found = masks_by_stem.remove(&id).unwrap_or_default();
        if found.len() > 1 {
            return Err(Error::Ambiguous { path: masks, candidates: found.iter().map(|p| p.display().to_string()).collect() });
        }
        let labels = found.pop();
        let missing = if labels.is_none() { vec![masks.join(&id)] } else { Vec::new() };
        cases.push(CaseFiles { patient: patients::of_name(&id), id, split: Split::Train, images: vec![image.clone()], labels, missing });
    }
    let reason = format!("there is no image with the same name in {}", description.images);
    skipped.extend(masks_by_stem.into_values().flatten().map(|mask| SkippedFile::problem(&mask, &reason)));
    for beside in files::entries(folder)? {
        if beside != path && !images.starts_with(&beside) && !masks.starts_with(&beside) {
            skipped.push(SkippedFile::note(&beside, "pairs.toml does not mention it"));
        }
    }
    let mut described = description.labels;
    let ignore = described.remove(IGNORE);
    let labels = described.into_iter().filter(|(_, l)| *l > 0).map(|(name, l)| (l, name)).collect();
    let mut found = DataSet { channels: description.channels, labels, ignore, skipped, ..DataSet::new(folder, Layout::Pairs, cases) };
    patients::assign(&mut found, &path, description.patients)?;
    Ok(found)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A mask's name without its ending: an image format, DICOM-SEG or `ImageScope`.
fn mask_stem(path: &Path) -> Option<String> {
    let other = || {
        let is_mask = files::ends(path, &[".dcm", ".xml"]) && path.is_file();
        is_mask.then(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
    };
    Format::stem(path).or_else(other)
}

//! Any folder of images and any of masks, matched by name, described by a `pairs.toml`:
//!
//! ```toml
//! images = "images"       # NAME.nii.gz, NAME.png, NAME.tif, or a folder NAME with a DICOM series
//! masks = "masks"         # NAME with any of those endings, NAME.dcm (DICOM-SEG) or NAME.xml (ImageScope)
//! channels = ["T2"]
//!
//! [labels]                # leave out if labels count instances
//! tumour = 1
//!
//! [patients]              # where the name does not tell whose image it is: cases of one patient stay together
//! scan_17 = "patient 4"
//! ```

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use super::{CaseFiles, DataSet, Layout, NIFTI, PICTURES, Split, ends, stem};
use crate::{Error, files};

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
    let text = String::from_utf8(files::read(&path)?).map_err(|e| Error::unreadable(&path, e))?;
    let description: Description =
        toml::from_str(&text).map_err(|e| Error::unsupported(&path, format!("{}; correct it", e.to_string().trim())))?;
    if description.channels.is_empty() {
        return Err(Error::unsupported(&path, "its channels are empty; name the image's channel, or red, green and blue"));
    }
    let masks = files::entries(&folder.join(&description.masks))?;
    let mut cases = Vec::new();
    for image in files::entries(&folder.join(&description.images))? {
        if !(image.is_dir() || ends(&image, &NIFTI) || ends(&image, &PICTURES)) {
            continue;
        }
        let id = stem(&image);
        let mut found: Vec<_> = masks.iter().filter(|m| stem(m) == id).cloned().collect();
        if found.len() > 1 {
            return Err(Error::Ambiguous {
                path: folder.join(&description.masks),
                candidates: found.iter().map(|p| p.display().to_string()).collect(),
            });
        }
        let labels = found.pop();
        let missing = if labels.is_none() { vec![folder.join(&description.masks).join(&id)] } else { Vec::new() };
        cases.push(CaseFiles {
            patient: description.patients.get(&id).cloned().unwrap_or_else(|| super::patient(&id)),
            id,
            split: Split::Train,
            images: vec![image],
            labels,
            missing,
        });
    }
    let labels = description.labels.into_iter().filter(|(_, l)| *l > 0).map(|(name, l)| (l, name)).collect();
    Ok(DataSet { folder: folder.into(), layout: Layout::Pairs, channels: description.channels, labels, cases })
}

//! nnU-Net's raw format, version 2.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{CaseFiles, DataSet, Layout, Split};
use crate::{Error, files};

/// `dataset.json`, as far as it matters here.
///
/// # Reference
/// nnU-Net version 2, `documentation/dataset_format.md`; field names are theirs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Channel number to name.
    pub channel_names: BTreeMap<String, String>,
    /// Name to label; a region of several labels is a list.
    pub labels: BTreeMap<String, serde_json::Value>,
    /// Cases in `imagesTr`.
    #[serde(rename = "numTraining")]
    pub num_training: usize,
    /// How image and label files end.
    pub file_ending: String,
}

pub(super) fn fits(folder: &Path) -> bool {
    folder.join("dataset.json").is_file() && folder.join("imagesTr").is_dir()
}

pub(super) fn find(folder: &Path) -> Result<DataSet, Error> {
    let path = folder.join("dataset.json");
    let description: Description = serde_json::from_slice(&files::read(&path)?).map_err(|e| {
        Error::unsupported(&path, format!("{e}; it must be as nnU-Net version 2 has it (version 1 has \"modality\": convert it)"))
    })?;
    let mut channels: Vec<(usize, String)> = Vec::new();
    for (number, name) in &description.channel_names {
        let number = number.parse().map_err(|_| {
            Error::unsupported(&path, format!("channel_names has the key {number}, which is no number; number channels from 0"))
        })?;
        channels.push((number, name.clone()));
    }
    channels.sort();
    if channels.is_empty() {
        return Err(Error::unsupported(&path, "its channel_names are empty; name the channels"));
    }
    let mut cases = Vec::new();
    for (images, labels, split) in [("imagesTr", "labelsTr", Split::Train), ("imagesTs", "labelsTs", Split::Test)] {
        if folder.join(images).is_dir() {
            cases.extend(part(folder, &description.file_ending, channels.len(), (images, labels), split)?);
        }
    }
    let trained = cases.iter().filter(|c| c.split == Split::Train).count();
    if trained != description.num_training {
        let fact = format!("numTraining is {}, imagesTr has {trained} cases; correct one", description.num_training);
        return Err(Error::unsupported(&path, fact));
    }
    let mut labels: BTreeMap<u32, String> = BTreeMap::new();
    for (name, value) in &description.labels {
        // A region is a list of labels.
        for label in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
            let fact = || Error::unsupported(&path, format!("its label {name} is {label}; labels are whole numbers from 0"));
            let label = label.as_u64().and_then(|l| u32::try_from(l).ok()).ok_or_else(fact)?;
            labels.entry(label).and_modify(|names| names.extend([", ", name])).or_insert_with(|| name.clone());
        }
    }
    labels.remove(&0);
    Ok(DataSet { folder: folder.into(), layout: Layout::NnUnet, labels, channels: channels.into_iter().map(|c| c.1).collect(), cases })
}

fn part(folder: &Path, ending: &str, channels: usize, (images, labels): (&str, &str), split: Split) -> Result<Vec<CaseFiles>, Error> {
    let mut by_case: BTreeMap<String, Vec<std::path::PathBuf>> = BTreeMap::new();
    for image in files::entries(&folder.join(images))? {
        let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // CASE_0000.nii.gz: the case's name, then the channel in four digits.
        let Some((case, channel)) = name.strip_suffix(ending).and_then(|n| n.rsplit_once('_')) else { continue };
        if channel.len() == 4 && channel.bytes().all(|b| b.is_ascii_digit()) {
            by_case.entry(case.into()).or_default().push(image);
        }
    }
    let case = |(id, found): (String, Vec<std::path::PathBuf>)| {
        // Colour pictures hold all channels in one file.
        let picture = found.len() == 1 && super::PICTURES.contains(&ending);
        let wanted = if picture { 1 } else { channels };
        let images: Vec<_> = (0..wanted).map(|k| folder.join(images).join(format!("{id}_{k:04}{ending}"))).collect();
        let mut missing: Vec<_> = images.iter().filter(|p| !p.is_file()).cloned().collect();
        let truth = folder.join(labels).join(format!("{id}{ending}"));
        let there = truth.is_file();
        if !there && split == Split::Train {
            missing.push(truth.clone());
        }
        CaseFiles { patient: super::patient(&id), id, split, images, labels: there.then_some(truth), missing }
    };
    Ok(by_case.into_iter().map(case).collect())
}

//! nnU-Net's raw format, version 2.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CaseFiles, DataSet, FileNames, Layout, SkippedFile, Split, patients};
use crate::{Error, Format, files};

/// The fields of `dataset.json` that this crate uses.
///
/// # Reference
/// nnU-Net version 2, `documentation/dataset_format.md`; the field names are nnU-Net's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Channel number to name.
    pub channel_names: BTreeMap<String, String>,
    /// Name to label; a region that consists of several labels is a list.
    pub labels: BTreeMap<String, serde_json::Value>,
    /// Cases in `imagesTr`.
    #[serde(rename = "numTraining")]
    pub num_training: usize,
    /// File extension of images and labels.
    pub file_ending: String,
}

pub(super) fn fits(folder: &Path) -> bool {
    folder.join("dataset.json").is_file() && folder.join("imagesTr").is_dir()
}

/// The name of the label of voxels that nobody has judged.
pub(super) const IGNORE: &str = "ignore";
const PARTS: [(&str, &str, Split); 2] = [("imagesTr", "labelsTr", Split::Train), ("imagesTs", "labelsTs", Split::Test)];

impl Description {
    fn read(path: &Path) -> Result<Self, Error> {
        let mut value: Value = files::json(path)?;
        if value.get("channel_names").is_none() && value.get("modality").is_some() {
            let fact = "it was written for nnU-Net version 1 (\"modality\"); convert the folder with nnUNetv2_convert_old_nnUNet_dataset";
            return Err(Error::unsupported(path, fact));
        }
        // Some programs write the number as text.
        let number = value.get("numTraining").and_then(|n| n.as_str()?.parse::<usize>().ok());
        if let (Some(number), Some(object)) = (number, value.as_object_mut()) {
            object.insert("numTraining".into(), number.into());
        }
        serde_json::from_value(value)
            .map_err(|e| Error::unsupported(path, format!("{e}; correct it as documented for dataset.json of nnU-Net version 2")))
    }

    /// Names of the channels by their numbers.
    fn channels(&self, path: &Path) -> Result<Vec<String>, Error> {
        let mut channels: Vec<(usize, String)> = Vec::new();
        for (number, name) in &self.channel_names {
            let number = number.parse().map_err(|_| {
                Error::unsupported(path, format!("channel_names has the key {number}, which is not a number; number channels from 0"))
            })?;
            channels.push((number, name.clone()));
        }
        channels.sort();
        if channels.is_empty() {
            return Err(Error::unsupported(path, "its channel_names is empty; name the channels"));
        }
        Ok(channels.into_iter().map(|c| c.1).collect())
    }

    /// What each label stands for, the regions, and the label that is to be ignored.
    fn labels(&self, path: &Path) -> Result<Labels, Error> {
        let (mut labels, mut regions, mut ignore) = (BTreeMap::<u32, String>::new(), BTreeMap::<String, Vec<u32>>::new(), None);
        for (name, value) in &self.labels {
            // A region is a list of labels.
            for label in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
                let fact = || {
                    let fact = format!("its label {name} is {label}; labels must be integers of at least 0, such as \"background\": 0");
                    Error::unsupported(path, fact)
                };
                let label = label.as_u64().and_then(|l| u32::try_from(l).ok()).ok_or_else(fact)?;
                if name == IGNORE {
                    ignore = Some(label);
                } else {
                    regions.entry(name.clone()).or_default().push(label);
                    labels.entry(label).and_modify(|names| names.extend([", ", name])).or_insert_with(|| name.clone());
                }
            }
        }
        labels.remove(&0);
        regions.retain(|_, labels| !labels.contains(&0));
        // Without a union, every label is a region of its own.
        if regions.values().all(|labels| labels.len() == 1) {
            regions.clear();
        }
        Ok((labels, regions, ignore))
    }
}

/// The meaning of each label, the labels of each region, and the label that is to be ignored.
type Labels = (BTreeMap<u32, String>, BTreeMap<String, Vec<u32>>, Option<u32>);

pub(super) fn find(folder: &Path) -> Result<DataSet, Error> {
    let path = folder.join("dataset.json");
    let description = Description::read(&path)?;
    let channels = description.channels(&path)?;
    if !description.file_ending.starts_with('.') {
        let fact = format!("its file_ending is {:?}; write it with a leading dot, such as \".nii.gz\"", description.file_ending);
        return Err(Error::unsupported(&path, fact));
    }
    let (labels, regions, ignore) = description.labels(&path)?;
    let (mut cases, mut skipped) = (Vec::new(), Vec::new());
    for (images, labels, split) in PARTS {
        if folder.join(images).is_dir() {
            let part = Part { folder, ending: &description.file_ending, channels: channels.len(), images, labels, split };
            part.find(&mut cases, &mut skipped)?;
        } else if folder.join(labels).is_dir() {
            skipped.push(SkippedFile::problem(&folder.join(labels), format!("its image folder {images} does not exist")));
        }
    }
    let trained = cases.iter().filter(|c| c.split == Split::Train).count();
    if trained != description.num_training && trained > 0 {
        let fact = format!("numTraining is {}, but imagesTr has {trained} cases; correct one of them", description.num_training);
        skipped.push(SkippedFile::problem(&path, fact));
    }
    let known = PARTS.map(|(images, labels, _)| [images, labels]).concat();
    for path in files::entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name != "dataset.json" && !(path.is_dir() && known.contains(&name.as_str())) {
            skipped.push(SkippedFile::note(&path, "it is not a part of nnU-Net's layout that contains cases"));
        }
    }
    Ok(DataSet { channels, labels, regions, ignore, skipped, ..DataSet::new(folder, Layout::NnUnet, cases) })
}

/// Images and their labels in two folders.
struct Part<'a> {
    folder: &'a Path,
    ending: &'a str,
    channels: usize,
    images: &'a str,
    labels: &'a str,
    split: Split,
}

impl Part<'_> {
    fn find(&self, cases: &mut Vec<CaseFiles>, skipped: &mut Vec<SkippedFile>) -> Result<(), Error> {
        let mut by_case: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        let entries = files::entries(&self.folder.join(self.images))?;
        // Colour pictures hold all channels in one file; then no case has a second.
        let has_second = entries.iter().any(|image| image.to_string_lossy().ends_with(&format!("_0001{}", self.ending)));
        let names = FileNames::new(&entries);
        for image in &entries {
            match self.case_of(image) {
                Ok(case) => by_case.entry(case).or_default().push(image.clone()),
                Err(_) if names.has_main_file_of(image) => {}
                Err(reason) => skipped.push(SkippedFile::unused(image, reason)),
            }
        }
        let truths = self.folder.join(self.labels);
        if truths.is_dir() {
            let entries = files::entries(&truths)?;
            let names = FileNames::new(&entries);
            for path in &entries {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let reason = match name.strip_suffix(self.ending) {
                    Some(case) if by_case.contains_key(case) => continue,
                    Some(_) => format!("there is no image with the same name in {}", self.images),
                    None if names.has_main_file_of(path) => continue,
                    None => format!("its name does not end in {}, the file_ending in dataset.json", self.ending),
                };
                skipped.push(SkippedFile::unused(path, reason));
            }
        }
        cases.extend(by_case.into_iter().map(|(id, found)| self.case(id, &found, has_second)));
        Ok(())
    }

    /// `CASE_0000.nii.gz`: the case's name, then the channel in four digits; else what is wrong with the name.
    fn case_of(&self, image: &Path) -> Result<String, String> {
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        let stem = name
            .strip_suffix(self.ending)
            .ok_or_else(|| format!("its name does not end in {}, the file_ending in dataset.json; correct one of them", self.ending))?;
        let (case, channel) = stem.rsplit_once('_').unwrap_or((stem, ""));
        if channel.len() != 4 || !channel.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("its name has no channel number; rename it to {stem}_0000{}", self.ending));
        }
        match channel.parse::<usize>() {
            Ok(number) if number < self.channels => Ok(case.into()),
            _ => Err(format!("channel {channel} is not one of the {} channels in dataset.json", self.channels)),
        }
    }

    fn case(&self, id: String, found: &[PathBuf], has_second: bool) -> CaseFiles {
        let Self { folder, ending, images, labels, split, .. } = *self;
        let is_picture = !has_second && found.len() == 1 && Format::from_path(&found[0]).is_some_and(|f| !f.is_volume());
        let wanted = if is_picture { 1 } else { self.channels };
        let images: Vec<_> = (0..wanted).map(|k| folder.join(images).join(format!("{id}_{k:04}{ending}"))).collect();
        let mut missing: Vec<_> = images.iter().filter(|p| !p.is_file()).cloned().collect();
        let truth = folder.join(labels).join(format!("{id}{ending}"));
        let there = truth.is_file();
        if !there && split == Split::Train {
            missing.push(truth.clone());
        }
        CaseFiles { patient: patients::of_name(&id), id, split, images, labels: there.then_some(truth), missing }
    }
}

//! Folders of images with their masks, in the layouts that people have.

mod brats;
mod digest;
mod monuseg;
mod nnunet;
mod pairs;
mod subject;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

pub use nnunet::Description;
pub use subject::Subject;

use crate::{Error, files};

/// How a folder is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `BraTS` 2018 to 2023: one folder a patient, with a volume a modality and a segmentation.
    Brats,
    /// `MoNuSeg` and Kumar: `Tissue Images`, with `Annotations` or `Instance Labels`.
    Monuseg,
    /// nnU-Net version 2, raw: `dataset.json`, `imagesTr`, `labelsTr`.
    NnUnet,
    /// A folder of images, one of masks, and a `pairs.toml`.
    Pairs,
}

/// Which part of an experiment a folder itself puts a case in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose by.
    Validation,
    /// Held out.
    Test,
}

/// One case's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseFiles {
    /// The case's name.
    pub id: String,
    /// Who it is of, as far as the name tells: two cases of one patient must not be parted.
    pub patient: String,
    /// Which part the folder itself puts it in.
    pub split: Split,
    /// The files of the channels, in the order of [`DataSet::channels`]; one file or one folder (DICOM) may hold all.
    pub images: Vec<PathBuf>,
    /// Where labels are, if there are any.
    pub labels: Option<PathBuf>,
    /// Files that should be there and are not.
    pub missing: Vec<PathBuf>,
}

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSet {
    /// The folder.
    pub folder: PathBuf,
    /// How it is laid out.
    pub layout: Layout,
    /// Names of the channels of an image.
    pub channels: Vec<String>,
    /// What the labels stand for; empty if labels count instances.
    pub labels: BTreeMap<u32, String>,
    /// The cases, sorted by name.
    pub cases: Vec<CaseFiles>,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Brats => "BraTS (one folder a patient)",
            Self::Monuseg => "MoNuSeg (Tissue Images, Annotations)",
            Self::NnUnet => "nnU-Net v2 raw (dataset.json, imagesTr, labelsTr)",
            Self::Pairs => "images and masks (pairs.toml)",
        })
    }
}

const LOOKED_FOR: &str = "patients' folders with *_t2.nii.gz and *_seg.nii.gz (BraTS), Tissue Images/*.tif (MoNuSeg), dataset.json with imagesTr (nnU-Net), or pairs.toml with a folder of images and one of masks";

impl DataSet {
    /// Looks what a folder holds; nothing but names is read.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Ambiguous`] when more than one layout fits, [`Error::Unreadable`] for a broken `dataset.json` or
    /// `pairs.toml`, [`Error::Io`].
    pub fn find(folder: &Path) -> Result<Self, Error> {
        let entries = files::entries(folder)?;
        let mut candidates = Vec::new();
        for (layout, fits) in [
            (Layout::NnUnet, nnunet::fits(folder)),
            (Layout::Pairs, pairs::fits(folder)),
            (Layout::Monuseg, monuseg::fits(&entries)),
            (Layout::Brats, brats::fits(folder, &entries)?),
        ] {
            if fits {
                candidates.push(layout);
            }
        }
        let mut found = match candidates[..] {
            [Layout::Brats] => brats::find(folder)?,
            [Layout::Monuseg] => monuseg::find(folder, &entries)?,
            [Layout::NnUnet] => nnunet::find(folder)?,
            [Layout::Pairs] => pairs::find(folder)?,
            [] => return Err(Error::Empty { path: folder.into(), looked_for: LOOKED_FOR }),
            _ => {
                let candidates = candidates.iter().map(Layout::to_string).collect();
                return Err(Error::Ambiguous { path: folder.into(), candidates });
            }
        };
        found.cases.sort_by(|a, b| a.id.cmp(&b.id));
        if found.cases.is_empty() {
            return Err(Error::Empty { path: folder.into(), looked_for: LOOKED_FOR });
        }
        if let Some(twice) = found.cases.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(Error::Twice { name: twice[0].id.clone(), places: twice.iter().map(|c| format!("{:?}", c.images)).collect() });
        }
        Ok(found)
    }

    /// The same, with every file in its place and labels for every case that is learnt from.
    ///
    /// # Errors
    /// As [`DataSet::find`], and [`Error::Incomplete`].
    pub fn complete(folder: &Path) -> Result<Self, Error> {
        let found = Self::find(folder)?;
        for case in &found.cases {
            if let Some(missing) = case.missing.first() {
                return Err(Error::Incomplete { case: case.id.clone(), missing: missing.clone() });
            }
        }
        Ok(found)
    }

    /// Where a channel stands.
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub fn channel(&self, name: &str) -> Result<usize, Error> {
        let at = self.channels.iter().position(|c| c.eq_ignore_ascii_case(name));
        at.ok_or_else(|| Error::Channel { path: self.folder.clone(), wanted: name.into(), found: self.channels.join(", ") })
    }
}

/// Who a case is of, as far as its name tells: `BraTS-GLI-00000-000` is a visit of `BraTS-GLI-00000`, `TCGA-18-5592-01Z-00-DX1` a slide
/// of `TCGA-18-5592`.
fn patient(id: &str) -> String {
    let parts: Vec<&str> = id.split('-').collect();
    match parts[0] {
        "BraTS" | "TCGA" if parts.len() > 3 => parts[..3].join("-"),
        _ => id.to_owned(),
    }
}

/// A file's name without its ending, `.nii.gz` taken as one.
fn stem(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    if path.is_dir() { name } else { plain.rsplit_once('.').map_or(plain, |(stem, _)| stem).to_owned() }
}

fn ends(path: &Path, endings: &[&str]) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    endings.iter().any(|e| name.ends_with(e))
}

const NIFTI: [&str; 2] = [".nii", ".nii.gz"];
const PICTURES: [&str; 3] = [".png", ".tif", ".tiff"];

//! Folders of images with masks, in common layouts.

mod brats;
mod digest;
mod monuseg;
mod nnunet;
mod pairs;
mod patients;
mod skipped;
mod subject;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

pub use nnunet::Description;
pub use skipped::{FileNames, SkippedFile, is_other_image};
pub use subject::Subject;

use crate::{Error, files};

/// How a folder is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `BraTS` 2018 to 2023: one folder per patient, with one volume per modality and a segmentation.
    Brats,
    /// `MoNuSeg` and Kumar: `Tissue Images`, with `Annotations` or `Instance Labels`.
    Monuseg,
    /// nnU-Net version 2, raw: `dataset.json`, `imagesTr`, `labelsTr`.
    NnUnet,
    /// A folder of images, one of masks, and a `pairs.toml`.
    Pairs,
}

/// The part of an experiment to which a data set assigns a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// For training.
    Train,
    /// For validation.
    Validation,
    /// Held out.
    Test,
}

/// One case's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseFiles {
    /// The case's name.
    pub id: String,
    /// The patient, as far as the name shows. Cases of one patient must not be split between sites or between training
    /// and test.
    pub patient: String,
    /// The part to which the data set assigns the case.
    pub split: Split,
    /// The files of the channels, in the order of [`DataSet::channels`]; one file or one folder (DICOM) may hold all
    /// channels.
    pub images: Vec<PathBuf>,
    /// The file with the labels, if any.
    pub labels: Option<PathBuf>,
    /// Files that are expected but missing.
    pub missing: Vec<PathBuf>,
}

/// The contents of a data set folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSet {
    /// The folder.
    pub folder: PathBuf,
    /// Its layout.
    pub layout: Layout,
    /// Names of the channels of an image.
    pub channels: Vec<String>,
    /// The meaning of each label; empty if labels number instances.
    pub labels: BTreeMap<u32, String>,
    /// Unions of labels that are scored, such as whole tumour; empty if the data set describes none.
    pub regions: BTreeMap<String, Vec<u32>>,
    /// The label of voxels without annotation, `ignore` in a description.
    pub ignore: Option<u32>,
    /// The layer of `ImageScope` annotations to read, for files with several layers.
    pub layer: Option<String>,
    /// The cases, sorted by name.
    pub cases: Vec<CaseFiles>,
    /// Whether the patient of every case is known: from `patients.toml`, from `[patients]` in `pairs.toml`, or from a
    /// name of BraTS or TCGA. Otherwise, a case without a patient counts as a patient of its own.
    pub are_patients_known: bool,
    /// Files and folders that no case uses, sorted by name.
    pub skipped: Vec<SkippedFile>,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Brats => "BraTS (one folder per patient)",
            Self::Monuseg => "MoNuSeg (Tissue Images, Annotations)",
            Self::NnUnet => "nnU-Net v2 raw (dataset.json, imagesTr, labelsTr)",
            Self::Pairs => "images and masks (pairs.toml)",
        })
    }
}

const LOOKED_FOR: &str = "patient folders with *_t2.nii.gz and *_seg.nii.gz (BraTS), Tissue Images/*.tif with Annotations/*.xml, or \
                          *.tif with *.xml in the same folder (MoNuSeg), dataset.json with imagesTr (nnU-Net), or pairs.toml with \
                          an image folder and a mask folder";

impl DataSet {
    /// Detects the layout of a folder and lists its cases. Apart from `dataset.json`, `pairs.toml` and `patients.toml`,
    /// only file names are read.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Ambiguous`] when more than one layout fits, [`Error::Unreadable`] for a broken
    /// `dataset.json`, `pairs.toml` or `patients.toml`, [`Error::Io`].
    pub fn find(folder: &Path) -> Result<Self, Error> {
        if !folder.is_dir() {
            return Err(Error::NoFolder { path: folder.into() });
        }
        let entries = files::entries(folder)?;
        let mut candidates = Vec::new();
        for (layout, fits) in
            [(Layout::NnUnet, nnunet::fits(folder)), (Layout::Pairs, pairs::fits(folder)), (Layout::Monuseg, monuseg::fits(&entries))]
        {
            if fits {
                candidates.push(layout);
            }
        }
        // A description takes precedence over file names.
        if !matches!(candidates[..], [Layout::NnUnet | Layout::Pairs, ..]) && brats::fits(folder)? {
            candidates.push(Layout::Brats);
        }
        let mut found = match candidates[..] {
            [Layout::Brats] => brats::find(folder)?,
            [Layout::Monuseg] => monuseg::find(folder, &entries)?,
            [Layout::NnUnet] => nnunet::find(folder)?,
            [Layout::Pairs] => pairs::find(folder)?,
            [] if folder.parent().is_some_and(nnunet::fits) => {
                let fact = "it is a part of an nnU-Net data set; name the folder that has dataset.json";
                return Err(Error::unsupported(folder, fact));
            }
            [] => {
                return Err(match brats::unused_volume(folder)? {
                    Some(SkippedFile { path, reason, .. }) => {
                        Error::unsupported(&path, format!("{reason}; {} contains no case; expected {LOOKED_FOR}", folder.display()))
                    }
                    None => Error::Empty { path: folder.into(), looked_for: LOOKED_FOR },
                });
            }
            _ => {
                let candidates = candidates.iter().map(Layout::to_string).collect();
                return Err(Error::Ambiguous { path: folder.into(), candidates });
            }
        };
        patients::apply(&mut found)?;
        tracing::debug!(folder = %folder.display(), layout = %found.layout, cases = found.cases.len(), "data set found");
        found.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        found.cases.sort_by(|a, b| a.id.cmp(&b.id));
        if found.cases.is_empty() {
            let problem = found.skipped.iter().find(|p| p.is_problem);
            return Err(problem.map_or(Error::Empty { path: folder.into(), looked_for: LOOKED_FOR }, |problem| {
                Error::unsupported(&problem.path, format!("{}; {} contains no case", problem.reason, folder.display()))
            }));
        }
        if let Some(twice) = found.cases.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(Error::Twice { name: twice[0].id.clone(), places: twice.iter().map(|c| format!("{:?}", c.images)).collect() });
        }
        Ok(found)
    }

    fn new(folder: &Path, layout: Layout, cases: Vec<CaseFiles>) -> Self {
        let (channels, labels, regions, skipped) = (Vec::new(), BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self {
            folder: folder.into(),
            layout,
            channels,
            labels,
            regions,
            ignore: None,
            layer: None,
            cases,
            are_patients_known: false,
            skipped,
        }
    }

    /// Like [`DataSet::find`], but requires that no file is missing, that every training case has labels, and that
    /// nothing that looks like a case is skipped.
    ///
    /// # Errors
    /// As [`DataSet::find`], [`Error::Incomplete`], and [`Error::SkippedFile`].
    pub fn complete(folder: &Path) -> Result<Self, Error> {
        let found = Self::find(folder)?;
        for case in &found.cases {
            if let Some(missing) = case.missing.first() {
                return Err(Error::Incomplete { case: case.id.clone(), missing: missing.clone() });
            }
        }
        let problem = found.skipped.iter().find(|p| p.is_problem).cloned();
        problem.map_or(Ok(found), |SkippedFile { path, reason, .. }| Err(Error::SkippedFile { path, reason }))
    }

    /// Problems in human-readable form: missing files, and skipped files that look like a case or a part of one.
    pub fn unusable(&self) -> Vec<String> {
        let missing =
            self.cases.iter().flat_map(|case| case.missing.iter().map(|path| format!("{}: {} is missing", case.id, path.display())));
        let problems = self.skipped.iter().filter(|p| p.is_problem);
        missing.chain(problems.map(|p| format!("{} is not used: {}", p.path.display(), p.reason))).collect()
    }

    /// The index of a channel.
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub fn channel(&self, name: &str) -> Result<usize, Error> {
        let at = self.channels.iter().position(|c| c.eq_ignore_ascii_case(name));
        at.ok_or_else(|| Error::Channel { path: self.folder.clone(), wanted: name.into(), found: self.channels.join(", ") })
    }
}

//! Exports cases as data sets for other programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ndarray::Axis;

use asyndgan_files::Access;
use asyndgan_medio::{Affine, Description, Volume, write_grey, write_instances, write_labels, write_rgb, write_volume};
use asyndgan_task::{IGNORED, ImageKind, Task, UNMARKED};

use crate::{CaseSet, Error};

/// An exported data set: its task and README.
///
/// Slices of volumes are written as NIfTI, intensities from 0 to 2, one file per channel. Pictures are written as PNG.
/// Masks have the condition codes of the classes, from 1 without gaps, as nnU-Net requires.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// The task of the cases.
    pub task: Task,
    /// The text of the data set's README.md: its content, origin and limitations.
    pub card: String,
}

impl Export {
    /// Writes cases in nnU-Net's raw format, version 2. `progress` is called with the number of cases written so far.
    ///
    /// nnU-Net only finds folders named `DatasetNNN_NAME`; this function accepts any name.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Io`], [`Error::Images`].
    ///
    /// # Reference
    /// nnU-Net version 2, `documentation/dataset_format.md`.
    pub fn write_nnunet(&self, folder: &Path, cases: &CaseSet, progress: impl FnMut(usize)) -> Result<(), Error> {
        whole(folder, |place| {
            self.write_cases(&place.join("imagesTr"), &place.join("labelsTr"), true, cases, progress)?;
            let labels = self.labels(cases)?.into_iter().map(|(label, name)| (name, label.into())).chain([("background".into(), 0.into())]);
            let description = Description {
                channel_names: self.task.channels.iter().enumerate().map(|(k, c)| (k.to_string(), c.name.clone())).collect(),
                labels: labels.collect(),
                num_training: cases.len(),
                file_ending: self.ending().into(),
            };
            let text = serde_json::to_string_pretty(&description).map_err(|e| Error::unwritable(place, e))?;
            write_text(&place.join("dataset.json"), &text)?;
            write_text(&place.join("README.md"), &self.card)
        })
    }

    /// Writes cases as a folder of images, a folder of masks and a `pairs.toml`.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Io`], [`Error::Images`], or [`Error::Unwritable`] unless
    /// [`Export::has_one_file_per_image`].
    pub fn write_pairs(&self, folder: &Path, cases: &CaseSet, progress: impl FnMut(usize)) -> Result<(), Error> {
        whole(folder, |place| {
            if !self.has_one_file_per_image() {
                return Err(Error::unwritable(folder, "this layout has one file per image, but these have one per channel; use nnunet"));
            }
            self.write_cases(&place.join("images"), &place.join("masks"), false, cases, progress)?;
            let labels: toml::Table = self.labels(cases)?.into_iter().map(|(label, name)| (name, i64::from(label).into())).collect();
            let mut table: toml::Table =
                [("images", "images"), ("masks", "masks")].map(|(k, v)| (k.to_owned(), v.into())).into_iter().collect();
            table.insert("channels".into(), self.task.channels.iter().map(|c| c.name.clone()).collect::<Vec<_>>().into());
            table.insert("labels".into(), labels.into());
            write_text(&place.join("pairs.toml"), &table.to_string())?;
            write_text(&place.join("README.md"), &self.card)
        })
    }

    /// Whether an image is one file: a volume of one channel, a grey picture, or a coloured one. Other images have a
    /// file per channel.
    pub fn has_one_file_per_image(&self) -> bool {
        match self.task.images {
            ImageKind::Volumes => self.task.channels.len() == 1,
            ImageKind::Pictures => matches!(self.task.channels.len(), 1 | 3),
        }
    }

    /// Numbers and names of the classes in exported masks, and of pixels without annotation if there are any.
    fn labels(&self, cases: &CaseSet) -> Result<Vec<(u32, String)>, Error> {
        let mut labels: Vec<(u32, String)> = (1..).zip(self.task.classes.iter().map(|class| class.name.clone())).collect();
        for case in 0..cases.len() {
            if cases.condition(case)?.iter().any(|&code| code == IGNORED || code == UNMARKED) {
                labels.push((self.ignore_label(), "ignore".into()));
                break;
            }
        }
        Ok(labels)
    }

    /// The number of pixels without annotation in exported masks; nnU-Net requires the highest.
    fn ignore_label(&self) -> u32 {
        self.task.classes.len() as u32 + 1
    }

    fn ending(&self) -> &'static str {
        if self.task.images == ImageKind::Volumes { ".nii.gz" } else { ".png" }
    }

    fn write_cases(
        &self,
        images: &Path,
        masks: &Path,
        numbered: bool,
        cases: &CaseSet,
        mut progress: impl FnMut(usize),
    ) -> Result<(), Error> {
        for folder in [images, masks] {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let ending = self.ending();
        for i in 0..cases.len() {
            let case = cases.read(i)?;
            let place = |channel: usize| {
                let suffix = if numbered { format!("_{channel:04}") } else { String::new() };
                images.join(format!("{}{suffix}{ending}", case.id))
            };
            let mask = masks.join(format!("{}{ending}", case.id));
            let labels = case.condition.mapv(|code| match code {
                IGNORED | UNMARKED => self.ignore_label(),
                _ if self.task.is_class(code) => code.into(),
                _ => 0,
            });
            if self.task.images == ImageKind::Volumes {
                // No patient's millimetres belong to a synthetic slice: a pixel is written as one. Background becomes
                // 0, as MR has it.
                let affine = Affine::scaling([1.0; 3]);
                for (k, channel) in case.image.outer_iter().enumerate() {
                    write_volume(&place(k), &Volume { voxels: channel.mapv(|v| v + 1.0).insert_axis(Axis(0)), affine })?;
                }
                write_labels(&mask, &Volume { voxels: labels.insert_axis(Axis(0)), affine })?;
            } else {
                let bytes = case.image.mapv(|v| ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8);
                if bytes.len_of(Axis(0)) == 3 {
                    write_rgb(&place(0), bytes.view())?;
                } else {
                    for (k, channel) in bytes.outer_iter().enumerate() {
                        write_grey(&place(k), channel)?;
                    }
                }
                write_instances(&mask, labels.view())?;
            }
            progress(i + 1);
        }
        Ok(())
    }
}

fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    asyndgan_files::write(path, Access::Shared, text.as_bytes()).map_err(Error::io(path))
}

/// Lets `make` fill a folder beside, which then takes the place of `folder`.
fn whole(folder: &Path, make: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    if folder.exists() {
        return Err(Error::Exists { path: folder.into() });
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside: PathBuf = folder.with_file_name(format!(".{name}.partial"));
    // What an export that was killed left is no part of this one.
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(Error::io(&beside))?;
    }
    fs::create_dir_all(&beside).map_err(Error::io(&beside))?;
    let done = make(&beside).and_then(|()| fs::rename(&beside, folder).map_err(Error::io(folder)));
    if done.is_err() {
        // The first error is the one that matters.
        fs::remove_dir_all(&beside).ok();
    }
    done
}

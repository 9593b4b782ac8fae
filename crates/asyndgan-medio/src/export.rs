//! Exports cases as data sets for other programs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ndarray::Axis;

use crate::{Affine, CaseSet, Description, Error, Volume, files, write_instances, write_labels, write_rgb, write_volume};

/// The description of an exported data set: its channels, labels and README.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// Names of the image channels: one (written as NIfTI, intensities from 0 to 2), or red, green and blue (written as
    /// PNG).
    pub channels: Vec<String>,
    /// Labels by number (nnU-Net requires them to start at 1 without gaps); other condition codes become background.
    pub labels: BTreeMap<u32, String>,
    /// The text of the data set's README.md: its content, origin and limitations.
    pub card: String,
}

impl Export {
    /// Writes cases in nnU-Net's raw format, version 2. `progress` is called with the number of cases written so far.
    ///
    /// nnU-Net only finds folders named `DatasetNNN_NAME`; this function accepts any name.
    ///
    /// # Panics
    /// If images have neither one channel nor three.
    ///
    /// # Errors
    /// [`Error::Io`], also when the folder exists.
    ///
    /// # Reference
    /// nnU-Net version 2, `documentation/dataset_format.md`.
    pub fn write_nnunet(&self, folder: &Path, cases: &CaseSet, progress: impl FnMut(usize)) -> Result<(), Error> {
        whole(folder, |place| {
            self.write_cases(&place.join("imagesTr"), &place.join("labelsTr"), "_0000", cases, progress)?;
            let labels = self.labels.iter().map(|(&l, name)| (name.clone(), l.into())).chain([("background".into(), 0.into())]);
            let description = Description {
                channel_names: self.channels.iter().enumerate().map(|(k, name)| (k.to_string(), name.clone())).collect(),
                labels: labels.collect(),
                num_training: cases.len(),
                file_ending: self.ending().into(),
            };
            let text = serde_json::to_string_pretty(&description).map_err(|e| Error::unwritable(place, e))?;
            files::write(&place.join("dataset.json"), text.as_bytes())?;
            files::write(&place.join("README.md"), self.card.as_bytes())
        })
    }

    /// Writes cases as a folder of images, a folder of masks and a `pairs.toml`.
    ///
    /// # Panics
    /// If images have neither one channel nor three.
    ///
    /// # Errors
    /// [`Error::Io`], also when the folder exists.
    pub fn write_pairs(&self, folder: &Path, cases: &CaseSet, progress: impl FnMut(usize)) -> Result<(), Error> {
        whole(folder, |place| {
            self.write_cases(&place.join("images"), &place.join("masks"), "", cases, progress)?;
            let labels: toml::Table = self.labels.iter().map(|(&l, name)| (name.clone(), i64::from(l).into())).collect();
            let mut table: toml::Table =
                [("images", "images"), ("masks", "masks")].map(|(k, v)| (k.to_owned(), v.into())).into_iter().collect();
            table.insert("channels".into(), self.channels.clone().into());
            table.insert("labels".into(), labels.into());
            files::write(&place.join("pairs.toml"), table.to_string().as_bytes())?;
            files::write(&place.join("README.md"), self.card.as_bytes())
        })
    }

    fn ending(&self) -> &'static str {
        if self.channels.len() == 1 { ".nii.gz" } else { ".png" }
    }

    fn write_cases(
        &self,
        images: &Path,
        masks: &Path,
        suffix: &str,
        cases: &CaseSet,
        mut progress: impl FnMut(usize),
    ) -> Result<(), Error> {
        for folder in [images, masks] {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let ending = self.ending();
        for i in 0..cases.len() {
            let case = cases.read(i)?;
            let (image, mask) = (images.join(format!("{}{suffix}{ending}", case.id)), masks.join(format!("{}{ending}", case.id)));
            let labels = case.condition.mapv(|code| if self.labels.contains_key(&code.into()) { u32::from(code) } else { 0 });
            match case.image.len_of(Axis(0)) {
                1 => {
                    // No patient's millimetres belong to a synthetic slice: a pixel is written as one. Background becomes 0, as MR has it.
                    let affine = Affine::scaling([1.0; 3]);
                    write_volume(&image, &Volume { voxels: case.image + 1.0, affine })?;
                    write_labels(&mask, &Volume { voxels: labels.insert_axis(Axis(0)), affine })?;
                }
                3 => {
                    write_rgb(&image, case.image.mapv(|v| ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8).view())?;
                    write_instances(&mask, labels.view())?;
                }
                other => panic!("images have one channel or three, these have {other}"),
            }
            progress(i + 1);
        }
        Ok(())
    }
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

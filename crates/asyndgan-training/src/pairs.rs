use std::collections::BTreeMap;

use asyndgan_data::CaseSet;
use asyndgan_protocol::Augmentation;
use asyndgan_task::ImageDescription;
use ndarray::{Array2, Array3};
use tch::{Kind, Tensor};

use crate::{
    Error,
    tensors::{augmented, choose},
};

/// Images with their conditions. Conditions are in memory, because they are sent as a whole; images are in memory or on
/// disk.
#[derive(Debug)]
pub struct Pairs {
    images: Images,
    label_maps: Tensor,
    description: Option<ImageDescription>,
    /// 1 for each channel that a case has, and 0 for the others, `[cases, channels, 1, 1]`; `None` if all have all
    /// channels.
    present: Option<Tensor>,
    /// The patient of each case; all cases of unknown patients share one number, because they may be of the same
    /// patient.
    patients: Vec<u32>,
}

/// The number of all patients that are not known.
const UNKNOWN: u32 = u32::MAX;

#[derive(Debug)]
enum Images {
    Memory(Tensor),
    /// Only the images of a batch are read, so that a site's cases need not fit into memory.
    Disk(CaseSet),
}

impl Pairs {
    /// Pairs in memory.
    ///
    /// # Shapes
    /// Images in [-1, 1] `[cases, channels, rows, columns]` with label maps (bytes) `[cases, 1, rows, columns]`, or
    /// values `[cases, values]` with one code each `[cases, 1]`.
    ///
    /// # Panics
    /// If there are not as many label maps as images.
    pub fn new(images: Tensor, label_maps: Tensor) -> Self {
        assert_eq!(images.size()[0], label_maps.size()[0], "one condition per image is needed");
        let patients = (0..label_maps.size()[0] as u32).collect();
        Self { images: Images::Memory(images), label_maps, description: None, present: None, patients }
    }

    /// These pairs with the patient of each case, as a number.
    ///
    /// # Panics
    /// If there is not one patient per case.
    #[must_use]
    pub fn with_patients(mut self, patients: Vec<u32>) -> Self {
        assert_eq!(patients.len(), self.patients.len(), "a patient for every case");
        self.patients = patients;
        self
    }

    /// Prepared cases on disk.
    ///
    /// # Errors
    /// [`Error::Data`] if a condition cannot be read, [`Error::NoCases`] if there are no cases.
    pub fn of_cases(cases: CaseSet) -> Result<Self, Error> {
        let label_maps = (0..cases.len()).map(|i| Ok(tensor_2(&cases.condition(i)?))).collect::<Result<Vec<_>, Error>>()?;
        if label_maps.is_empty() {
            return Err(Error::NoCases);
        }
        let (patients, description, present) = (numbered(&cases), cases.images().cloned(), present(&cases));
        Ok(Self { images: Images::Disk(cases), description, present, label_maps: Tensor::stack(&label_maps, 0).unsqueeze(1), patients })
    }

    /// Values with one code each, for data that are not images.
    ///
    /// # Panics
    /// If there are not as many labels as values.
    pub fn of_values(values: &[f64], labels: &[u8]) -> Self {
        Self::new(Tensor::from_slice(values).to_kind(Kind::Float).unsqueeze(1), Tensor::from_slice(labels).unsqueeze(1))
    }

    /// Number of pairs.
    pub fn count(&self) -> i64 {
        self.label_maps.size()[0]
    }

    /// Label maps of the conditions (bytes), `[cases, 1, rows, columns]`, or `[cases, 1]`.
    pub fn label_maps(&self) -> &Tensor {
        &self.label_maps
    }

    /// The task and scale of the images, if their files name them.
    pub fn description(&self) -> Option<&ImageDescription> {
        self.description.as_ref()
    }

    /// The same pairs, some of which lack channels.
    ///
    /// # Shapes
    /// 1 for each channel that a case has, and 0 for the others, `[cases, channels, 1, 1]`.
    ///
    /// # Panics
    /// If there is not a row for every case.
    #[must_use]
    pub fn with_present_channels(self, present: Tensor) -> Self {
        assert_eq!(present.size()[0], self.count(), "a row for every case");
        Self { present: Some(present), ..self }
    }

    /// Which channels the chosen cases have, `[batch, channels, 1, 1]`; `None` if all cases have all channels.
    pub(crate) fn present(&self, cases: &[u32]) -> Option<Tensor> {
        let chosen: Vec<i64> = cases.iter().map(|&case| case.into()).collect();
        self.present.as_ref().map(|present| present.index_select(0, &Tensor::from_slice(&chosen)))
    }

    /// The patient of each case, as a number; all cases of unknown patients have the same.
    pub fn patients(&self) -> Vec<u32> {
        self.patients.clone()
    }

    /// Number of cases whose patient is not known.
    pub fn unknown_patients(&self) -> usize {
        self.patients.iter().filter(|&&patient| patient == UNKNOWN).count()
    }

    /// One image's channels, rows and columns, or its number of values.
    pub(crate) fn image_dims(&self) -> Vec<u32> {
        match &self.images {
            Images::Memory(images) => images.size()[1..].iter().map(|&d| d as u32).collect(),
            Images::Disk(cases) => cases.image_shape().map_or_else(Vec::new, |s| s.map(|d| d as u32).to_vec()),
        }
    }

    /// Chosen images with their conditions, cropped and flipped as given by `augmentations`.
    ///
    /// # Shapes
    /// Images `[batch, channels, crop, crop]` and label maps `[batch, 1, crop, crop]`, or `[batch, values]` and
    /// `[batch, 1]`.
    pub(crate) fn choose(&self, cases: &[u32], augmentations: &[Augmentation], crop: u32) -> Result<(Tensor, Tensor), Error> {
        let images = match &self.images {
            Images::Memory(images) => choose(images, cases, augmentations, crop),
            Images::Disk(set) => {
                let one = |(&case, a): (&u32, &Augmentation)| Ok(augmented(&tensor_3(&set.read(case as usize)?.image), a, crop));
                Tensor::stack(&cases.iter().zip(augmentations).map(one).collect::<Result<Vec<_>, Error>>()?, 0)
            }
        };
        Ok((images, choose(&self.label_maps, cases, augmentations, crop)))
    }
}

/// 1 for each channel that a case has, and 0 for the others.
fn present(cases: &CaseSet) -> Option<Tensor> {
    let channels = cases.image_shape().map_or(0, |shape| shape[0]);
    let row = |case: usize| (0..channels).map(move |channel| f32::from(u8::from(!cases.absent_channels(case).contains(&channel))));
    let rows: Vec<f32> = (0..cases.len()).flat_map(row).collect();
    rows.contains(&0.0).then(|| Tensor::from_slice(&rows).view([cases.len() as i64, channels as i64, 1, 1]))
}

/// The cases of one patient have the number of its first case; those of unknown patients are treated as one patient's.
fn numbered(cases: &CaseSet) -> Vec<u32> {
    let mut first = BTreeMap::<&str, u32>::new();
    let number = |case: u32| cases.patient(case as usize).map_or(UNKNOWN, |patient| *first.entry(patient).or_insert(case));
    (0..cases.len() as u32).map(number).collect()
}

fn tensor_2(label_map: &Array2<u8>) -> Tensor {
    let (rows, columns) = label_map.dim();
    Tensor::from_slice(label_map.as_slice().expect("read in order")).view([rows as i64, columns as i64])
}

fn tensor_3(image: &Array3<f32>) -> Tensor {
    let (channels, rows, columns) = image.dim();
    Tensor::from_slice(image.as_slice().expect("read in order")).view([channels as i64, rows as i64, columns as i64])
}

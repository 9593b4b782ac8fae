//! Writes prepared cases.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use asyndgan_files::Access;
use asyndgan_task::ImageDescription;
use ndarray::{Array, Axis, Dimension};
use safetensors::{Dtype, View};

use super::{ABSENT_CHANNELS, ABSENT_CLASSES, SIZE};
use crate::{Case, Error, Placement, TestCase};

/// Origin and description of the cases of one file.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct CaseOrigin<'a> {
    /// The patient of all cases; none for synthetic cases.
    pub patient: Option<&'a str>,
    /// The task and scale of the images.
    pub images: Option<&'a ImageDescription>,
    /// Rows and columns that slices were resized to; none if the images have all of them. Crops have fewer.
    pub size: Option<usize>,
    /// Indices of the channels that the cases do not have; they must be 0.
    pub absent_channels: &'a [usize],
    /// Indices of the classes that the site does not mark.
    pub absent_classes: &'a [usize],
}

impl CaseOrigin<'_> {
    /// The same with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Atomically writes cases of the same shape to one safetensors file (`images`, `conditions`).
///
/// # Panics
/// If the cases differ in shape, or if `cases` is empty.
///
/// # Errors
/// [`Error::Io`].
pub fn write_cases(path: &Path, origin: CaseOrigin, cases: &[Case]) -> Result<(), Error> {
    let images: Vec<_> = cases.iter().map(|c| c.image.view()).collect();
    let images = ndarray::stack(Axis(0), &images).expect("cases of one shape");
    let conditions: Vec<_> = cases.iter().map(|c| c.condition.view()).collect();
    let conditions = ndarray::stack(Axis(0), &conditions).expect("cases of one shape");
    let tensors = BTreeMap::from([
        ("images", raw(Dtype::F32, &images, |v| v.to_le_bytes().to_vec())),
        ("conditions", raw(Dtype::U8, &conditions, |v| vec![v])),
    ]);
    let patient = origin.patient.unwrap_or_default();
    let ids = cases.iter().map(|c| format!("{}\t{patient}", c.id)).collect::<Vec<_>>().join("\n");
    let images = origin.images.map(serde_json::to_string).transpose().map_err(|e| Error::unwritable(path, e))?;
    let noted = |indices: &[usize]| (!indices.is_empty()).then(|| format!("{indices:?}"));
    let (channels, classes) = (noted(origin.absent_channels), noted(origin.absent_classes));
    let size = origin.size.map(|size| size.to_string());
    write(path, &tensors, [("ids", Some(ids)), ("images", images), (SIZE, size), (ABSENT_CHANNELS, channels), (ABSENT_CLASSES, classes)])
}

/// Atomically writes one held-out case to a safetensors file (`images`, `truth`, `spacing_mm`, and `content` if the
/// images are padded, each with a leading axis of 1).
///
/// # Errors
/// [`Error::Io`].
pub fn write_test_case(path: &Path, case: &TestCase) -> Result<(), Error> {
    let spacing = ndarray::arr1(&case.spacing_mm).insert_axis(Axis(0));
    let mut tensors = BTreeMap::from([
        ("images", raw(Dtype::F32, &case.images.view().insert_axis(Axis(0)).to_owned(), |v| v.to_le_bytes().to_vec())),
        ("truth", raw(Dtype::U32, &case.truth.view().insert_axis(Axis(0)).to_owned(), |v| v.to_le_bytes().to_vec())),
        ("spacing_mm", raw(Dtype::F64, &spacing, |v| v.to_le_bytes().to_vec())),
    ]);
    let Placement { top, left, rows, columns } = case.content;
    let (_, _, height, width) = case.images.dim();
    if case.content != Placement::whole(height, width) {
        let content = ndarray::arr1(&[top, left, rows, columns].map(|n| n as u32)).insert_axis(Axis(0));
        tensors.insert("content", raw(Dtype::U32, &content, |v| v.to_le_bytes().to_vec()));
    }
    write(path, &tensors, [("ids", Some(case.id.clone()))])
}

struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Raw {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn raw<T: Copy, D: Dimension>(dtype: Dtype, array: &Array<T, D>, bytes: impl Fn(T) -> Vec<u8>) -> Raw {
    Raw { dtype, shape: array.shape().into(), bytes: array.iter().flat_map(|&v| bytes(v)).collect() }
}

fn write<const N: usize>(path: &Path, tensors: &BTreeMap<&str, Raw>, notes: [(&str, Option<String>); N]) -> Result<(), Error> {
    let notes = notes.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?))).collect();
    let bytes = safetensors::serialize(tensors, Some(notes)).map_err(|e| Error::unwritable(path, e))?;
    asyndgan_files::write(path, Access::Private, &bytes).map_err(Error::io(path))
}

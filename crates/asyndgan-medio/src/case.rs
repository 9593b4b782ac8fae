//! What training and scoring take, and how prepared cases lie on disk.

use std::{borrow::Cow, collections::BTreeMap, fs, io::Write as _, path::Path};

use ndarray::{Array2, Array3, Array4, Axis};
use safetensors::{Dtype, SafeTensors, View};

use crate::Error;

/// One patient's brain: a T2 volume with its tumour labels.
#[derive(Debug, Clone)]
pub struct Brain {
    /// The patient's name in the data set.
    pub id: String,
    /// Intensities, `[slices, rows, columns]`.
    pub t2: Array3<f32>,
    /// Tumour labels of the same shape: 0 none, 1 necrotic core, 2 oedema, 3 enhancing (BraTS writes 4).
    pub labels: Array3<u8>,
    /// Millimetres between neighbours along those axes.
    pub spacing_mm: [f64; 3],
}

/// One stained tissue tile with its nuclei.
#[derive(Debug, Clone)]
pub struct Tile {
    /// The tile's name in the data set.
    pub id: String,
    /// Red, green, blue in 0..=255, `[3, rows, columns]`.
    pub rgb: Array3<f32>,
    /// Instance labels, `[rows, columns]`, 0 is background.
    pub instances: Array2<u32>,
}

/// An image with its condition, ready for training.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Which patient or tile, and where in it.
    pub id: String,
    /// Intensities in [-1, 1], `[channels, rows, columns]`.
    pub image: Array3<f32>,
    /// Condition codes, `[rows, columns]`, 0 is nothing.
    pub condition: Array2<u8>,
}

/// A held-out volume or tile: what the segmenter sees, and the truth on the original grid.
#[derive(Debug, Clone, PartialEq)]
pub struct TestCase {
    /// The patient's or tile's name.
    pub id: String,
    /// Intensities in [-1, 1], `[slices, channels, rows, columns]`.
    pub images: Array4<f32>,
    /// Labels on the original grid, `[slices, original rows, original columns]`: tumour labels or instances.
    pub truth: Array3<u32>,
    /// Millimetres between neighbours of the truth along its axes.
    pub spacing_mm: [f64; 3],
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

fn f32s(shape: &[usize], values: impl Iterator<Item = f32>) -> Raw {
    Raw { dtype: Dtype::F32, shape: shape.into(), bytes: values.flat_map(f32::to_le_bytes).collect() }
}

/// Writes cases of one shape into one safetensors file (`images`, `conditions`), whole or not at all.
///
/// # Errors
/// [`Error::Io`].
///
/// # Panics
/// If the cases differ in shape or there is none.
pub fn write_cases(path: &Path, cases: &[Case]) -> Result<(), Error> {
    let images: Vec<_> = cases.iter().map(|c| c.image.view()).collect();
    let images = ndarray::stack(Axis(0), &images).expect("cases of one shape");
    let conditions: Vec<_> = cases.iter().map(|c| c.condition.view()).collect();
    let conditions = ndarray::stack(Axis(0), &conditions).expect("cases of one shape");
    let tensors = BTreeMap::from([
        ("images", f32s(images.shape(), images.iter().copied())),
        ("conditions", Raw { dtype: Dtype::U8, shape: conditions.shape().into(), bytes: conditions.iter().copied().collect() }),
    ]);
    let ids = cases.iter().map(|c| c.id.as_str()).collect::<Vec<_>>().join("\n");
    write(path, &tensors, &[("ids", ids)])
}

/// Reads what [`write_cases`] wrote.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unreadable`] when the file is not such a set.
pub fn read_cases(path: &Path) -> Result<Vec<Case>, Error> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let (tensors, ids) = parse(path, &bytes)?;
    let images: Array4<f32> = array(path, &tensors, "images", Dtype::F32, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]), 4)?;
    let conditions: Array3<u8> = array(path, &tensors, "conditions", Dtype::U8, |b| b[0], 1)?;
    if images.len_of(Axis(0)) != ids.len() || conditions.len_of(Axis(0)) != ids.len() {
        return Err(Error::unreadable(path, "its images, conditions and names differ in number"));
    }
    let pairs = images.axis_iter(Axis(0)).zip(conditions.axis_iter(Axis(0))).zip(ids);
    Ok(pairs.map(|((image, condition), id)| Case { id, image: image.to_owned(), condition: condition.to_owned() }).collect())
}

/// Writes held-out cases, which may differ in shape, into one safetensors file, whole or not at all.
///
/// # Errors
/// [`Error::Io`].
pub fn write_test_cases(path: &Path, cases: &[TestCase]) -> Result<(), Error> {
    let mut tensors = BTreeMap::new();
    for (i, case) in cases.iter().enumerate() {
        tensors.insert(format!("{i}.images"), f32s(case.images.shape(), case.images.iter().copied()));
        let truth = case.truth.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensors.insert(format!("{i}.truth"), Raw { dtype: Dtype::U32, shape: case.truth.shape().into(), bytes: truth });
        tensors.insert(
            format!("{i}.spacing_mm"),
            Raw { dtype: Dtype::F64, shape: vec![3], bytes: case.spacing_mm.iter().flat_map(|v| v.to_le_bytes()).collect() },
        );
    }
    let ids = cases.iter().map(|c| c.id.as_str()).collect::<Vec<_>>().join("\n");
    write(path, &tensors, &[("ids", ids)])
}

/// Reads what [`write_test_cases`] wrote.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unreadable`] when the file is not such a set.
pub fn read_test_cases(path: &Path) -> Result<Vec<TestCase>, Error> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let (tensors, ids) = parse(path, &bytes)?;
    let word = |b: &[u8]| [b[0], b[1], b[2], b[3]];
    ids.into_iter()
        .enumerate()
        .map(|(i, id)| {
            let images = array(path, &tensors, &format!("{i}.images"), Dtype::F32, |b| f32::from_le_bytes(word(b)), 4)?;
            let truth = array(path, &tensors, &format!("{i}.truth"), Dtype::U32, |b| u32::from_le_bytes(word(b)), 4)?;
            let eight = |b: &[u8]| f64::from_le_bytes(std::array::from_fn(|k| b[k]));
            let spacing: ndarray::Array1<f64> = array(path, &tensors, &format!("{i}.spacing_mm"), Dtype::F64, eight, 8)?;
            let spacing_mm =
                <[f64; 3]>::try_from(spacing.to_vec()).map_err(|_| Error::unreadable(path, "a spacing is not of three axes"))?;
            Ok(TestCase { id, images, truth, spacing_mm })
        })
        .collect()
}

fn write<S: AsRef<str> + Ord + std::fmt::Display>(path: &Path, tensors: &BTreeMap<S, Raw>, notes: &[(&str, String)]) -> Result<(), Error> {
    let notes = notes.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let bytes =
        safetensors::serialize(tensors.iter().map(|(k, v)| (k.as_ref(), v)), Some(notes)).map_err(|e| Error::unreadable(path, e))?;
    let beside = path.with_extension("partial");
    let save = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    save().map_err(Error::io(path))
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<(SafeTensors<'a>, Vec<String>), Error> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| Error::unreadable(path, e))?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| Error::unreadable(path, e))?;
    let ids = header.metadata().as_ref().and_then(|m| m.get("ids")).ok_or_else(|| Error::unreadable(path, "it names no cases"))?;
    let ids = ids.lines().map(str::to_owned).collect();
    Ok((tensors, ids))
}

fn array<T, D: ndarray::Dimension>(
    path: &Path,
    tensors: &SafeTensors,
    name: &str,
    dtype: Dtype,
    value: impl Fn(&[u8]) -> T,
    width: usize,
) -> Result<ndarray::Array<T, D>, Error> {
    let tensor = tensors.tensor(name).map_err(|e| Error::unreadable(path, e))?;
    if tensor.dtype() != dtype {
        return Err(Error::unreadable(path, format!("{name} is {:?}, expected {dtype:?}", tensor.dtype())));
    }
    let values = tensor.data().chunks_exact(width).map(value).collect();
    ndarray::ArrayD::from_shape_vec(tensor.shape(), values)
        .ok()
        .and_then(|a| a.into_dimensionality().ok())
        .ok_or_else(|| Error::unreadable(path, format!("{name} has shape {:?}", tensor.shape())))
}

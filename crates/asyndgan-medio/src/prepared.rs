//! Prepared cases on disk: safetensors files that are read one case at a time.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use asyndgan_files::Access;
use ndarray::{Array, Axis, Dimension};
use safetensors::{Dtype, View, tensor::Metadata};

use crate::{Case, Error, TestCase, files};

/// Headers beyond this are refused.
const HEADER_BYTES_MAX: u64 = 64 << 20;

/// Cases of the same shape in one or more files, in the order of the file names. Cases are read into memory on demand.
#[derive(Debug)]
pub struct CaseSet {
    files: Vec<Stored>,
    /// For each case: its file and its number there.
    cases: Vec<(usize, usize)>,
}

impl CaseSet {
    /// Opens files written by [`write_cases`], or folders of such files.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Unreadable`] if a file is not such a set, or [`Error::Unsupported`] if images differ in
    /// shape from those of the first file.
    pub fn open(places: &[PathBuf]) -> Result<Self, Error> {
        let (mut opened, mut cases) = (Vec::<Stored>::new(), Vec::new());
        for path in listed(places)? {
            let stored = Stored::open(&path)?;
            let (images, conditions) = (stored.shape("images", Dtype::F32, 4)?, stored.shape("conditions", Dtype::U8, 3)?);
            let grid = [images[0], images[2], images[3]];
            if images[0] != stored.names.len() || conditions != grid {
                return Err(Error::unreadable(&path, "its images, conditions and names differ in number or shape"));
            }
            if let Some(first) = opened.first() {
                let expected = first.shape("images", Dtype::F32, 4)?;
                if images[1..] != expected[1..] {
                    let (found, expected, first) = (&images[1..], &expected[1..], first.path.display());
                    let fact = format!("its images are {found:?}, but those of {first} are {expected:?}; all must have the same size");
                    return Err(Error::unsupported(&path, fact));
                }
            }
            cases.extend((0..stored.names.len()).map(|n| (opened.len(), n)));
            opened.push(stored);
        }
        Ok(Self { files: opened, cases })
    }

    /// Number of cases.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Channels, rows and columns of every image; none if the set is empty.
    pub fn image_shape(&self) -> Option<[usize; 3]> {
        let shape = self.files.first()?.shape("images", Dtype::F32, 4).ok()?;
        Some([shape[1], shape[2], shape[3]])
    }

    /// A case's name.
    ///
    /// # Panics
    /// If there is no such case.
    pub fn id(&self, case: usize) -> &str {
        &self.name(case).id
    }

    /// The patient of a case; none if its file does not specify one, as for synthetic cases.
    ///
    /// # Panics
    /// If there is no such case.
    pub fn patient(&self, case: usize) -> Option<&str> {
        self.name(case).patient.as_deref()
    }

    fn name(&self, case: usize) -> &Name {
        let (file, number) = self.cases[case];
        &self.files[file].names[number]
    }

    /// Reads one case.
    ///
    /// # Panics
    /// If there is no such case.
    ///
    /// # Errors
    /// [`Error::Io`] if the file can no longer be read.
    pub fn read(&self, case: usize) -> Result<Case, Error> {
        let (file, number) = self.cases[case];
        let image = self.files[file].part("images", number, 4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))?;
        Ok(Case { id: self.id(case).into(), image, condition: self.condition(case)? })
    }

    /// Reads only the condition of one case.
    ///
    /// # Panics
    /// If there is no such case.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn condition(&self, case: usize) -> Result<ndarray::Array2<u8>, Error> {
        let (file, number) = self.cases[case];
        self.files[file].part("conditions", number, 1, |b| b[0])
    }
}

/// Held-out cases, one per file, in the order of the file names. Cases are read into memory on demand.
#[derive(Debug, Clone)]
pub struct TestSet(Vec<PathBuf>);

impl TestSet {
    /// Lists a folder's cases.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Ok(Self(listed(&[folder.into()])?))
    }

    /// Number of cases.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads one case.
    ///
    /// # Panics
    /// If there is no such case.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Unreadable`].
    pub fn read(&self, case: usize) -> Result<TestCase, Error> {
        let stored = Stored::open(&self.0[case])?;
        let id = stored.names.first().map(|name| name.id.clone()).ok_or_else(|| Error::unreadable(&self.0[case], "it lists no case"))?;
        let whole = |b: &[u8]| [b[0], b[1], b[2], b[3]];
        stored.shape("images", Dtype::F32, 5)?;
        stored.shape("truth", Dtype::U32, 4)?;
        let images = stored.part("images", 0, 4, |b| f32::from_le_bytes(whole(b)))?;
        let truth = stored.part("truth", 0, 4, |b| u32::from_le_bytes(whole(b)))?;
        stored.shape("spacing_mm", Dtype::F64, 2)?;
        let spacing: ndarray::Array1<f64> = stored.part("spacing_mm", 0, 8, |b| f64::from_le_bytes(std::array::from_fn(|k| b[k])))?;
        let spacing_mm = spacing.to_vec().try_into().map_err(|_| Error::unreadable(&self.0[case], "its spacing must have three values"))?;
        Ok(TestCase { id, images, truth, spacing_mm })
    }
}

/// Atomically writes cases of the same shape to one safetensors file (`images`, `conditions`). All cases belong to the
/// same patient, or to none.
///
/// # Panics
/// If the cases differ in shape, or if `cases` is empty.
///
/// # Errors
/// [`Error::Io`].
pub fn write_cases(path: &Path, patient: Option<&str>, cases: &[Case]) -> Result<(), Error> {
    let images: Vec<_> = cases.iter().map(|c| c.image.view()).collect();
    let images = ndarray::stack(Axis(0), &images).expect("cases of one shape");
    let conditions: Vec<_> = cases.iter().map(|c| c.condition.view()).collect();
    let conditions = ndarray::stack(Axis(0), &conditions).expect("cases of one shape");
    let tensors = BTreeMap::from([
        ("images", raw(Dtype::F32, &images, |v| v.to_le_bytes().to_vec())),
        ("conditions", raw(Dtype::U8, &conditions, |v| vec![v])),
    ]);
    let patient = patient.unwrap_or_default();
    write(path, &tensors, cases.iter().map(|c| format!("{}\t{patient}", c.id)).collect::<Vec<_>>().join("\n"))
}

/// Atomically writes one held-out case to a safetensors file (`images`, `truth`, `spacing_mm`, each with a leading axis
/// of 1).
///
/// # Errors
/// [`Error::Io`].
pub fn write_test_case(path: &Path, case: &TestCase) -> Result<(), Error> {
    let spacing = ndarray::arr1(&case.spacing_mm).insert_axis(Axis(0));
    let tensors = BTreeMap::from([
        ("images", raw(Dtype::F32, &case.images.view().insert_axis(Axis(0)).to_owned(), |v| v.to_le_bytes().to_vec())),
        ("truth", raw(Dtype::U32, &case.truth.view().insert_axis(Axis(0)).to_owned(), |v| v.to_le_bytes().to_vec())),
        ("spacing_mm", raw(Dtype::F64, &spacing, |v| v.to_le_bytes().to_vec())),
    ]);
    write(path, &tensors, case.id.clone())
}

/// Files themselves, and the safetensors files of folders in the order of their names.
fn listed(places: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for place in places {
        if place.is_dir() {
            found.extend(files::entries(place)?.into_iter().filter(|p| p.extension().is_some_and(|e| e == "safetensors")));
        } else {
            found.push(place.clone());
        }
    }
    Ok(found)
}

/// A file and where its tensors lie; it is open only while something is read, for there may be more files than a process may open.
#[derive(Debug)]
struct Stored {
    path: PathBuf,
    metadata: Metadata,
    data_start: u64,
    names: Vec<Name>,
}

/// A case's name, and its patient's.
#[derive(Debug)]
struct Name {
    id: String,
    patient: Option<String>,
}

impl Name {
    /// A line has the case's name and, behind a tab, the patient's.
    fn of(line: &str) -> Self {
        let (id, patient) = line.rsplit_once('\t').unwrap_or((line, ""));
        Self { id: id.into(), patient: Some(patient.into()).filter(|p: &String| !p.is_empty()) }
    }
}

impl Stored {
    fn open(path: &Path) -> Result<Self, Error> {
        let mut file = File::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?.len();
        let mut size = [0; 8];
        file.read_exact(&mut size).map_err(|_| Error::unreadable(path, "it is too short to be a prepared set"))?;
        let header = u64::from_le_bytes(size);
        if header > HEADER_BYTES_MAX || header + 8 > length {
            return Err(Error::unreadable(path, format!("its header declares {header} bytes, but the file has {length}")));
        }
        let mut start = size.to_vec();
        start.resize(8 + header as usize, 0);
        file.read_exact(&mut start[8..]).map_err(Error::io(path))?;
        // The header alone is no whole file to the library's checked constructor, so it is read as the JSON that it is.
        let metadata: Metadata = serde_json::from_slice(&start[8..]).map_err(|e| Error::unreadable(path, e))?;
        let data_start = 8 + header;
        let end = metadata.tensors().values().map(|t| t.data_offsets.1).max().unwrap_or(0);
        if data_start.checked_add(end as u64) != Some(length) {
            return Err(Error::unreadable(
                path,
                format!("its size is wrong: its tensors end at byte {end} after the header, but the file has {length} bytes"),
            ));
        }
        let ids = metadata.metadata().as_ref().and_then(|m| m.get("ids")).ok_or_else(|| Error::unreadable(path, "it lists no cases"))?;
        let names = ids.lines().map(Name::of).collect();
        Ok(Self { path: path.into(), metadata, data_start, names })
    }

    /// The shape of a tensor of this type and number of axes.
    fn shape(&self, name: &str, dtype: Dtype, axes: usize) -> Result<Vec<usize>, Error> {
        let info = self.metadata.info(name).ok_or_else(|| Error::unreadable(&self.path, format!("it has no tensor {name}")))?;
        let bytes = info.shape.iter().try_fold(info.dtype.bitsize() / 8, |n, &d| n.checked_mul(d));
        let declared = info.data_offsets.1.checked_sub(info.data_offsets.0);
        if info.dtype != dtype || info.shape.len() != axes || bytes.is_none() || bytes != declared {
            let fact = format!("{name} is {:?} of shape {:?}; expected {dtype:?} with {axes} axes", info.dtype, info.shape);
            return Err(Error::unreadable(&self.path, fact));
        }
        Ok(info.shape.clone())
    }

    /// One element along the first axis, read from the disk.
    fn part<T, D: Dimension>(&self, name: &str, number: usize, width: usize, value: impl Fn(&[u8]) -> T) -> Result<Array<T, D>, Error> {
        let info = self.metadata.info(name).ok_or_else(|| Error::unreadable(&self.path, format!("it has no tensor {name}")))?;
        let (&count, shape) = info.shape.split_first().unwrap_or((&0, &[]));
        if number >= count {
            return Err(Error::unreadable(&self.path, format!("it contains {count} of {name}, but index {number} was requested")));
        }
        let length = shape.iter().product::<usize>() * width;
        let start = self.data_start + info.data_offsets.0 as u64 + number as u64 * length as u64;
        let mut bytes = vec![0; length];
        let mut file = File::open(&self.path).map_err(Error::io(&self.path))?;
        file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut bytes)).map_err(Error::io(&self.path))?;
        let values = bytes.chunks_exact(width).map(value).collect();
        let array = ndarray::ArrayD::from_shape_vec(shape, values).ok().and_then(|a| a.into_dimensionality().ok());
        array.ok_or_else(|| Error::unreadable(&self.path, format!("{name} has shape {:?}", info.shape)))
    }
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

fn write(path: &Path, tensors: &BTreeMap<&str, Raw>, ids: String) -> Result<(), Error> {
    let notes = [("ids".to_owned(), ids)].into();
    let bytes = safetensors::serialize(tensors, Some(notes)).map_err(|e| Error::unwritable(path, e))?;
    asyndgan_files::write(path, Access::Private, &bytes).map_err(Error::io(path))
}

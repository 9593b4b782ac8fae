//! Prepared cases on disk: safetensors files that are read one case at a time.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use asyndgan_files::Access;
use asyndgan_task::ImageDescription;
use ndarray::{Array, Axis, Dimension};
use safetensors::{Dtype, View, tensor::Metadata};

use crate::{Case, Error, Placement, TestCase};

/// The note in a file's header with the channels that its cases do not have.
const ABSENT_CHANNELS: &str = "absent_channels";

/// Headers beyond this are refused.
const HEADER_BYTES_MAX: u64 = 64 << 20;

/// Cases of the same shape in one or more files, in the order of the file names. Cases are read into memory on demand.
#[derive(Debug)]
pub struct CaseSet {
    images: Option<ImageDescription>,
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
        let (mut opened, mut cases, mut described) = (Vec::<Stored>::new(), Vec::new(), None::<ImageDescription>);
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
            if let Some(channel) = stored.absent_channels.iter().find(|&&channel| channel >= images[1]) {
                return Err(Error::unreadable(&path, format!("it lacks channel {channel}, but its images have {}", images[1])));
            }
            if let Some(own) = stored.description()? {
                match described.as_ref().and_then(|first| first.mismatch(&own)) {
                    Some(mismatch) => return Err(Error::unsupported(&path, format!("it was prepared for other images; {mismatch}"))),
                    None => described = described.or(Some(own)),
                }
            }
            cases.extend((0..stored.names.len()).map(|n| (opened.len(), n)));
            opened.push(stored);
        }
        Ok(Self { images: described, files: opened, cases })
    }

    /// The task and scale of the images, if their files name them.
    pub fn images(&self) -> Option<&ImageDescription> {
        self.images.as_ref()
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

    /// Indices of the channels that a case does not have; they are 0.
    ///
    /// # Panics
    /// If there is no such case.
    pub fn absent_channels(&self, case: usize) -> &[usize] {
        &self.files[self.cases[case].0].absent_channels
    }

    /// Indices of the channels that no case has.
    pub fn channels_absent_everywhere(&self) -> Vec<usize> {
        let channels = self.image_shape().map_or(0, |shape| shape[0]);
        (0..channels).filter(|channel| self.files.iter().all(|file| file.absent_channels.contains(channel))).collect()
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
        let content = stored.content(images.dim())?;
        Ok(TestCase { id, images, content, truth, spacing_mm })
    }
}

/// Origin and description of the cases of one file.
#[derive(Debug, Clone, Copy, Default)]
pub struct CaseOrigin<'a> {
    /// The patient of all cases; none for synthetic cases.
    pub patient: Option<&'a str>,
    /// The task and scale of the images.
    pub images: Option<&'a ImageDescription>,
    /// Indices of the channels that the cases do not have; they must be 0.
    pub absent_channels: &'a [usize],
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
    let absent = (!origin.absent_channels.is_empty()).then(|| serde_json::to_string(origin.absent_channels)).transpose();
    let absent = absent.map_err(|e| Error::unwritable(path, e))?;
    write(path, &tensors, [("ids", Some(ids)), ("images", images), (ABSENT_CHANNELS, absent)])
}

/// Atomically writes one held-out case to a safetensors file (`images`, `truth`, `spacing_mm`, and `content` if the images
/// are padded, each with a leading axis of 1).
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

/// Files themselves, and the safetensors files of folders in the order of their names.
fn listed(places: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for place in places {
        if place.is_dir() {
            found.extend(entries(place)?.into_iter().filter(|p| p.extension().is_some_and(|e| e == "safetensors")));
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
    absent_channels: Vec<usize>,
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
        let absent = metadata.metadata().as_ref().and_then(|notes| notes.get(ABSENT_CHANNELS));
        let absent = absent.map(|text| serde_json::from_str(text)).transpose().map_err(|e| Error::unreadable(path, e))?;
        Ok(Self { path: path.into(), metadata, data_start, names, absent_channels: absent.unwrap_or_default() })
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

    /// The task and scale of the images.
    fn description(&self) -> Result<Option<ImageDescription>, Error> {
        let text = self.metadata.metadata().as_ref().and_then(|notes| notes.get("images"));
        let read = |text: &String| {
            let found: ImageDescription = serde_json::from_str(text).map_err(|e| Error::unreadable(&self.path, e))?;
            found.task.check().map_err(|e| Error::unreadable(&self.path, e))?;
            Ok(found)
        };
        text.map(read).transpose()
    }

    /// The part of padded images that shows the original grid: all of them if nothing is stored.
    fn content(&self, (_, _, height, width): (usize, usize, usize, usize)) -> Result<Placement, Error> {
        if self.metadata.info("content").is_none() {
            return Ok(Placement::whole(height, width));
        }
        self.shape("content", Dtype::U32, 2)?;
        let stored: ndarray::Array1<u32> = self.part("content", 0, 4, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))?;
        match stored.to_vec()[..] {
            [top, left, rows, columns] => {
                let [top, left, rows, columns] = [top, left, rows, columns].map(|n| n as usize);
                let fits = rows > 0 && columns > 0 && top.saturating_add(rows) <= height && left.saturating_add(columns) <= width;
                let content = Placement { top, left, rows, columns };
                fits.then_some(content).ok_or_else(|| Error::unreadable(&self.path, format!("content {content:?} is not in its images")))
            }
            _ => Err(Error::unreadable(&self.path, "content must have four values")),
        }
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

fn write<const N: usize>(path: &Path, tensors: &BTreeMap<&str, Raw>, notes: [(&str, Option<String>); N]) -> Result<(), Error> {
    let notes = notes.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?))).collect();
    let bytes = safetensors::serialize(tensors, Some(notes)).map_err(|e| Error::unwritable(path, e))?;
    asyndgan_files::write(path, Access::Private, &bytes).map_err(Error::io(path))
}

/// The entries of a folder, sorted by name; hidden files are skipped.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let listed: Result<Vec<PathBuf>, _> = std::fs::read_dir(folder).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
    let mut found = listed.map_err(Error::io(folder))?;
    found.retain(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')));
    found.sort();
    Ok(found)
}

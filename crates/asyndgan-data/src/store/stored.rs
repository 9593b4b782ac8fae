//! A file of prepared cases.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use asyndgan_task::ImageDescription;
use ndarray::{Array, Dimension};
use safetensors::{Dtype, tensor::Metadata};

use super::{ABSENT_CHANNELS, ABSENT_CLASSES, SIZE};
use crate::{Error, Placement};

/// Headers beyond this are refused.
const HEADER_BYTES_MAX: u64 = 64 << 20;

/// A file and where its tensors lie; it is open only while something is read, for there may be more files than a
/// process may open.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) path: PathBuf,
    metadata: Metadata,
    data_start: u64,
    pub(super) names: Vec<Name>,
    pub(super) size: Option<usize>,
    pub(super) absent_channels: Vec<usize>,
    pub(super) absent_classes: Vec<usize>,
}

/// A case's name, and its patient's.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) id: String,
    pub(super) patient: Option<String>,
}

impl Name {
    /// A line has the case's name and, behind a tab, the patient's.
    fn parse(line: &str) -> Self {
        let (id, patient) = line.rsplit_once('\t').unwrap_or((line, ""));
        Self { id: id.into(), patient: Some(patient.into()).filter(|p: &String| !p.is_empty()) }
    }
}

impl Stored {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
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
        let names = ids.lines().map(Name::parse).collect();
        let indices = |note: &str| -> Result<Vec<usize>, Error> {
            let text = metadata.metadata().as_ref().and_then(|notes| notes.get(note));
            let indices = text.map(|text| serde_json::from_str(text)).transpose().map_err(|e| Error::unreadable(path, e))?;
            Ok(indices.unwrap_or_default())
        };
        let (absent_channels, absent_classes) = (indices(ABSENT_CHANNELS)?, indices(ABSENT_CLASSES)?);
        let size = metadata.metadata().as_ref().and_then(|notes| notes.get(SIZE));
        let size = size.map(|text| text.parse()).transpose().map_err(|e| Error::unreadable(path, e))?;
        Ok(Self { path: path.into(), metadata, data_start, names, size, absent_channels, absent_classes })
    }

    /// The shape of a tensor of this type and number of axes.
    pub(super) fn shape(&self, name: &str, dtype: Dtype, axes: usize) -> Result<Vec<usize>, Error> {
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
    pub(super) fn description(&self) -> Result<Option<ImageDescription>, Error> {
        let text = self.metadata.metadata().as_ref().and_then(|notes| notes.get("images"));
        let read = |text: &String| {
            let found: ImageDescription = serde_json::from_str(text).map_err(|e| Error::unreadable(&self.path, e))?;
            found.task.check().map_err(|e| Error::unreadable(&self.path, e))?;
            Ok(found)
        };
        text.map(read).transpose()
    }

    /// The part of padded images that shows the original grid: all of them if nothing is stored.
    pub(super) fn content(&self, (_, _, height, width): (usize, usize, usize, usize)) -> Result<Placement, Error> {
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
    pub(super) fn part<T, D: Dimension>(
        &self,
        name: &str,
        number: usize,
        width: usize,
        value: impl Fn(&[u8]) -> T,
    ) -> Result<Array<T, D>, Error> {
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

/// The entries of a folder, sorted by name; hidden files are skipped.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let listed: Result<Vec<PathBuf>, _> = std::fs::read_dir(folder).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
    let mut found = listed.map_err(Error::io(folder))?;
    found.retain(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')));
    found.sort();
    Ok(found)
}

/// Files themselves, and the safetensors files of folders in the order of their names.
pub(super) fn listed(places: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
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

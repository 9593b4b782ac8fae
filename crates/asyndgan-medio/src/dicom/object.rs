use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use dicom_core::{Tag, header::HasLength};
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, InMemDicomObject};

use super::elements;
use crate::{Error, files};

/// An object's data set, with the file that it came from for errors.
pub(super) struct Object {
    pub(super) path: PathBuf,
    pub(super) inner: DefaultDicomObject,
}

/// Whether a file is to be read as a slice: it has DICOM's mark, or a name that promises it (none, numbers, `.dcm`), so that a damaged slice
/// is an error and notes lying beside are none.
pub(super) fn is_dicom(path: &Path) -> Result<bool, Error> {
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    file.take(132).read_to_end(&mut start).map_err(Error::io(path))?;
    let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    let promised = ending.is_none_or(|e| e == "dcm" || e == "ima" || e.bytes().all(|b| b.is_ascii_digit()));
    Ok(promised || start.get(128..) == Some(b"DICM"))
}

impl Object {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(path, &files::read(path)?)
    }

    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.get(128..132) != Some(b"DICM") {
            return Err(Error::unreadable(path, "it is no DICOM file: the mark DICM after the preamble is missing"));
        }
        let inner = elements::parse(bytes).map_err(|fact| Error::unreadable(path, fact))?;
        Ok(Self { path: path.into(), inner })
    }

    pub(super) fn wrong(&self, fact: impl std::fmt::Display) -> Error {
        Error::unreadable(&self.path, fact)
    }

    pub(super) fn unsupported(&self, fact: impl std::fmt::Display) -> Error {
        Error::unsupported(&self.path, fact)
    }

    pub(super) fn text(&self, tag: Tag, name: &str) -> Result<String, Error> {
        text(&self.inner, tag).ok_or_else(|| self.wrong(format!("it has no {name}")))
    }

    pub(super) fn numbers<const N: usize>(&self, tag: Tag, name: &str) -> Result<[f64; N], Error> {
        numbers(&self.inner, tag).ok_or_else(|| self.wrong(format!("its {name} is missing or not {N} finite numbers")))
    }

    pub(super) fn count(&self, tag: Tag, name: &str) -> Result<usize, Error> {
        count(&self.inner, tag).ok_or_else(|| self.wrong(format!("its {name} is missing or no count")))
    }

    /// Rows and columns, checked before anything of that size is made.
    pub(super) fn grid(&self) -> Result<(usize, usize), Error> {
        let grid = (self.count(tags::ROWS, "Rows")?, self.count(tags::COLUMNS, "Columns")?);
        if grid.0 == 0 || grid.1 == 0 || grid.0 * grid.1 > 1 << 26 {
            return Err(self.unsupported(format!("it has {} x {} pixels; supported are 1 to {} in all", grid.0, grid.1, 1 << 26)));
        }
        Ok(grid)
    }
}

pub(super) fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = object.element_opt(tag).ok()??.to_str().ok()?;
    let text = text.trim_end_matches(['\0', ' ']);
    (!text.is_empty()).then(|| text.to_owned())
}

pub(super) fn numbers<const N: usize>(object: &InMemDicomObject, tag: Tag) -> Option<[f64; N]> {
    let element = object.element_opt(tag).ok()??;
    // An element of another length is not converted at all: it may be any size.
    if element.length().get().is_some_and(|bytes| bytes > 4096) {
        return None;
    }
    let values: [f64; N] = element.to_multi_float64().ok()?.try_into().ok()?;
    values.iter().all(|v| v.is_finite()).then_some(values)
}

pub(super) fn count(object: &InMemDicomObject, tag: Tag) -> Option<usize> {
    object.element_opt(tag).ok()??.to_int::<u32>().ok().map(|n| n as usize)
}

/// The only item of a sequence.
pub(super) fn item(object: &InMemDicomObject, tag: Tag) -> Option<&InMemDicomObject> {
    object.element_opt(tag).ok()??.items()?.first()
}

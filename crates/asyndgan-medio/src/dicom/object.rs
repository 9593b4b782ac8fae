use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use dicom_core::{Tag, header::HasLength};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::transfer_syntax::TransferSyntaxIndex;
use dicom_object::{DefaultDicomObject, InMemDicomObject};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::elements;
use crate::{Error, files};

/// An object's data set, with the file that it came from for errors.
pub(super) struct Object {
    pub(super) path: PathBuf,
    pub(super) inner: DefaultDicomObject,
}

/// What a file in a series' folder is.
pub(super) enum Kind {
    Dicom,
    /// Something else, for people.
    Other(&'static str),
}

/// Whether to read a file as DICOM: it has the DICM prefix, or a typical name (no extension, a numeric one, `.dcm`,
/// `.ima` and the like). A damaged slice is thus an error, but a text file in the same folder is not.
pub(super) fn kind(path: &Path) -> Result<Kind, Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if name == "dicomdir" {
        return Ok(Kind::Other("it is a DICOMDIR index file"));
    }
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    file.take(1024).read_to_end(&mut start).map_err(Error::io(path))?;
    if start.get(128..132) == Some(MARK) {
        return Ok(Kind::Dicom);
    }
    if name.contains(".dcm") || name.contains(".ima") {
        return Ok(Kind::Dicom);
    }
    let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    let is_text = !start.is_empty() && start.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace() || *b >= 0x80);
    Ok(match ending.as_deref() {
        Some("dcm" | "dicom" | "dic" | "ima" | "img" | "mr" | "ct") => Kind::Dicom,
        Some(ending) if !ending.bytes().all(|b| b.is_ascii_digit()) => Kind::Other("it is not a DICOM file"),
        _ if is_text => Kind::Other("it is text"),
        _ => Kind::Dicom,
    })
}

/// What stands behind the preamble.
const MARK: &[u8] = b"DICM";

impl Object {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(path, &files::read(path)?)
    }

    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::unreadable(path, "it is empty"));
        }
        if bytes.get(128..132) != Some(MARK) {
            // A data set alone begins with an element of its first groups.
            if matches!(bytes, [2 | 8, 0, _, 0, ..]) {
                let fact = "it has no DICOM preamble; rewrite it in the DICOM file format, for example with pydicom: \
                            dcmread(path, force=True), then save_as(path, enforce_file_format=True)";
                return Err(Error::unsupported(path, fact));
            }
            return Err(Error::unreadable(path, "it is not a DICOM file: the prefix DICM after the preamble is missing"));
        }
        let inner = elements::parse(bytes).map_err(|e| match e {
            elements::Wrong::Damaged(fact) => Error::unreadable(path, fact),
            elements::Wrong::Unsupported(fact) => Error::unsupported(path, fact),
        })?;
        Ok(Self { path: path.into(), inner })
    }

    /// Whether its pixels are the numbers of segments.
    pub(super) fn is_segmentation(&self) -> bool {
        let class = text(&self.inner, tags::SOP_CLASS_UID);
        matches!(class.as_deref(), Some(uids::SEGMENTATION_STORAGE | uids::LABEL_MAP_SEGMENTATION_STORAGE))
    }

    pub(super) fn unsupported_syntax(&self, syntax: &str) -> Error {
        let name = TransferSyntaxRegistry.get(syntax).map_or(syntax, |known| known.name());
        self.unsupported(format!("its transfer syntax ({name}) is not supported; convert it, for example with gdcmconv --raw"))
    }

    pub(super) fn wrong(&self, fact: impl std::fmt::Display) -> Error {
        Error::unreadable(&self.path, fact)
    }

    pub(super) fn unsupported(&self, fact: impl std::fmt::Display) -> Error {
        Error::unsupported(&self.path, fact)
    }

    pub(super) fn text(&self, tag: Tag, name: &str) -> Result<String, Error> {
        text(&self.inner, tag).ok_or_else(|| self.unsupported(format!("it has no {name}")))
    }

    pub(super) fn count(&self, tag: Tag, name: &str) -> Result<usize, Error> {
        count(&self.inner, tag).ok_or_else(|| self.unsupported(format!("its {name} is missing or not a valid count")))
    }

    /// Rows and columns, checked before anything of that size is made.
    pub(super) fn grid(&self) -> Result<(usize, usize), Error> {
        let grid = (self.count(tags::ROWS, "Rows")?, self.count(tags::COLUMNS, "Columns")?);
        if grid.0 == 0 || grid.1 == 0 || grid.0 * grid.1 > 1 << 26 {
            return Err(self.unsupported(format!("it has {} x {} pixels; 1 to {} in total are supported", grid.0, grid.1, 1 << 26)));
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

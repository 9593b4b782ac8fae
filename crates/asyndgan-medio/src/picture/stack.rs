//! What tells that the pages of a TIFF are slices: nnU-Net's file beside it, and descriptions by ImageJ, OME and
//! tifffile.

use std::path::{Path, PathBuf};

use quick_xml::{Reader, events::Event};
use serde::Deserialize;

use crate::{Error, files};

/// The file beside an nnU-Net stack: `{"spacing": [z, y, x]}`.
#[derive(Deserialize)]
struct Spacing {
    spacing: [f64; 3],
}

/// The array that tifffile says it wrote.
#[derive(Deserialize)]
pub(super) struct Shaped {
    pub(super) shape: Vec<usize>,
    pub(super) axes: Option<String>,
}

/// nnU-Net's file beside a stack: `CASE.json` for the labels `CASE.tif` and for the image `CASE_0000.tif`.
pub(super) fn spacing_file(path: &Path) -> Option<PathBuf> {
    let name = path.file_stem()?.to_string_lossy().into_owned();
    let case = name.rsplit_once('_').filter(|(_, n)| n.len() == 4 && n.bytes().all(|b| b.is_ascii_digit())).map(|(case, _)| case);
    let places = [Some(name.as_str()), case].into_iter().flatten().map(|stem| path.with_file_name(format!("{stem}.json")));
    places.into_iter().find(|p| p.is_file())
}

/// Millimetres between slices, rows and columns, by a file of that kind.
pub(super) fn read_spacing(path: &Path) -> Result<[f64; 3], Error> {
    let read: Spacing = files::json(path)?;
    if !read.spacing.iter().all(|s| s.is_finite() && *s > 0.0) {
        return Err(Error::unsupported(path, format!("its spacing is {:?}; specify three lengths above 0 in mm", read.spacing)));
    }
    Ok(read.spacing)
}

/// Channels, slices and times of an ImageJ or OME description.
pub(super) fn described_axes(text: &str) -> Option<[usize; 3]> {
    if text.starts_with("ImageJ=") {
        return Some(imagej(text));
    }
    if text.contains("<OME") { ome(text) } else { None }
}

/// Channels, slices and times of an ImageJ description.
fn imagej(text: &str) -> [usize; 3] {
    let number = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')?.trim().parse().ok()).unwrap_or(1);
    let [channels, slices, times, images] = ["channels", "slices", "frames", "images"].map(number);
    // Old versions name nothing but the number of images.
    if [channels, slices, times] == [1, 1, 1] { [1, images, 1] } else { [channels, slices, times] }
}

/// Channels, slices and times of the first image that OME's XML describes.
fn ome(text: &str) -> Option<[usize; 3]> {
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) | Event::Empty(tag) if tag.local_name().as_ref() == "Pixels" => {
                let number = |name| tag.try_get_attribute(name).ok().flatten().and_then(|a| a.value.trim().parse().ok());
                return Some([number("SizeC")?, number("SizeZ")?, number("SizeT")?]);
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

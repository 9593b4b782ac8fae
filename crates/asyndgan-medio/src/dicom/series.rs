use std::{
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use dicom_core::{Length, Tag, header::HasLength};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use ndarray::{Array2, Array3, Axis};

use super::{
    object::{Kind, Object, item, kind, numbers, text},
    pixels::Pixels,
};
use crate::{Affine, Error, SkippedFile, Volume, files, voxels::VOXELS_MAX};

/// Slices closer than this lie at the same place.
const SAME_PLACE_MM: f64 = 1e-3;
/// Slices may lie this part of their distance from where equal distances put them, or this far: positions are rounded
/// to 0.1 mm.
const UNEVEN_MAX: f64 = 0.01;
const UNEVEN_MM_MAX: f64 = 0.101;
/// How far direction cosines may be from orthogonal unit vectors.
const SKEW_MAX: f64 = 1e-3;
/// Images of one slice, and of several.
const SINGLE: [&str; 2] = [uids::CT_IMAGE_STORAGE, uids::MR_IMAGE_STORAGE];
const ENHANCED: [&str; 4] = [
    uids::ENHANCED_CT_IMAGE_STORAGE,
    uids::ENHANCED_MR_IMAGE_STORAGE,
    uids::LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE,
    uids::LEGACY_CONVERTED_ENHANCED_MR_IMAGE_STORAGE,
];

/// Reads a folder with one CT or MR series: slices in any order and with any file names, or one multi-frame file.
/// DICOMDIR files, text, and objects without pixels are skipped; [`skipped`] lists them.
///
/// # Shapes
/// `[slices, rows, columns]`. Slices are sorted by their position along the normal; file names and instance numbers are
/// ignored.
///
/// # Units
/// Voxels after rescaling: Hounsfield units in CT. The affine is in RAS+ millimetres (DICOM itself uses LPS+).
///
/// # Errors
/// [`Error::Empty`]; [`Error::Unreadable`] with the name of a damaged file; [`Error::Unsupported`] with the name of a
/// file whose series, orientation, spacing or size differs from most others, or that is at the same position as
/// another, off the line of the others, or after a gap; also for images other than CT and MR, and for an unsupported
/// transfer syntax.
pub fn read_series(folder: &Path) -> Result<Volume, Error> {
    let Files { mut slices, folders, .. } = Files::in_folder(folder)?;
    if slices.is_empty() {
        let looked_for = "DICOM files of one CT or MR series";
        return Err(folders.first().map_or(Error::Empty { path: folder.into(), looked_for }, |inside| {
            Error::unsupported(
                folder,
                format!("it contains no DICOM file, only folders, such as {}; choose the folder with the slices", inside.display()),
            )
        }));
    }
    one_series(&slices)?;
    let (rows, columns) = slices[0].grid;
    if (rows * columns * slices.len()) as u64 > VOXELS_MAX {
        return Err(slices[0].object.unsupported(format!("together with the other slices it has more than {VOXELS_MAX} voxels")));
    }
    let normal = slices[0].normal();
    slices.sort_by(|a, b| dot(a.position, normal).total_cmp(&dot(b.position, normal)));
    let step = step(&slices, normal)?;
    let mut voxels = Array3::zeros((slices.len(), rows, columns));
    for (mut plane, slice) in voxels.axis_iter_mut(Axis(0)).zip(&slices) {
        plane.assign(&slice.pixels()?);
    }
    let affine = slices[0].affine(step);
    if !affine.is_usable() {
        return Err(slices[0].object.unsupported(format!("its geometry is invalid: affine {:?}", affine.0)));
    }
    Ok(Volume { voxels, affine })
}

/// The skipped files and folders next to the slices of a series, each with the reason.
///
/// # Errors
/// As [`read_series`], for the files that have to be inspected.
pub fn skipped(folder: &Path) -> Result<Vec<SkippedFile>, Error> {
    let Files { mut skipped, folders, .. } = Files::in_folder(folder)?;
    skipped.extend(folders.iter().map(|path| SkippedFile::note(path, "subfolders of a series folder are not read")));
    Ok(skipped)
}

/// What a series' folder holds.
#[derive(Default)]
struct Files {
    slices: Vec<Slice>,
    skipped: Vec<SkippedFile>,
    folders: Vec<PathBuf>,
}

impl Files {
    fn in_folder(folder: &Path) -> Result<Self, Error> {
        let mut found = Self::default();
        for path in files::entries(folder)? {
            if fs::metadata(&path).map_err(Error::io(&path))?.is_dir() {
                found.folders.push(path);
                continue;
            }
            match kind(&path)? {
                Kind::Other(reason) => found.skipped.push(SkippedFile::note(&path, reason)),
                Kind::Dicom => {
                    let object = Object::read(&path)?;
                    if object.inner.element(tags::ROWS).is_err() && object.inner.element(tags::PIXEL_DATA).is_err() {
                        let class = text(&object.inner, tags::SOP_CLASS_UID).unwrap_or_default();
                        if SINGLE.contains(&class.as_str()) || ENHANCED.contains(&class.as_str()) {
                            return Err(object.wrong("it ends before its pixels"));
                        }
                        found.skipped.push(SkippedFile::note(&path, "it is a DICOM object without pixels"));
                    } else {
                        found.slices.extend(Slice::all_of(object)?);
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Refuses slices of several series, and names one of those that are not as most are.
fn one_series(slices: &[Slice]) -> Result<(), Error> {
    let likeness = |slice: &Slice| slices.iter().filter(|other| slice.differs_from(other).is_none()).count();
    // Of many slices, some stand for all: the most frequent kind is among them.
    let every = slices.len().div_ceil(64);
    let usual = slices.iter().step_by(every).max_by_key(|slice| likeness(slice)).expect("one slice at least");
    for slice in slices {
        if let Some(what) = slice.differs_from(usual) {
            let other = usual.object.path.display();
            return Err(slice.object.unsupported(format!(
                "its {what} differs from that of most others, such as {other}; a folder must contain only one series, so move it out"
            )));
        }
    }
    Ok(())
}

/// From each slice to the next, in DICOM's millimetres.
fn step(slices: &[Slice], normal: [f64; 3]) -> Result<[f64; 3], Error> {
    let [.., last] = slices else { return Ok([0.0; 3]) };
    if slices.len() == 1 {
        return Ok(normal.map(|n| n * last.thickness_mm));
    }
    let along = |slice: &Slice| dot(slice.position, normal);
    let distances: Vec<f64> = slices.windows(2).map(|pair| along(&pair[1]) - along(&pair[0])).collect();
    if let Some(at) = distances.iter().position(|&d| d < SAME_PLACE_MM) {
        let other = slices[at].object.path.display();
        return Err(slices[at + 1].object.unsupported(format!("it is at the same place as {other}; remove one of them")));
    }
    let mut sorted = distances.clone();
    sorted.sort_by(f64::total_cmp);
    let usual = sorted[sorted.len() / 2];
    let slack = (UNEVEN_MAX * usual).max(UNEVEN_MM_MAX.min(usual / 4.0));
    if let Some(at) = distances.iter().position(|d| (d - usual).abs() > slack) {
        let (before, found) = (slices[at].object.path.display(), distances[at]);
        let fact = format!(
            "it is {found:.3} mm after {before}, but the others are {usual:.3} mm apart: slices are missing, or there are two series"
        );
        return Err(slices[at + 1].object.unsupported(fact));
    }
    let steps = (slices.len() - 1) as f64;
    let step: [f64; 3] = std::array::from_fn(|k| (last.position[k] - slices[0].position[k]) / steps);
    for (n, slice) in slices.iter().enumerate() {
        let off: [f64; 3] = std::array::from_fn(|k| slice.position[k] - slices[0].position[k] - n as f64 * step[k]);
        if dot(off, off).sqrt() > slack {
            return Err(slice.object.unsupported(format!("it is {:.3} mm off the line of the other slices", dot(off, off).sqrt())));
        }
    }
    Ok(step)
}

/// One slice: where it lies, and what has yet to be decoded.
pub(super) struct Slice {
    object: Rc<Object>,
    frame: usize,
    pub(super) grid: (usize, usize),
    series: String,
    orientation: [f64; 6],
    pub(super) position: [f64; 3],
    spacing_mm: [f64; 2],
    thickness_mm: f64,
    scale: f64,
    offset: f64,
}

/// Where the elements that describe a frame are: in the data set itself, or in sequences for the frame or for all.
struct Described<'a> {
    object: &'a Object,
    frame: Option<&'a InMemDicomObject>,
    shared: Option<&'a InMemDicomObject>,
}

impl Described<'_> {
    /// The item that holds an element.
    fn place(&self, sequence: Tag) -> Option<&InMemDicomObject> {
        let Some(frame) = self.frame else { return Some(&self.object.inner) };
        item(frame, sequence).or_else(|| item(self.shared?, sequence))
    }

    fn numbers<const N: usize>(&self, sequence: Tag, tag: Tag, name: &str) -> Result<[f64; N], Error> {
        let found = self.place(sequence).and_then(|place| numbers(place, tag));
        found.ok_or_else(|| self.object.unsupported(format!("its {name} is missing or does not consist of {N} finite numbers")))
    }

    /// None where the element is not there or empty.
    fn optional(&self, sequence: Tag, tag: Tag, name: &str) -> Result<Option<f64>, Error> {
        match self.place(sequence).map(|place| place.element_opt(tag)) {
            Some(Ok(Some(element))) if element.length() != Length(0) => self.numbers::<1>(sequence, tag, name).map(|[v]| Some(v)),
            _ => Ok(None),
        }
    }
}

impl Slice {
    /// The slices of an object: one, or a frame each.
    pub(super) fn all_of(object: Object) -> Result<Vec<Self>, Error> {
        let class = object.text(tags::SOP_CLASS_UID, "SOPClassUID")?;
        if !SINGLE.contains(&class.as_str()) && !ENHANCED.contains(&class.as_str()) {
            return Err(object.unsupported("it is not a CT or MR image; move it out of the folder"));
        }
        if object.inner.element(tags::MODALITY_LUT_SEQUENCE).is_ok() {
            return Err(
                object.unsupported("its values are rescaled by a table (ModalityLUTSequence); only slope and intercept are supported")
            );
        }
        let object = Rc::new(object);
        let frames = super::object::count(&object.inner, tags::NUMBER_OF_FRAMES).unwrap_or(1);
        let groups = object.inner.element_opt(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).ok().flatten().and_then(|e| e.items());
        if SINGLE.contains(&class.as_str()) && groups.is_none() {
            if frames != 1 {
                return Err(object.unsupported(format!("it has {frames} frames but no positions for them; write one slice per file")));
            }
            let described = Described { object: &object, frame: None, shared: None };
            return Ok(vec![Self::from_object(&object, &described, 0)?]);
        }
        let shared = item(&object.inner, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE);
        let groups = groups.filter(|g| g.len() == frames);
        let groups = groups.ok_or_else(|| object.unsupported(format!("it does not describe the positions of its {frames} frames")))?;
        (0..)
            .zip(groups)
            .map(|(n, frame)| Self::from_object(&object, &Described { object: &object, frame: Some(frame), shared }, n))
            .collect()
    }

    fn from_object(object: &Rc<Object>, described: &Described, frame: usize) -> Result<Self, Error> {
        let measures = tags::PIXEL_MEASURES_SEQUENCE;
        let values = tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE;
        let apart = described.optional(measures, tags::SPACING_BETWEEN_SLICES, "SpacingBetweenSlices")?;
        let thick = described.optional(measures, tags::SLICE_THICKNESS, "SliceThickness")?;
        let slice = Self {
            grid: object.grid()?,
            series: object.text(tags::SERIES_INSTANCE_UID, "SeriesInstanceUID")?,
            orientation: described.numbers(tags::PLANE_ORIENTATION_SEQUENCE, tags::IMAGE_ORIENTATION_PATIENT, "ImageOrientationPatient")?,
            position: described.numbers(tags::PLANE_POSITION_SEQUENCE, tags::IMAGE_POSITION_PATIENT, "ImagePositionPatient")?,
            spacing_mm: described.numbers(measures, tags::PIXEL_SPACING, "PixelSpacing")?,
            thickness_mm: apart.or(thick).unwrap_or(1.0).abs(),
            scale: described.optional(values, tags::RESCALE_SLOPE, "RescaleSlope")?.unwrap_or(1.0),
            offset: described.optional(values, tags::RESCALE_INTERCEPT, "RescaleIntercept")?.unwrap_or(0.0),
            object: Rc::clone(object),
            frame,
        };
        if slice.spacing_mm.iter().any(|s| *s <= 0.0) {
            return Err(slice.object.unsupported(format!("its PixelSpacing is {:?} mm", slice.spacing_mm)));
        }
        let (row, column): ([f64; 3], [f64; 3]) =
            (std::array::from_fn(|k| slice.orientation[k]), std::array::from_fn(|k| slice.orientation[3 + k]));
        let off = [dot(row, row) - 1.0, dot(column, column) - 1.0, dot(row, column)];
        if off.iter().any(|v| v.abs() > SKEW_MAX) {
            return Err(slice
                .object
                .unsupported(format!("its ImageOrientationPatient {:?} is not a pair of orthogonal unit vectors", slice.orientation)));
        }
        Ok(slice)
    }

    fn differs_from(&self, other: &Self) -> Option<&'static str> {
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
        match self {
            s if s.series != other.series => Some("series"),
            s if s.grid != other.grid => Some("number of rows or columns"),
            s if !close(&s.orientation, &other.orientation) => Some("orientation"),
            s if !close(&s.spacing_mm, &other.spacing_mm) => Some("pixel spacing"),
            _ => None,
        }
    }

    pub(super) fn normal(&self) -> [f64; 3] {
        normal(&self.orientation)
    }

    /// With this slice as the first of a stack; DICOM's left and back become RAS+'s right and front.
    fn affine(&self, step: [f64; 3]) -> Affine {
        affine(&self.orientation, self.spacing_mm, self.position, step)
    }

    /// # Shapes
    /// `[rows, columns]`.
    pub(super) fn pixels(&self) -> Result<Array2<f32>, Error> {
        let (object, scale, offset) = (&self.object, self.scale, self.offset);
        let stored = Pixels::from_object(object)?.frame(object, self.frame)?;
        let values: Vec<f32> = stored.into_iter().map(|v| (v * scale + offset) as f32).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(object.unsupported(format!("its rescaled voxels are not finite: slope {scale}, intercept {offset}")));
        }
        Array2::from_shape_vec(self.grid, values).map_err(|e| object.wrong(e))
    }
}

pub(super) fn normal(orientation: &[f64; 6]) -> [f64; 3] {
    let [a, b, c, d, e, f] = *orientation;
    [b * f - c * e, c * d - a * f, a * e - b * d]
}

pub(super) fn affine(orientation: &[f64; 6], spacing_mm: [f64; 2], position: [f64; 3], step: [f64; 3]) -> Affine {
    let row = |k: usize| {
        let sign = if k < 2 { -1.0 } else { 1.0 };
        // i runs along a row, so from column to column: PixelSpacing's second number.
        [orientation[k] * spacing_mm[1], orientation[3 + k] * spacing_mm[0], step[k], position[k]].map(|v| sign * v)
    };
    Affine([row(0), row(1), row(2)])
}

pub(super) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

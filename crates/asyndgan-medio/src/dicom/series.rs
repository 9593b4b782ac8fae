use std::path::Path;

use dicom_core::{Length, Tag, header::HasLength};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::transfer_syntax::TransferSyntaxIndex;
use dicom_pixeldata::{ConvertOptions, ModalityLutOption, PixelDecoder, VoiLutOption};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use ndarray::{Array2, Array3, Axis};

use super::object::{Object, is_dicom};
use crate::{Affine, Error, Volume, files};

/// Slices closer than this lie at the same place.
const SAME_PLACE_MM: f64 = 1e-3;
/// Slices, in millimetres or as a part of their distance, may lie this far from where equal distances put them.
const UNEVEN_MAX: f64 = 0.01;
/// How far direction cosines may be from orthogonal unit vectors.
const SKEW_MAX: f64 = 1e-3;
/// Together, at most 512 Mi voxels.
const VOXELS_MAX: usize = 1 << 29;

/// Reads a folder that holds the slices of one CT or MR series, in any order and under any names; notes and tables lying beside are passed
/// over.
///
/// # Shapes
/// `[slices, rows, columns]`: slices by their position along the normal, against which nothing in names or numbers counts.
///
/// # Units
/// Voxels after rescaling: Hounsfield units in CT. The affine is in RAS+ millimetres (DICOM itself counts to the left and back).
///
/// # Errors
/// [`Error::Empty`]; [`Error::Unreadable`] naming the file that is broken, of another series, orientation, spacing or size than the
/// first, at the same place as another, off the line of the others, or after a gap; [`Error::Unsupported`] for what is no CT or MR image, and
/// for a transfer syntax that is not read.
pub fn read_series(folder: &Path) -> Result<Volume, Error> {
    let mut slices = Vec::new();
    for path in files::entries(folder)? {
        if path.is_file() && path.file_name().is_some_and(|n| n != "DICOMDIR") && is_dicom(&path)? {
            slices.push(Slice::of(Object::read(&path)?)?);
        }
    }
    let Some(first) = slices.first() else {
        return Err(Error::Empty { path: folder.into(), looked_for: "DICOM files of one CT or MR series" });
    };
    for slice in &slices {
        slice.belongs_with(first)?;
    }
    let (rows, columns) = first.grid;
    if rows * columns * slices.len() > VOXELS_MAX {
        return Err(first.object.wrong(format!("with the others it makes more than {VOXELS_MAX} voxels")));
    }
    let normal = first.normal();
    slices.sort_by(|a, b| dot(a.position, normal).total_cmp(&dot(b.position, normal)));
    let step = step(&slices, normal)?;
    let mut voxels = Array3::zeros((slices.len(), rows, columns));
    for (mut plane, slice) in voxels.axis_iter_mut(Axis(0)).zip(&slices) {
        plane.assign(&slice.pixels()?);
    }
    let affine = slices[0].affine(step);
    if !affine.is_usable() {
        return Err(slices[0].object.wrong(format!("its geometry is unusable: affine {:?}", affine.0)));
    }
    Ok(Volume { voxels, affine })
}

/// From each slice to the next, in DICOM's millimetres.
fn step(slices: &[Slice], normal: [f64; 3]) -> Result<[f64; 3], Error> {
    let [.., last] = slices else { return Ok([0.0; 3]) };
    if slices.len() == 1 {
        return Ok(normal.map(|n| n * last.thickness_mm));
    }
    let along = |slice: &Slice| dot(slice.position, normal);
    let mut distances: Vec<f64> = slices.windows(2).map(|pair| along(&pair[1]) - along(&pair[0])).collect();
    if let Some(at) = distances.iter().position(|&d| d < SAME_PLACE_MM) {
        let other = slices[at].object.path.display();
        return Err(slices[at + 1].object.wrong(format!("it lies at the same place as {other}; a series has each place once")));
    }
    let gap = |distances: &[f64], usual: f64| distances.iter().position(|d| (d - usual).abs() > UNEVEN_MAX * usual.max(1.0));
    let in_order = distances.clone();
    distances.sort_by(f64::total_cmp);
    let usual = distances[distances.len() / 2];
    if let Some(at) = gap(&in_order, usual) {
        let (before, found) = (slices[at].object.path.display(), in_order[at]);
        let fact = format!(
            "it lies {found:.3} mm after {before}, the others lie {usual:.3} mm apart: slices are missing, or there are two series"
        );
        return Err(slices[at + 1].object.wrong(fact));
    }
    let steps = (slices.len() - 1) as f64;
    let step: [f64; 3] = std::array::from_fn(|k| (last.position[k] - slices[0].position[k]) / steps);
    for (n, slice) in slices.iter().enumerate() {
        let off: [f64; 3] = std::array::from_fn(|k| slice.position[k] - slices[0].position[k] - n as f64 * step[k]);
        if dot(off, off).sqrt() > UNEVEN_MAX * usual.max(1.0) {
            return Err(slice.object.wrong(format!("it lies {:.3} mm off the line of the others", dot(off, off).sqrt())));
        }
    }
    Ok(step)
}

/// One slice: where it lies, and what has yet to be decoded.
pub(super) struct Slice {
    pub(super) object: Object,
    pub(super) grid: (usize, usize),
    series: String,
    orientation: [f64; 6],
    pub(super) position: [f64; 3],
    spacing_mm: [f64; 2],
    thickness_mm: f64,
    scale: f64,
    offset: f64,
}

impl Slice {
    pub(super) fn of(object: Object) -> Result<Self, Error> {
        let class = object.text(tags::SOP_CLASS_UID, "SOPClassUID")?;
        if class != uids::CT_IMAGE_STORAGE && class != uids::MR_IMAGE_STORAGE {
            return Err(object.unsupported("it is no CT or MR image of one slice; move it out of the folder"));
        }
        let optional = |tag: Tag, name: &str| match object.inner.element_opt(tag) {
            Ok(Some(element)) if element.length() != Length(0) => object.numbers::<1>(tag, name).map(|[v]| Some(v)),
            _ => Ok(None),
        };
        let apart = optional(tags::SPACING_BETWEEN_SLICES, "SpacingBetweenSlices")?;
        let thickness_mm = apart.or(optional(tags::SLICE_THICKNESS, "SliceThickness")?).unwrap_or(1.0).abs();
        let scale = optional(tags::RESCALE_SLOPE, "RescaleSlope")?.unwrap_or(1.0);
        let offset = optional(tags::RESCALE_INTERCEPT, "RescaleIntercept")?.unwrap_or(0.0);
        let slice = Self {
            grid: object.grid()?,
            series: object.text(tags::SERIES_INSTANCE_UID, "SeriesInstanceUID")?,
            orientation: object.numbers(tags::IMAGE_ORIENTATION_PATIENT, "ImageOrientationPatient")?,
            position: object.numbers(tags::IMAGE_POSITION_PATIENT, "ImagePositionPatient")?,
            spacing_mm: object.numbers(tags::PIXEL_SPACING, "PixelSpacing")?,
            thickness_mm,
            scale,
            offset,
            object,
        };
        if slice.spacing_mm.iter().any(|s| *s <= 0.0) {
            return Err(slice.object.wrong(format!("its PixelSpacing is {:?} mm", slice.spacing_mm)));
        }
        let (row, column): ([f64; 3], [f64; 3]) =
            (std::array::from_fn(|k| slice.orientation[k]), std::array::from_fn(|k| slice.orientation[3 + k]));
        let off = [dot(row, row) - 1.0, dot(column, column) - 1.0, dot(row, column)];
        if off.iter().any(|v| v.abs() > SKEW_MAX) {
            return Err(slice
                .object
                .wrong(format!("its ImageOrientationPatient {:?} is no pair of orthogonal unit vectors", slice.orientation)));
        }
        Ok(slice)
    }

    fn belongs_with(&self, first: &Self) -> Result<(), Error> {
        let other = first.object.path.display();
        let differs = |what: &str| Err(self.object.wrong(format!("its {what} differs from that of {other}; a folder holds one series")));
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
        match self {
            s if s.series != first.series => differs("series"),
            s if s.grid != first.grid => differs("number of rows or columns"),
            s if !close(&s.orientation, &first.orientation) => differs("orientation"),
            s if !close(&s.spacing_mm, &first.spacing_mm) => differs("pixel spacing"),
            _ => Ok(()),
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
        let object = &self.object;
        let syntax = object.inner.meta().transfer_syntax();
        let known = TransferSyntaxRegistry.get(syntax);
        let run_length = syntax == uids::RLE_LOSSLESS;
        if !run_length && known.is_none_or(|ts| !ts.can_decode_all()) {
            let name = known.map_or(syntax, |ts| ts.name());
            return Err(
                object.unsupported(format!("its transfer syntax ({name}) is not supported; convert it, for example with gdcmconv --raw"))
            );
        }
        let frames = super::object::count(&object.inner, tags::NUMBER_OF_FRAMES).unwrap_or(1);
        let samples = object.count(tags::SAMPLES_PER_PIXEL, "SamplesPerPixel")?;
        let bits = object.count(tags::BITS_ALLOCATED, "BitsAllocated")?;
        if frames != 1 || samples != 1 || ![8, 16, 32].contains(&bits) {
            let fact =
                format!("it has {frames} frames, {samples} samples a pixel and {bits} bits; one grey slice of 8, 16 or 32 bits is read");
            return Err(object.wrong(fact));
        }
        super::pixels::check(object, self.grid, bits)?;
        let options = ConvertOptions::new().with_modality_lut(ModalityLutOption::None).with_voi_lut(VoiLutOption::Identity);
        let plain = run_length.then(|| super::pixels::expanded(object, self.grid, bits)).transpose()?;
        let decoded = plain.as_ref().unwrap_or(&object.inner).decode_pixel_data().map_err(|e| object.wrong(e))?;
        let stored: Vec<f64> = decoded.to_vec_with_options(&options).map_err(|e| object.wrong(e))?;
        let (scale, offset) = (self.scale, self.offset);
        let values: Vec<f32> = stored.into_iter().map(|v| (v * scale + offset) as f32).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(object.wrong(format!("its rescaled voxels are not finite: slope {scale}, intercept {offset}")));
        }
        let found = values.len();
        let (rows, columns) = self.grid;
        Array2::from_shape_vec(self.grid, values)
            .map_err(|_| object.wrong(format!("it has {found} pixels, {rows} rows of {columns} were promised")))
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

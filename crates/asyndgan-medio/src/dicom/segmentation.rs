use std::{collections::BTreeMap, path::Path};

use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use ndarray::Array3;

use super::object::{Object, count, item, numbers, text};
use crate::{Error, Volume, files};

/// Frames beyond this are refused.
const FRAMES_MAX: usize = 1 << 16;
/// A frame lies in the plane of a slice if no corner is further from it, in voxels.
const OFF_GRID_MAX: f64 = 0.05;

/// A DICOM-SEG object on the grid of the series that it was drawn on.
#[derive(Debug, Clone, PartialEq)]
pub struct Segmentation {
    /// Segment numbers, 0 is none; where segments overlap the higher number stands.
    pub labels: Volume<u32>,
    /// What each segment number stands for.
    pub names: BTreeMap<u32, String>,
    /// Voxels that more than one segment claims.
    pub overlapping: usize,
}

/// Reads a binary DICOM-SEG object onto the grid of its series.
///
/// Only where its frames lie is compared, not whose series it says it is of: another patient's series on the very same grid would be taken.
///
/// # Errors
/// [`Error::Unsupported`] for another kind of object and fractional segments; [`Error::Unreadable`] for more pixels than the file holds, or a frame that does not lie
/// on a slice of the series.
pub fn read_segmentation(path: &Path, series: &Volume) -> Result<Segmentation, Error> {
    parse_segmentation(path, &files::read(path)?, series)
}

/// Reads a segmentation from the bytes of a file; `path` only names it in errors.
///
/// # Errors
/// As [`read_segmentation`].
pub fn parse_segmentation(path: &Path, bytes: &[u8], series: &Volume) -> Result<Segmentation, Error> {
    let object = Object::parse(path, bytes)?;
    let class = object.text(tags::SOP_CLASS_UID, "SOPClassUID")?;
    if class != uids::SEGMENTATION_STORAGE {
        return Err(object.unsupported("it is no DICOM-SEG object; give one"));
    }
    let kind = object.text(tags::SEGMENTATION_TYPE, "SegmentationType")?;
    if kind != "BINARY" {
        return Err(object.unsupported("its segments are not BINARY; write them as such"));
    }
    let (_, rows, columns) = series.voxels.dim();
    if object.grid()? != (rows, columns) {
        return Err(Error::Shape { path: path.into(), expected: vec![rows, columns], found: vec![object.grid()?.0, object.grid()?.1] });
    }
    let names = names(&object)?;
    let frames = frames(&object, series)?;
    let pixels = object.inner.element(tags::PIXEL_DATA).map_err(|e| object.wrong(e))?.to_bytes().map_err(|e| object.wrong(e))?;
    let needed = (frames.len() * rows * columns).div_ceil(8);
    if pixels.len() < needed {
        return Err(object.wrong(format!("its pixels end early: {} frames need {needed} bytes, it has {}", frames.len(), pixels.len())));
    }
    let mut labels = Array3::<u32>::zeros(series.voxels.dim());
    let mut overlapping = 0;
    for (f, &(slice, segment)) in frames.iter().enumerate() {
        if !names.contains_key(&segment) {
            return Err(object.wrong(format!("frame {} is of segment {segment}, which it does not describe", f + 1)));
        }
        for (n, label) in labels.index_axis_mut(ndarray::Axis(0), slice).iter_mut().enumerate() {
            // Frames follow each other without padding, the first pixel in the lowest bit.
            let bit = f * rows * columns + n;
            if pixels[bit / 8] >> (bit % 8) & 1 == 1 {
                overlapping += usize::from(*label > 0 && *label != segment);
                *label = segment.max(*label);
            }
        }
    }
    Ok(Segmentation { labels: Volume { voxels: labels, affine: series.affine }, names, overlapping })
}

fn names(object: &Object) -> Result<BTreeMap<u32, String>, Error> {
    let sequence = object.inner.element_opt(tags::SEGMENT_SEQUENCE).ok().flatten().and_then(|e| e.items());
    let sequence = sequence.ok_or_else(|| object.wrong("it describes no segments"))?;
    let entry = |segment: &InMemDicomObject| {
        let number = count(segment, tags::SEGMENT_NUMBER).filter(|&n| n > 0)? as u32;
        Some((number, text(segment, tags::SEGMENT_LABEL).unwrap_or_else(|| format!("segment {number}"))))
    };
    sequence.iter().map(|s| entry(s).ok_or_else(|| object.wrong("a segment has no number"))).collect()
}

/// For each frame the slice that it lies on and its segment.
fn frames(object: &Object, series: &Volume) -> Result<Vec<(usize, u32)>, Error> {
    let sequence = object.inner.element_opt(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).ok().flatten().and_then(|e| e.items());
    let sequence = sequence.filter(|s| s.len() <= FRAMES_MAX).ok_or_else(|| object.wrong("it describes no frames, or too many"))?;
    let shared = item(&object.inner, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE);
    let orientation = |frame: &InMemDicomObject| -> Option<[f64; 6]> {
        let own = item(frame, tags::PLANE_ORIENTATION_SEQUENCE).or_else(|| item(shared?, tags::PLANE_ORIENTATION_SEQUENCE))?;
        numbers(own, tags::IMAGE_ORIENTATION_PATIENT)
    };
    let spacing = |frame: &InMemDicomObject| -> Option<[f64; 2]> {
        let own = item(frame, tags::PIXEL_MEASURES_SEQUENCE).or_else(|| item(shared?, tags::PIXEL_MEASURES_SEQUENCE))?;
        numbers(own, tags::PIXEL_SPACING)
    };
    let describe = |frame: &InMemDicomObject| {
        let position: [f64; 3] = numbers(item(frame, tags::PLANE_POSITION_SEQUENCE)?, tags::IMAGE_POSITION_PATIENT)?;
        let segment =
            item(frame, tags::SEGMENT_IDENTIFICATION_SEQUENCE).or_else(|| item(shared?, tags::SEGMENT_IDENTIFICATION_SEQUENCE))?;
        Some((position, orientation(frame)?, spacing(frame)?, count(segment, tags::REFERENCED_SEGMENT_NUMBER)? as u32))
    };
    let mut placed = Vec::with_capacity(sequence.len());
    for (f, frame) in sequence.iter().enumerate() {
        let (position, orientation, spacing, segment) =
            describe(frame).ok_or_else(|| object.wrong(format!("frame {} lacks its position, orientation, spacing or segment", f + 1)))?;
        let slice = slice_of(series, position, &orientation, spacing);
        let slice = slice
            .ok_or_else(|| object.wrong(format!("frame {} lies on no slice of the series; give the series that it was drawn on", f + 1)))?;
        placed.push((slice, segment));
    }
    Ok(placed)
}

/// The slice of a series whose pixels lie where a frame's do.
fn slice_of(series: &Volume, position: [f64; 3], orientation: &[f64; 6], spacing_mm: [f64; 2]) -> Option<usize> {
    let (slices, rows, columns) = series.voxels.dim();
    let frame = super::series::affine(orientation, spacing_mm, position, [0.0; 3]);
    let step = series.affine.step(2);
    let origin = series.affine.apply([0.0; 3]);
    let away: [f64; 3] = std::array::from_fn(|k| frame.apply([0.0; 3])[k] - origin[k]);
    let along = super::series::dot(away, step) / super::series::dot(step, step);
    let slice = along.round();
    let close = |ij: [f64; 2]| {
        let (a, b) = (frame.apply([ij[0], ij[1], 0.0]), series.affine.apply([ij[0], ij[1], slice]));
        let mm = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        mm <= OFF_GRID_MAX * spacing_mm[0].max(spacing_mm[1])
    };
    let far = [columns as f64 - 1.0, rows as f64 - 1.0];
    let within = slice >= 0.0 && slice < slices as f64;
    (within && close([0.0, 0.0]) && close([far[0], 0.0]) && close([0.0, far[1]])).then_some(slice as usize)
}

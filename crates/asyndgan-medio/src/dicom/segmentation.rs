use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use ndarray::{Array3, Axis};

use super::{
    object::{Object, count, item, numbers, text},
    pixels::Pixels,
    series::dot,
};
use crate::{Affine, Error, Grid, Volume, files};

/// Frames beyond this are refused.
const FRAMES_MAX: usize = 1 << 16;
/// A frame lies on a slice if no corner is further from the slice's, in voxels: within the plane, and between slices,
/// whose positions are rounded.
const OFF_GRID_MAX: f64 = 0.05;
const OFF_SLICE_MAX: f64 = 0.1;

/// A DICOM-SEG object on the grid of the series that it segments.
#[derive(Debug, Clone, PartialEq)]
pub struct Segmentation {
    /// Segment numbers, 0 is background. Where segments overlap, the higher number is kept.
    pub labels: Volume<u32>,
    /// The name of each segment number.
    pub names: BTreeMap<u32, String>,
    /// Number of voxels that belong to more than one segment.
    pub overlapping: usize,
}

/// Reads a binary or label-map DICOM-SEG object onto the grid of its series, whose axes may be stored in a different
/// order.
///
/// Only the positions of the frames are compared, not the referenced series: another patient's series with exactly the
/// same grid would be accepted.
///
/// # Errors
/// [`Error::Unsupported`] for a different kind of object, for fractional segments, and for a frame that is not on a
/// slice of the series; [`Error::Shape`] for a different number of rows or columns; [`Error::Unreadable`] for a file
/// with too few pixels.
pub fn read_segmentation(path: &Path, series: &Volume) -> Result<Segmentation, Error> {
    parse_segmentation(path, &files::read(path)?, series)
}

/// Reads a segmentation from the bytes of a file; `path` is only used in error messages.
///
/// # Errors
/// As [`read_segmentation`].
pub fn parse_segmentation(path: &Path, bytes: &[u8], series: &Volume) -> Result<Segmentation, Error> {
    let object = Object::parse(path, bytes)?;
    if !object.is_segmentation() {
        return Err(object.unsupported("it is not a DICOM-SEG object; provide one"));
    }
    let kind = object.text(tags::SEGMENTATION_TYPE, "SegmentationType")?;
    let of_one_segment = match kind.as_str() {
        "BINARY" => true,
        "LABELMAP" => false,
        _ => return Err(object.unsupported(format!("its SegmentationType is {kind}; only BINARY and LABELMAP are supported"))),
    };
    let (names, frames, image) = (names(&object)?, frames(&object, of_one_segment)?, series.grid());
    // The image may be stored in another order of its axes than the frames.
    let grid = frames.first().map_or(image, |frame| frame.along(&image));
    let (_, rows, columns) = grid.shape;
    if object.grid()? != (rows, columns) {
        return Err(Error::Shape { path: path.into(), expected: vec![rows, columns], found: vec![object.grid()?.0, object.grid()?.1] });
    }
    let slices = frames.iter().enumerate().map(|(f, frame)| {
        frame.slice_of(&grid).map_err(|mm| {
            let fact = format!("frame {} is {mm:.3} mm off the nearest slice of the image; use the series that it was drawn on", f + 1);
            object.unsupported(fact)
        })
    });
    let slices = slices.collect::<Result<Vec<usize>, Error>>()?;
    let labels = Volume { voxels: Array3::zeros(grid.shape), affine: grid.affine };
    let mut segmentation = Segmentation { labels, names, overlapping: 0 };
    if of_one_segment {
        segmentation.fill_binary(&object, &frames, &slices)?;
    } else {
        segmentation.fill_label_map(&object, &slices)?;
    }
    let labels = segmentation.labels.on_grid(&image).map_err(|_| object.unsupported("its frames are not parallel to the image's axes"))?;
    Ok(Segmentation { labels, ..segmentation })
}

impl Segmentation {
    /// One bit a pixel, one segment a frame.
    fn fill_binary(&mut self, object: &Object, frames: &[Frame], slices: &[usize]) -> Result<(), Error> {
        let (_, rows, columns) = self.labels.voxels.dim();
        let element = object.inner.element(tags::PIXEL_DATA).map_err(|_| object.wrong("it has no pixel data"))?;
        let pixels = element
            .to_bytes()
            .map_err(|_| object.unsupported("its segments are compressed; convert it, for example with gdcmconv --raw"))?;
        let needed = (frames.len() * rows * columns).div_ceil(8);
        if pixels.len() < needed {
            return Err(object.wrong(format!(
                "its pixel data is truncated: {} frames need {needed} bytes, but it has {}",
                frames.len(),
                pixels.len()
            )));
        }
        for (f, (&slice, &Frame { segment, .. })) in slices.iter().zip(frames).enumerate() {
            if !self.names.contains_key(&segment) {
                return Err(object.unsupported(format!("frame {} belongs to segment {segment}, which the file does not describe", f + 1)));
            }
            for (n, label) in self.labels.voxels.index_axis_mut(Axis(0), slice).iter_mut().enumerate() {
                // Frames follow each other without padding, the first pixel in the lowest bit.
                let bit = f * rows * columns + n;
                if pixels[bit / 8] >> (bit % 8) & 1 == 1 {
                    self.overlapping += usize::from(*label > 0 && *label != segment);
                    *label = segment.max(*label);
                }
            }
        }
        Ok(())
    }

    /// The number of a segment in each pixel.
    fn fill_label_map(&mut self, object: &Object, slices: &[usize]) -> Result<(), Error> {
        let (pixels, mut seen) = (Pixels::from_object(object)?, BTreeSet::new());
        if pixels.frames != slices.len() {
            return Err(object.wrong(format!("it describes {} frames but has {}", slices.len(), pixels.frames)));
        }
        for (f, &slice) in slices.iter().enumerate() {
            if !seen.insert(slice) {
                return Err(object
                    .unsupported(format!("frame {} is on the same slice as another frame; a label map has one frame per slice", f + 1)));
            }
            let values = pixels.frame(object, f)?;
            for (label, value) in self.labels.voxels.index_axis_mut(Axis(0), slice).iter_mut().zip(values) {
                let segment = value as u32;
                if value < 0.0 || segment > 0 && !self.names.contains_key(&segment) {
                    return Err(object.unsupported(format!("frame {} contains segment {value}, which the file does not describe", f + 1)));
                }
                *label = segment;
            }
        }
        Ok(())
    }
}

fn names(object: &Object) -> Result<BTreeMap<u32, String>, Error> {
    let sequence = object.inner.element_opt(tags::SEGMENT_SEQUENCE).ok().flatten().and_then(|e| e.items());
    let sequence = sequence.ok_or_else(|| object.wrong("it describes no segments"))?;
    let entry = |segment: &InMemDicomObject| {
        let number = count(segment, tags::SEGMENT_NUMBER)? as u32;
        Some((number, text(segment, tags::SEGMENT_LABEL).unwrap_or_else(|| format!("segment {number}"))))
    };
    sequence.iter().map(|s| entry(s).ok_or_else(|| object.wrong("a segment has no number"))).collect()
}

/// Where a frame lies, and which segment it is of.
struct Frame {
    position: [f64; 3],
    orientation: [f64; 6],
    spacing_mm: [f64; 2],
    /// 0 where a frame is of many.
    segment: u32,
}

/// All frames in the order of their pixels.
fn frames(object: &Object, of_one_segment: bool) -> Result<Vec<Frame>, Error> {
    let sequence = object.inner.element_opt(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).ok().flatten().and_then(|e| e.items());
    let sequence = sequence.filter(|s| s.len() <= FRAMES_MAX).ok_or_else(|| object.wrong("it describes no frames or too many frames"))?;
    let shared = item(&object.inner, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE);
    let describe = |frame: &InMemDicomObject| {
        let place = |sequence: Tag| item(frame, sequence).or_else(|| item(shared?, sequence)).cloned();
        let segment = || count(&place(tags::SEGMENT_IDENTIFICATION_SEQUENCE)?, tags::REFERENCED_SEGMENT_NUMBER);
        Some(Frame {
            position: numbers(item(frame, tags::PLANE_POSITION_SEQUENCE)?, tags::IMAGE_POSITION_PATIENT)?,
            orientation: numbers(&place(tags::PLANE_ORIENTATION_SEQUENCE)?, tags::IMAGE_ORIENTATION_PATIENT)?,
            spacing_mm: numbers(&place(tags::PIXEL_MEASURES_SEQUENCE)?, tags::PIXEL_SPACING)?,
            segment: if of_one_segment { segment()? as u32 } else { 0 },
        })
    };
    let lacks = |f: usize| object.unsupported(format!("frame {} lacks its position, orientation, spacing or segment", f + 1));
    sequence.iter().enumerate().map(|(f, frame)| describe(frame).ok_or_else(|| lacks(f))).collect()
}

impl Frame {
    fn affine(&self, step: [f64; 3]) -> Affine {
        super::series::affine(&self.orientation, self.spacing_mm, self.position, step)
    }

    /// An image's grid with its axes in the order of this frame's columns, rows and slices.
    fn along(&self, image: &Grid) -> Grid {
        let own = Grid { affine: self.affine(super::series::normal(&self.orientation)), shape: image.shape };
        own.order_along(&image.affine).map_or(*image, |order| image.reordered(order))
    }

    /// The slice of a grid whose pixels lie where the frame's do; else how far the nearest is, in millimetres.
    fn slice_of(&self, grid: &Grid) -> Result<usize, f64> {
        let (slices, rows, columns) = grid.shape;
        let frame = self.affine([0.0; 3]);
        let (step, origin) = (grid.affine.step(2), grid.affine.apply([0.0; 3]));
        let away: [f64; 3] = std::array::from_fn(|k| frame.apply([0.0; 3])[k] - origin[k]);
        let slice = (dot(away, step) / dot(step, step)).round().clamp(0.0, slices as f64 - 1.0);
        let far = [columns as f64 - 1.0, rows as f64 - 1.0];
        // Apart along the slices and within them.
        let apart = |[i, j]: [f64; 2]| {
            let (a, b) = (frame.apply([i, j, 0.0]), grid.affine.apply([i, j, slice]));
            let off: [f64; 3] = std::array::from_fn(|k| a[k] - b[k]);
            let along = dot(off, step) / dot(step, step);
            let within: [f64; 3] = std::array::from_fn(|k| off[k] - along * step[k]);
            (along.abs(), dot(within, within).sqrt(), dot(off, off).sqrt())
        };
        let corners = [[0.0, 0.0], [far[0], 0.0], [0.0, far[1]]].map(apart);
        let most = corners.into_iter().fold((0.0_f64, 0.0_f64, 0.0_f64), |m, c| (m.0.max(c.0), m.1.max(c.1), m.2.max(c.2)));
        let is_close = most.0 <= OFF_SLICE_MAX && most.1 <= OFF_GRID_MAX * self.spacing_mm[0].max(self.spacing_mm[1]);
        if is_close { Ok(slice as usize) } else { Err(most.2) }
    }
}

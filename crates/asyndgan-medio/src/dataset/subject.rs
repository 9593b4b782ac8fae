use std::path::{Path, PathBuf};

use ndarray::{Array2, Array3, Axis};

use super::{CaseFiles, DataSet, Layout, brats::four_is_enhancing};
#[cfg(feature = "dicom")]
use crate::dicom::read_series;
use crate::{
    Error, Format, Grid, GridMismatch, Orientation, Volume, files, format::read_grid, is_volume, picture::check_orientation_tag,
    read_annotations, read_grey_planes, read_instances, read_labels, read_rgb, read_volume,
};

/// A case read into memory: a volume with its labels, or a picture.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// Channels of a volume with labels on the same grid, all in [`Orientation::LPS`].
    Volume {
        /// Intensities, one volume per channel that was asked for; at least one.
        channels: Vec<Volume>,
        /// Labels, if the data set has any.
        labels: Option<Volume<u32>>,
    },
    /// A picture.
    Picture {
        /// Values in 0..=255, `[channels, rows, columns]`: red, green, blue of a picture in one file; one channel per
        /// file of a case with several.
        planes: Array3<f32>,
        /// Labels, `[rows, columns]`, if the data set has any.
        labels: Option<Array2<u32>>,
    },
}

impl DataSet {
    /// Reads one case, with the channels of these indices. Labels with a different axis order are reordered to match
    /// the image. A picture in a single file has all its colours, whichever channels are asked for.
    ///
    /// # Panics
    /// If `channels` is empty.
    ///
    /// # Errors
    /// [`Error::Incomplete`], [`Error::Unreadable`], [`Error::Unsupported`], [`Error::Shape`] and [`Error::Geometry`]
    /// for labels or channels on another grid, and [`Error::Label`] for a label that the data set does not describe.
    pub fn read(&self, case: &CaseFiles, channels: &[usize]) -> Result<Subject, Error> {
        assert!(!channels.is_empty(), "no channel is asked for");
        if let Some(missing) = case.missing.first() {
            return Err(Error::Incomplete { case: case.id.clone(), missing: missing.clone() });
        }
        tracing::debug!(case = case.id, ?channels, "case read");
        let file = |channel: usize| {
            let file = if case.images.len() == 1 { case.images.first() } else { case.images.get(channel) };
            file.map(PathBuf::as_path).ok_or_else(|| Error::Channel {
                path: self.folder.clone(),
                wanted: format!("number {channel}"),
                found: self.channels.join(", "),
            })
        };
        let images = channels.iter().map(|&channel| file(channel)).collect::<Result<Vec<&Path>, Error>>()?;
        if images[0].is_dir() || is_volume(images[0])? {
            return self.volume(case, &images);
        }
        self.picture(case, &images)
    }

    fn picture(&self, case: &CaseFiles, images: &[&Path]) -> Result<Subject, Error> {
        let planes = if case.images.len() == 1 { read_rgb(images[0])? } else { read_grey_planes(images)? };
        let (_, rows, columns) = planes.dim();
        let Some(path) = &case.labels else { return Ok(Subject::Picture { planes, labels: None }) };
        let is_drawn = files::ends(path, &[".xml"]);
        for file in images.iter().copied().chain((!is_drawn).then_some(path.as_path())) {
            check_orientation_tag(file)?;
        }
        let labels = if is_drawn {
            let drawn = read_annotations(path, rows, columns, self.layer.as_deref())?;
            if 2 * drawn.degenerate > drawn.regions {
                let fact = format!(
                    "{} of {} regions are outside the picture or empty; does it belong to another picture?",
                    drawn.degenerate, drawn.regions
                );
                return Err(Error::unsupported(path, fact));
            }
            drawn.labels
        } else {
            read_instances(path)?
        };
        if labels.dim() != (rows, columns) {
            return Err(Error::Shape { path: path.clone(), expected: vec![rows, columns], found: labels.shape().into() });
        }
        self.known(path, labels.iter().copied())?;
        Ok(Subject::Picture { planes, labels: Some(labels) })
    }

    fn volume(&self, case: &CaseFiles, paths: &[&Path]) -> Result<Subject, Error> {
        let path = paths[0];
        if case.images.len() < self.channels.len() {
            let fact = format!("it has one channel, but {} are described; name only the channel that it contains", self.channels.len());
            return Err(Error::unsupported(path, fact));
        }
        one_grid(case)?;
        let read = |path: &&Path| if path.is_dir() { read_series(path) } else { read_volume(path) };
        let channels = paths.iter().map(read).collect::<Result<Vec<Volume>, Error>>()?;
        let oriented = |channels: Vec<Volume>| channels.into_iter().map(|channel| channel.oriented(Orientation::LPS)).collect();
        let Some(labels_path) = &case.labels else { return Ok(Subject::Volume { channels: oriented(channels), labels: None }) };
        let image = &channels[0];
        let labels =
            if Format::from_path(labels_path).is_some() { read_labels(labels_path)? } else { read_segmentation(labels_path, image)? };
        let mut labels = labels.on_grid(&image.grid()).map_err(|off| off_grid(off, labels_path, path, &image.grid()))?;
        if self.layout == Layout::Brats && four_is_enhancing(case) {
            let has = |label: u32| labels.voxels.iter().any(|&l| l == label);
            if has(4) && has(3) {
                let fact = "it contains labels 3 and 4, which BraTS 2018 to 2021 do not use together; convert it to the labels of one year";
                return Err(Error::unsupported(labels_path, fact));
            }
            labels.voxels.mapv_inplace(|l| if l == 4 { 3 } else { l });
        }
        self.known(labels_path, labels.voxels.iter().copied())?;
        let labels = Some(labels.oriented(Orientation::LPS));
        Ok(Subject::Volume { channels: oriented(channels), labels })
    }

    /// Whether labels number instances; otherwise they are classes.
    pub fn has_instances(&self) -> bool {
        self.layout == Layout::Monuseg || self.layout == Layout::Pairs && self.labels.is_empty()
    }

    /// If labels are classes, each must be described.
    fn known(&self, path: &Path, labels: impl Iterator<Item = u32>) -> Result<(), Error> {
        let known = |l: &u32| *l == 0 || self.has_instances() || self.labels.contains_key(l) || self.ignore == Some(*l);
        let mut odd = labels.filter(|l| !known(l));
        odd.next().map_or(Ok(()), |label| Err(Error::Label { path: path.into(), label, known: self.labels.keys().copied().collect() }))
    }
}

/// Refuses channels that do not lie on one grid, and names the one that is off: with the labels' word, if they agree
/// with one.
fn one_grid(case: &CaseFiles) -> Result<(), Error> {
    let channels: Vec<&PathBuf> = case.images.iter().filter(|p| p.is_file()).collect();
    if channels.len() < 2 {
        return Ok(());
    }
    let grids = channels.iter().map(|path| read_grid(path)).collect::<Result<Vec<_>, _>>()?;
    let labels = case.labels.as_deref().filter(|p| Format::from_path(p).is_some_and(Format::is_volume)).map(read_grid).transpose()?;
    let votes = |grid: &Grid| grids.iter().chain(&labels).filter(|other| grid.order_of(other).is_ok()).count();
    // The first of those that agree with most.
    let reference = (0..grids.len()).rev().max_by_key(|&n| votes(&grids[n])).unwrap_or(0);
    for (path, grid) in channels.iter().zip(&grids) {
        grids[reference].order_of(grid).map_err(|off| off_grid(off, path, channels[reference], &grids[reference]))?;
    }
    Ok(())
}

fn off_grid(off: GridMismatch, path: &Path, reference: &Path, grid: &Grid) -> Error {
    match off {
        GridMismatch::Shape { found } => Error::Shape {
            path: path.into(),
            expected: vec![grid.shape.0, grid.shape.1, grid.shape.2],
            found: vec![found.0, found.1, found.2],
        },
        GridMismatch::Elsewhere(distance) => Error::Geometry { path: path.into(), reference: reference.into(), distance },
    }
}

impl Subject {
    /// The labelled size, without the label `ignore`: cubic millimetres for a volume, pixels for a picture.
    pub fn labelled(&self, ignore: Option<u32>) -> f64 {
        match self {
            Self::Volume { labels: Some(labels), .. } => {
                labels.voxels.iter().filter(|&&l| l > 0 && ignore != Some(l)).count() as f64 * labels.spacing_mm().iter().product::<f64>()
            }
            Self::Picture { labels: Some(labels), .. } => labels.iter().filter(|&&l| l > 0 && ignore != Some(l)).count() as f64,
            _ => 0.0,
        }
    }

    /// A preview: the picture, or the slice with the largest labelled area, in 0..=255, with its labels.
    pub fn shown(&self) -> (Array3<u8>, Option<Array2<u32>>) {
        match self {
            Self::Picture { planes, labels } => {
                let plane = |k: usize| planes.index_axis(Axis(0), if planes.len_of(Axis(0)) == 3 { k } else { 0 });
                let rgb = Array3::from_shape_fn((3, planes.dim().1, planes.dim().2), |(k, r, c)| plane(k)[[r, c]] as u8);
                (rgb, labels.clone())
            }
            Self::Volume { channels, labels } => {
                let image = &channels[0];
                let count = |z: usize| labels.as_ref().map_or(0, |l| l.voxels.index_axis(Axis(0), z).iter().filter(|&&l| l > 0).count());
                let slices = image.voxels.len_of(Axis(0));
                // The slice that shows most of what is labelled; the middle one where nothing is.
                let z = (0..slices).max_by_key(|&z| (count(z), slices - z.abs_diff(slices / 2))).unwrap_or(0);
                let plane = image.voxels.index_axis(Axis(0), z);
                let (low, high) = plane.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
                let grey = plane.mapv(|v| ((v - low) / (high - low).max(f32::MIN_POSITIVE) * 255.0) as u8);
                let rgb = Array3::from_shape_fn((3, grey.nrows(), grey.ncols()), |(_, r, c)| grey[[r, c]]);
                (rgb, labels.as_ref().map(|l| l.voxels.index_axis(Axis(0), z).to_owned()))
            }
        }
    }
}

/// The labels of a DICOM-SEG file, on the grid of a volume.
#[cfg(feature = "dicom")]
fn read_segmentation(path: &Path, image: &Volume) -> Result<Volume<u32>, Error> {
    let found = crate::dicom::read_segmentation(path, image)?;
    if found.overlapping > 0 {
        let fact = format!("{} of its voxels belong to several segments; segments must not overlap", found.overlapping);
        return Err(Error::unsupported(path, fact));
    }
    Ok(found.labels)
}

#[cfg(not(feature = "dicom"))]
fn read_series(path: &Path) -> Result<Volume, Error> {
    Err(Error::unsupported(path, "it is a DICOM series, which this program was built without: enable the feature dicom"))
}

#[cfg(not(feature = "dicom"))]
fn read_segmentation(path: &Path, _image: &Volume) -> Result<Volume<u32>, Error> {
    Err(Error::unsupported(path, "it is a DICOM file, which this program was built without: enable the feature dicom"))
}

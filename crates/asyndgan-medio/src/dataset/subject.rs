use std::path::{Path, PathBuf};

use ndarray::{Array3, Axis};

use super::{CaseFiles, DataSet, Layout, brats::four_is_enhancing};
use crate::{
    Brain, Error, Format, Grid, OffGrid, Orientation, Tile, Volume, dicom, files,
    format::read_grid,
    is_volume,
    prepare::{IGNORED, check_intensities, check_stain},
    read_annotations, read_instances, read_labels, read_rgb, read_volume,
};

/// A case read into memory: a volume with its labels, or a picture.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "what it points to is a million times larger")]
pub enum Subject {
    /// One channel of a volume with labels on the same grid, both in [`Orientation::LPS`].
    Volume {
        /// Intensities.
        image: Volume,
        /// Labels, if the data set has any.
        labels: Option<Volume<u32>>,
    },
    /// A colour or greyscale picture.
    Picture {
        /// Red, green, blue in 0..=255, `[3, rows, columns]`.
        rgb: Array3<f32>,
        /// Labels, `[rows, columns]`, if the data set has any.
        labels: Option<ndarray::Array2<u32>>,
    },
}

impl DataSet {
    /// Reads one case; for a volume with several channels, the one at index `channel`. Labels with a different axis
    /// order are reordered to match the image.
    ///
    /// # Errors
    /// [`Error::Incomplete`], [`Error::Unreadable`], [`Error::Unsupported`], [`Error::Shape`] and [`Error::Geometry`] for labels or channels
    /// on another grid, and [`Error::Label`] for a label that the data set does not describe.
    pub fn read(&self, case: &CaseFiles, channel: usize) -> Result<Subject, Error> {
        if let Some(missing) = case.missing.first() {
            return Err(Error::Incomplete { case: case.id.clone(), missing: missing.clone() });
        }
        let image = if case.images.len() == 1 { case.images.first() } else { case.images.get(channel) };
        let image = image.ok_or_else(|| Error::Channel {
            path: self.folder.clone(),
            wanted: format!("number {channel}"),
            found: self.channels.join(", "),
        })?;
        if image.is_dir() || is_volume(image)? {
            return self.volume(case, image);
        }
        if case.images.len() > 1 {
            return Err(Error::unsupported(image, "it is one of several pictures of a case; join them into one picture with 3 channels"));
        }
        self.picture(case, image)
    }

    fn picture(&self, case: &CaseFiles, image: &Path) -> Result<Subject, Error> {
        let rgb = read_rgb(image)?;
        let (_, rows, columns) = rgb.dim();
        let Some(path) = &case.labels else { return Ok(Subject::Picture { rgb, labels: None }) };
        let labels = if files::ends(path, &[".xml"]) {
            read_annotations(path, rows, columns, self.layer.as_deref())?.labels
        } else {
            read_instances(path)?
        };
        if labels.dim() != (rows, columns) {
            return Err(Error::Shape { path: path.clone(), expected: vec![rows, columns], found: labels.shape().into() });
        }
        self.known(path, labels.iter().copied())?;
        Ok(Subject::Picture { rgb, labels: Some(labels) })
    }

    fn volume(&self, case: &CaseFiles, path: &Path) -> Result<Subject, Error> {
        if case.images.len() < self.channels.len() {
            let fact = format!("it has one channel, but {} are described; name only the channel that it contains", self.channels.len());
            return Err(Error::unsupported(path, fact));
        }
        one_grid(case)?;
        let image = if path.is_dir() { dicom::read_series(path)? } else { read_volume(path)? };
        let Some(labels_path) = &case.labels else { return Ok(Subject::Volume { image: image.oriented(Orientation::LPS), labels: None }) };
        let labels = if Format::of(labels_path).is_some() {
            read_labels(labels_path)?
        } else {
            let found = dicom::read_segmentation(labels_path, &image)?;
            if found.overlapping > 0 {
                let fact = format!("{} of its voxels belong to several segments; segments must not overlap", found.overlapping);
                return Err(Error::unsupported(labels_path, fact));
            }
            found.labels
        };
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
        Ok(Subject::Volume { image: image.oriented(Orientation::LPS), labels: Some(labels.oriented(Orientation::LPS)) })
    }

    /// Whether labels number instances; else they are classes.
    fn counts_instances(&self) -> bool {
        self.layout == Layout::Monuseg || self.layout == Layout::Pairs && self.labels.is_empty()
    }

    /// If labels are classes, each must be described.
    fn known(&self, path: &Path, labels: impl Iterator<Item = u32>) -> Result<(), Error> {
        let known = |l: &u32| *l == 0 || self.counts_instances() || self.labels.contains_key(l) || self.ignore == Some(*l);
        let mut odd = labels.filter(|l| !known(l));
        odd.next().map_or(Ok(()), |label| Err(Error::Label { path: path.into(), label, known: self.labels.keys().copied().collect() }))
    }
}

/// Refuses channels that do not lie on one grid, and names the one that is off: with the labels' word, if they agree with one.
fn one_grid(case: &CaseFiles) -> Result<(), Error> {
    let channels: Vec<&PathBuf> = case.images.iter().filter(|p| p.is_file()).collect();
    if channels.len() < 2 {
        return Ok(());
    }
    let grids = channels.iter().map(|path| read_grid(path)).collect::<Result<Vec<_>, _>>()?;
    let labels = case.labels.as_deref().filter(|p| Format::of(p).is_some_and(Format::is_volume)).map(read_grid).transpose()?;
    let votes = |grid: &Grid| grids.iter().chain(&labels).filter(|other| grid.order_of(other).is_ok()).count();
    // The first of those that agree with most.
    let reference = (0..grids.len()).rev().max_by_key(|&n| votes(&grids[n])).unwrap_or(0);
    for (path, grid) in channels.iter().zip(&grids) {
        grids[reference].order_of(grid).map_err(|off| off_grid(off, path, channels[reference], &grids[reference]))?;
    }
    Ok(())
}

fn off_grid(off: OffGrid, path: &Path, reference: &Path, grid: &Grid) -> Error {
    match off {
        OffGrid::Shape { found } => Error::Shape {
            path: path.into(),
            expected: vec![grid.shape.0, grid.shape.1, grid.shape.2],
            found: vec![found.0, found.1, found.2],
        },
        OffGrid::Elsewhere(distance) => Error::Geometry { path: path.into(), reference: reference.into(), distance },
    }
}

impl Subject {
    /// Converts the subject to a brain with labels 1 to 3, and [`IGNORED`] where the mask has the label `ignore`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with `path` for a picture, a volume without labels, a label above 3, or negative
    /// intensities (see [`check_intensities`](crate::prepare::check_intensities)).
    pub fn into_brain(self, id: &str, path: &Path, ignore: Option<u32>) -> Result<Brain, Error> {
        let wrong = |fact: &str| Error::unsupported(path, fact);
        let Self::Volume { image, labels: Some(labels) } = self else { return Err(wrong("it is not a volume with labels; remove it")) };
        if let Some(label) = labels.voxels.iter().find(|&&l| l > 3 && ignore != Some(l)) {
            return Err(wrong(&format!(
                "its mask has label {label}, but only labels 1 to 3 are supported; in a copy of the mask, merge labels or set it to 0"
            )));
        }
        check_intensities(path, image.voxels.view())?;
        let spacing_mm = image.spacing_mm();
        Ok(Brain {
            id: id.into(),
            t2: image.voxels,
            labels: labels.voxels.mapv(|l| if ignore == Some(l) { IGNORED } else { l as u8 }),
            spacing_mm,
        })
    }

    /// Converts the subject to a tile with instances.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with `path` for a volume, a picture without labels, or a picture that is not stained with
    /// haematoxylin and eosin (see [`check_stain`](crate::prepare::check_stain)).
    pub fn into_tile(self, id: &str, path: &Path) -> Result<Tile, Error> {
        let Self::Picture { rgb, labels: Some(instances) } = self else {
            return Err(Error::unsupported(path, "it is not a picture with labels; remove it"));
        };
        check_stain(path, rgb.view())?;
        Ok(Tile { id: id.into(), rgb, instances })
    }

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
    pub fn shown(&self) -> (Array3<u8>, Option<ndarray::Array2<u32>>) {
        match self {
            Self::Picture { rgb, labels } => (rgb.mapv(|v| v as u8), labels.clone()),
            Self::Volume { image, labels } => {
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

use std::path::Path;

use ndarray::{Array3, Axis};

use super::{CaseFiles, DataSet, Layout, NIFTI, PICTURES, ends};
use crate::{Brain, Error, Orientation, Tile, Volume, dicom, read_annotations, read_instances, read_labels, read_rgb, read_volume};

/// A case read into memory: a volume with its labels, or a picture.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "what it points to is a million times larger")]
pub enum Subject {
    /// One channel of a volume with labels on the same grid, both in [`Orientation::LPS`].
    Volume {
        /// Intensities.
        image: Volume,
        /// Labels; none where the folder has none.
        labels: Option<Volume<u32>>,
    },
    /// A coloured or grey picture.
    Picture {
        /// Red, green, blue in 0..=255, `[3, rows, columns]`.
        rgb: Array3<f32>,
        /// Labels, `[rows, columns]`; none where the folder has none.
        labels: Option<ndarray::Array2<u32>>,
    },
}

impl DataSet {
    /// Reads one case; of a volume with several channels the one at `channel`.
    ///
    /// # Errors
    /// [`Error::Incomplete`], [`Error::Unreadable`], [`Error::Shape`] and [`Error::Geometry`] for labels on another grid, and
    /// [`Error::Label`] for a label that the data set does not describe.
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
        if !ends(image, &PICTURES) {
            return self.volume(case, image);
        }
        if case.images.len() > 1 {
            return Err(Error::unsupported(image, "it is one of several pictures of a case; join them into one picture of three channels"));
        }
        self.picture(case, image)
    }

    fn picture(&self, case: &CaseFiles, image: &Path) -> Result<Subject, Error> {
        let rgb = read_rgb(image)?;
        let (_, rows, columns) = rgb.dim();
        let Some(path) = &case.labels else { return Ok(Subject::Picture { rgb, labels: None }) };
        let labels = if ends(path, &[".xml"]) { read_annotations(path, rows, columns)?.labels } else { read_instances(path)? };
        if labels.dim() != (rows, columns) {
            return Err(Error::Shape { path: path.clone(), expected: vec![rows, columns], found: labels.shape().into() });
        }
        self.known(path, labels.iter().copied())?;
        Ok(Subject::Picture { rgb, labels: Some(labels) })
    }

    fn volume(&self, case: &CaseFiles, path: &Path) -> Result<Subject, Error> {
        if case.images.len() < self.channels.len() {
            let fact = format!("it is one channel, {} are described; name the one it is", self.channels.len());
            return Err(Error::unsupported(path, fact));
        }
        let image = if path.is_dir() { dicom::read_series(path)? } else { read_volume(path)? };
        let Some(path) = &case.labels else { return Ok(Subject::Volume { image: image.oriented(Orientation::LPS), labels: None }) };
        let mut labels = if ends(path, &NIFTI) { read_labels(path)? } else { dicom::read_segmentation(path, &image)?.labels };
        if labels.voxels.dim() != image.voxels.dim() {
            return Err(Error::Shape { path: path.clone(), expected: image.voxels.shape().into(), found: labels.voxels.shape().into() });
        }
        if !labels.affine.agrees_with(&image.affine, image.voxels.dim()) {
            return Err(Error::Geometry { path: path.clone(), expected: image.affine.into(), found: labels.affine.into() });
        }
        if self.layout == Layout::Brats {
            labels.voxels.mapv_inplace(|l| if l == 4 { 3 } else { l });
        }
        self.known(path, labels.voxels.iter().copied())?;
        Ok(Subject::Volume { image: image.oriented(Orientation::LPS), labels: Some(labels.oriented(Orientation::LPS)) })
    }

    /// Whether labels number instances; else they are classes.
    fn counts_instances(&self) -> bool {
        self.layout == Layout::Monuseg || self.layout == Layout::Pairs && self.labels.is_empty()
    }

    /// Where labels are classes, each must be described.
    fn known(&self, path: &Path, labels: impl Iterator<Item = u32>) -> Result<(), Error> {
        let known = |l: &u32| *l == 0 || self.counts_instances() || self.labels.contains_key(l);
        let mut odd = labels.filter(|l| !known(l));
        odd.next().map_or(Ok(()), |label| Err(Error::Label { path: path.into(), label, known: self.labels.keys().copied().collect() }))
    }
}

impl Subject {
    /// The subject as a brain with labels 1 to 3.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming the case for a picture, one without labels, or a label above 3.
    pub fn into_brain(self, id: &str) -> Result<Brain, Error> {
        let wrong = |fact: &str| Error::unsupported(Path::new(id), fact);
        let Self::Volume { image, labels: Some(labels) } = self else { return Err(wrong("it is no volume with labels; leave it out")) };
        if labels.voxels.iter().any(|&l| l > 3) {
            return Err(wrong("it has labels above 3; conditions of volumes hold up to three labels, so join some"));
        }
        let spacing_mm = image.spacing_mm();
        Ok(Brain { id: id.into(), t2: image.voxels, labels: labels.voxels.mapv(|l| l as u8), spacing_mm })
    }

    /// The subject as a tile with instances.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming the case for a volume, or one without labels.
    pub fn into_tile(self, id: &str) -> Result<Tile, Error> {
        let Self::Picture { rgb, labels: Some(instances) } = self else {
            return Err(Error::unsupported(Path::new(id), "it is no picture with labels; leave it out"));
        };
        Ok(Tile { id: id.into(), rgb, instances })
    }

    /// How much is labelled: cubic millimetres of a volume, pixels of a picture.
    pub fn labelled(&self) -> f64 {
        match self {
            Self::Volume { labels: Some(labels), .. } => {
                labels.voxels.iter().filter(|&&l| l > 0).count() as f64 * labels.spacing_mm().iter().product::<f64>()
            }
            Self::Picture { labels: Some(labels), .. } => labels.iter().filter(|&&l| l > 0).count() as f64,
            _ => 0.0,
        }
    }

    /// For looking at: the picture, or the slice that shows most of what is labelled, in 0..=255, with its labels.
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

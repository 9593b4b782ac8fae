use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use asyndgan_medio::{Affine, read_instances, read_labels};
use ndarray::{ArrayD, Axis};

use crate::mask_files::{is_volume, kinds, masks};

/// A true mask and the prediction for it.
pub(super) struct Pair {
    pub(super) case: String,
    pub(super) truth: PathBuf,
    pub(super) prediction: PathBuf,
}

/// A mask's labels on its grid: three axes of a volume, two of a picture or a volume of one slice.
pub(super) struct Labels {
    pub(super) voxels: ArrayD<u32>,
    pub(super) spacing_mm: Vec<f64>,
    /// Where it lies in the patient, with the slices, rows and columns of the file; a picture lies nowhere.
    pub(super) affine: Option<(Affine, (usize, usize, usize))>,
}

impl Pair {
    pub(super) fn read(&self) -> Result<(Labels, Labels)> {
        Ok((read(&self.truth)?, read(&self.prediction)?))
    }
}

/// Matches the masks of two folders by their names; anything else in them is passed over.
pub(super) fn find(truth: &Path, prediction: &Path) -> Result<Vec<Pair>> {
    let (truths, mut predictions) = (masks(truth)?, masks(prediction)?);
    ensure!(!truths.is_empty(), "{} holds no mask: looked for {}", truth.display(), kinds());
    let mut pairs = Vec::new();
    let mut alone: Vec<String> = Vec::new();
    for (case, truth) in truths {
        match predictions.remove(&case) {
            Some(prediction) => pairs.push(Pair { case, truth, prediction }),
            None => alone.push(truth.display().to_string()),
        }
    }
    alone.extend(predictions.values().map(|p| p.display().to_string()));
    if !alone.is_empty() {
        bail!("without a partner of the same name: {}; add it, or take the file away", alone.join(", "));
    }
    Ok(pairs)
}

fn read(path: &Path) -> Result<Labels> {
    if is_volume(path) {
        let labels = read_labels(path)?;
        let (mut spacing_mm, affine) = (labels.spacing_mm().to_vec(), Some((labels.affine, labels.voxels.dim())));
        ensure!(spacing_mm.iter().all(|s| (1e-9..=1e9).contains(s)), "{} has a spacing of {spacing_mm:?} mm; correct it", path.display());
        let mut voxels = labels.voxels.into_dyn();
        // One slice has no neighbours on either side, rather than unmarked ones.
        if let Some(axis) = voxels.shape().iter().position(|&n| n == 1) {
            voxels = voxels.remove_axis(Axis(axis));
            spacing_mm.remove(axis);
        }
        return Ok(Labels { voxels, spacing_mm, affine });
    }
    Ok(Labels { voxels: read_instances(path)?.into_dyn(), spacing_mm: vec![1.0; 2], affine: None })
}

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_medio::{Format, GridMismatch, Volume, is_volume, read_instances, read_labels};
use ndarray::{Array2, ArrayD, Axis};

use crate::masks::masks;

/// A ground-truth mask and its prediction.
pub(super) struct Pair {
    pub(super) case: String,
    pub(super) truth: PathBuf,
    pub(super) prediction: PathBuf,
}

/// A mask's labels on its grid: three axes of a volume, two of a picture or a volume of one slice.
pub(super) struct Labels {
    pub(super) voxels: ArrayD<u32>,
    pub(super) spacing_mm: Vec<f64>,
}

/// A mask as its file holds it.
enum Mask {
    Volume(Volume<u32>),
    Picture(Array2<u32>),
}

impl Pair {
    /// Reads both masks on the grid of the truth; a prediction with another axis order is reoriented.
    ///
    /// Voxels that have the ignore label in the truth become background in both.
    pub(super) fn read(&self, ignore: Option<u32>) -> Result<(Labels, Labels)> {
        let shown = self.prediction.display();
        let (mut truth, mut prediction) = match (read(&self.truth)?, read(&self.prediction)?) {
            (Mask::Volume(truth), Mask::Volume(prediction)) => {
                let grid = truth.grid();
                let prediction = prediction.on_grid(&grid).map_err(|off| match off {
                    GridMismatch::Shape { found } => {
                        anyhow::anyhow!("{shown} has shape {found:?}, its ground truth {:?}; both must have the same grid", grid.shape)
                    }
                    GridMismatch::Elsewhere(distance) => anyhow::anyhow!(
                        "{shown} lies up to {distance} away from its ground truth {}; resample it to that grid, for example with \
                         SimpleITK.Resample, or correct its header",
                        self.truth.display()
                    ),
                    other => anyhow::anyhow!("{shown} is not on the grid of its ground truth: {other:?}"),
                })?;
                (of_volume(&self.truth, truth)?, of_volume(&self.prediction, prediction)?)
            }
            (truth, prediction) => (plain(&self.truth, truth)?, plain(&self.prediction, prediction)?),
        };
        let (expected, found) = (truth.voxels.shape(), prediction.voxels.shape());
        ensure!(expected == found, "{shown} has shape {found:?}, its ground truth {expected:?}; both must have the same grid");
        if let Some(ignore) = ignore {
            prediction.voxels.zip_mut_with(&truth.voxels, |label, &judged| *label = if judged == ignore { 0 } else { *label });
            truth.voxels.mapv_inplace(|label| if label == ignore { 0 } else { label });
        }
        Ok((truth, prediction))
    }
}

/// Matches the masks of two folders by name, or pairs two single files.
pub(super) fn find(truth: &Path, prediction: &Path) -> Result<Vec<Pair>> {
    if truth.is_file() && prediction.is_file() {
        let case = Format::stem(truth).with_context(|| format!("{} has an unsupported format", truth.display()))?;
        return Ok(vec![Pair { case, truth: truth.into(), prediction: prediction.into() }]);
    }
    for path in [truth, prediction] {
        ensure!(path.exists(), "{} does not exist", path.display());
    }
    ensure!(truth.is_dir() && prediction.is_dir(), "{} and {} must be two files, or two folders", truth.display(), prediction.display());
    let (truths, mut predictions) = (masks(truth)?, masks(prediction)?);
    ensure!(!truths.is_empty(), "{} contains no mask; supported formats: {}", truth.display(), Format::endings());
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
        bail!("no counterpart of the same name for {}; add it, or remove the file", alone.join(", "));
    }
    Ok(pairs)
}

fn read(path: &Path) -> Result<Mask> {
    Ok(if is_volume(path)? { Mask::Volume(read_labels(path)?) } else { Mask::Picture(read_instances(path)?) })
}

fn plain(path: &Path, mask: Mask) -> Result<Labels> {
    match mask {
        Mask::Volume(volume) => of_volume(path, volume),
        Mask::Picture(voxels) => Ok(Labels { voxels: voxels.into_dyn(), spacing_mm: vec![1.0; 2] }),
    }
}

fn of_volume(path: &Path, labels: Volume<u32>) -> Result<Labels> {
    let mut spacing_mm = labels.spacing_mm().to_vec();
    ensure!(spacing_mm.iter().all(|s| (1e-9..=1e9).contains(s)), "{} has a spacing of {spacing_mm:?} mm; correct it", path.display());
    let mut voxels = labels.voxels.into_dyn();
    // One slice has no neighbours on either side, rather than unmarked ones.
    if let Some(axis) = voxels.shape().iter().position(|&n| n == 1) {
        voxels = voxels.remove_axis(Axis(axis));
        spacing_mm.remove(axis);
    }
    Ok(Labels { voxels, spacing_mm })
}

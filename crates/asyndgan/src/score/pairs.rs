use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_medio::{Affine, read_instances, read_labels};
use ndarray::{ArrayD, Axis};

const ENDINGS: [&str; 5] = [".nii.gz", ".nii", ".png", ".tif", ".tiff"];

/// Images of other kinds: a mask must not be passed over in silence.
const OTHERS: [&str; 10] = [".nrrd", ".mha", ".mhd", ".jpg", ".jpeg", ".bmp", ".gif", ".dcm", ".npy", ".hdr"];

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
    ensure!(!truths.is_empty(), "{} holds no mask: looked for *{}", truth.display(), ENDINGS.join(", *"));
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

/// The masks of a folder by their names without ending; anything else in it is passed over, but images of other kinds.
pub(crate) fn masks(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let small = name.to_ascii_lowercase();
        let Some(case) =
            ENDINGS.iter().find(|e| small.ends_with(**e)).map(|e| &name[..name.len() - e.len()]).filter(|_| !name.starts_with('.'))
        else {
            let image = OTHERS.iter().any(|e| small.ends_with(e));
            ensure!(!image, "{} is of a kind that is not read; convert it to one of *{}", path.display(), ENDINGS.join(", *"));
            continue;
        };
        if let Some(other) = found.insert(case.to_owned(), path.clone()) {
            bail!("{} and {} are of one name; take one away", path.display(), PathBuf::from(&other).display());
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Labels> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if ENDINGS[..2].iter().any(|e| name.ends_with(e)) {
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

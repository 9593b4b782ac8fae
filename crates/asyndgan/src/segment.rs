//! Segments anyone's images with a segmenter that was trained here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_evaluator::predict;
use asyndgan_medio::{Orientation, TestCase, Tile, Volume, prepare, read_rgb, read_volume, write_instances, write_labels};
use asyndgan_models::Segmenter;
use asyndgan_paper::{Experiment, Run};
use ndarray::{Array2, Axis};
use tch::Device;

use crate::{configure, network_file, progress::Progress};

/// Writes for each image a mask on the image's own grid: NIfTI for NIfTI, PNG of numbered nuclei for pictures.
pub(crate) fn segment(images: &[PathBuf], segmenter: &Path, out: &Path, device: Device) -> Result<()> {
    let (network, run) = network_file::segmenter(segmenter, device)?;
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut bar = Progress::new("segment", images.len() as u64);
    for (i, image) in images.iter().enumerate() {
        let written = one(image, &network, &run, out, device)?;
        bar.say(&format!("{}: {}", image.display(), written.display()));
        bar.set(i as u64 + 1);
    }
    Ok(())
}

fn one(image: &Path, network: &Segmenter, run: &Run, out: &Path, device: Device) -> Result<PathBuf> {
    let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = [".nii.gz", ".nii", ".png", ".tiff", ".tif"].iter().find_map(|end| name.strip_suffix(end));
    let stem = stem.with_context(|| format!("{} is of a kind that is not read; take NIfTI, PNG or TIFF", image.display()))?;
    let volume = name.contains(".nii");
    let find = |case: &TestCase| predict(network, configure::task(run.experiment), case, run.settings.crop, device);
    match run.experiment {
        Experiment::Table1 if volume => {
            let read = read_volume(image)?;
            let (own, affine) = (read.affine.orientation(), read.affine);
            let turned = read.oriented(Orientation::LPS);
            let case = prepare::brain_unmarked(stem, &turned.voxels, turned.spacing_mm(), run.settings.size);
            let found = Volume { voxels: find(&case), affine: turned.affine }.oriented(own);
            ensure!(found.affine.agrees_with(&affine, found.voxels.dim()), "{}: its mask would lie elsewhere", image.display());
            let path = out.join(format!("{stem}.nii.gz"));
            // The image's own words for where it lies, to the last bit.
            write_labels(&path, &Volume { voxels: found.voxels, affine })?;
            Ok(path)
        }
        Experiment::Table2 if !volume => {
            let rgb = read_rgb(image)?;
            let (_, rows, columns) = rgb.dim();
            let least = run.settings.crop * run.settings.shrink;
            ensure!(rows.min(columns) >= least, "{} has {rows} x {columns} pixels, at least {least} a side are needed", image.display());
            let instances = Array2::zeros((rows, columns));
            let found = find(&prepare::tile_test_case(&Tile { id: stem.into(), rgb, instances }, run.settings.shrink));
            let path = out.join(format!("{stem}.png"));
            write_instances(&path, found.index_axis(Axis(0), 0))?;
            Ok(path)
        }
        Experiment::Table1 => bail!("{} is a picture; this segmenter finds tumours in NIfTI volumes of brains", image.display()),
        _ => bail!("{} is a volume; this segmenter finds nuclei in PNG or TIFF pictures", image.display()),
    }
}

//! Segments arbitrary images with a segmenter that this program trained.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_evaluator::predict;
use asyndgan_medio::{
    Format, Orientation, TestCase, Tile, Volume, is_volume, prepare, read_rgb, read_volume, write_instances, write_labels,
};
use asyndgan_models::Segmenter;
use asyndgan_paper::{Experiment, Run};
use ndarray::{Array2, Axis};
use tch::Device;

use crate::{configure, network_file, progress::Progress};

/// Writes one mask per image, on the grid of the image: NIfTI for a volume, PNG with numbered nuclei for a picture.
pub(crate) fn segment(images: &[PathBuf], segmenter: &Path, out: &Path, device: Device) -> Result<()> {
    let (network, run) = network_file::segmenter(segmenter, device)?;
    let mut places: Vec<PathBuf> = Vec::new();
    for image in images {
        let place = out.join(mask_name(image)?);
        ensure!(!place.exists(), "{} exists: choose another --out, or move it away", place.display());
        ensure!(!places.contains(&place), "two images would write the same mask {}: segment them into different folders", place.display());
        places.push(place);
    }
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut bar = Progress::new("segment", images.len() as u64);
    for (i, (image, place)) in images.iter().zip(&places).enumerate() {
        one(image, &network, &run, place, device)?;
        bar.say(&format!("{}: {}", image.display(), place.display()));
        bar.set(i as u64 + 1);
    }
    Ok(())
}

/// The name of an image's mask.
fn mask_name(image: &Path) -> Result<String> {
    let stem = Format::stem(image);
    let stem = stem.with_context(|| format!("{} has an unsupported format; use one of {}", image.display(), Format::endings()))?;
    Ok(stem + if is_volume(image)? { ".nii.gz" } else { ".png" })
}

fn one(image: &Path, network: &Segmenter, run: &Run, place: &Path, device: Device) -> Result<()> {
    let volume = is_volume(image)?;
    let shown = image.display().to_string();
    let find = |case: &TestCase| predict(network, configure::task(run.experiment), case, run.settings.crop, device);
    match run.experiment {
        Experiment::Table1 if volume => {
            let read = read_volume(image)?;
            prepare::check_intensities(image, read.voxels.view())?;
            let (own, affine) = (read.affine.orientation(), read.affine);
            let turned = read.oriented(Orientation::LPS);
            let case = prepare::brain_unmarked(&shown, &turned.voxels, turned.spacing_mm(), run.settings.size);
            let found = Volume { voxels: find(&case), affine: turned.affine }.oriented(own);
            ensure!(found.affine.agrees_with(&affine, found.voxels.dim()), "{}: its mask would not align with the image", image.display());
            // The image's own affine, to the last bit.
            Ok(write_labels(place, &Volume { voxels: found.voxels, affine })?)
        }
        Experiment::Table2 if !volume => {
            let rgb = read_rgb(image)?;
            prepare::check_stain(image, rgb.view())?;
            let (_, rows, columns) = rgb.dim();
            let least = run.settings.crop * run.settings.shrink;
            ensure!(rows.min(columns) >= least, "{} has {rows} x {columns} pixels; at least {least} per side are needed", image.display());
            let instances = Array2::zeros((rows, columns));
            let found = find(&prepare::tile_test_case(&Tile { id: shown, rgb, instances }, run.settings.shrink));
            Ok(write_instances(place, found.index_axis(Axis(0), 0))?)
        }
        Experiment::Table1 => bail!("{} is a picture; this segmenter finds tumours in brain volumes", image.display()),
        _ => bail!("{} is a volume; this segmenter finds nuclei in pictures", image.display()),
    }
}

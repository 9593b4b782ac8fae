//! Segments arbitrary images with a segmenter that this program trained.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_data::back_from;
use asyndgan_evaluator::predict;
use asyndgan_medio::{
    Format, Orientation, Subject, Volume, is_volume, read_grey_planes, read_rgb, read_volume, write_instances, write_labels,
};
use asyndgan_models::Segmenter;
use asyndgan_task::ImageKind;
use ndarray::Axis;
use tch::Device;

use crate::{
    data::unlabelled,
    network_file::{self, SegmenterCard},
    progress::Progress,
};

/// Writes one mask per image, on the grid of the image: NIfTI for a volume, PNG for a picture.
pub(crate) fn segment(images: &[PathBuf], segmenter: &Path, out: &Path, device: Device) -> Result<()> {
    let (network, card) = network_file::segmenter(segmenter, device)?;
    let mut places: Vec<PathBuf> = Vec::new();
    for image in images {
        let place = out.join(mask_name(image, card.task.channels.len())?);
        ensure!(!place.exists(), "{} exists: choose another --out, or move it away", place.display());
        ensure!(!places.contains(&place), "two images would write the same mask {}: segment them into different folders", place.display());
        places.push(place);
    }
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut bar = Progress::new("segment", images.len() as u64);
    for (i, (image, place)) in images.iter().zip(&places).enumerate() {
        one(image, &network, &card, place, device)?;
        bar.say(&format!("{}: {}", image.display(), place.display()));
        bar.set(i as u64 + 1);
    }
    Ok(())
}

/// The name of an image's mask.
fn mask_name(image: &Path, channels: usize) -> Result<String> {
    let stem = Format::stem(image).map(|stem| stem.strip_suffix("_0000").filter(|_| channels > 1).map_or(stem.clone(), str::to_owned));
    let stem = stem.with_context(|| format!("{} has an unsupported format; use one of {}", image.display(), Format::endings()))?;
    Ok(stem + if is_volume(image)? { ".nii.gz" } else { ".png" })
}

fn one(image: &Path, network: &Segmenter, card: &SegmenterCard, place: &Path, device: Device) -> Result<()> {
    let (task, shown) = (&card.task, image.display().to_string());
    let preparation = card.scale.preparation(task);
    match (task.images, is_volume(image)?) {
        (ImageKind::Volumes, true) => {
            let channels = channel_files(image, task.channels.len())?;
            let read = channels.iter().map(|path| read_volume(path)).collect::<Result<Vec<Volume>, _>>()?;
            let (own, affine) = (read[0].affine.orientation(), read[0].affine);
            for (path, channel) in channels.iter().zip(&read) {
                let aligned = channel.voxels.dim() == read[0].voxels.dim() && channel.affine.agrees_with(&affine, read[0].voxels.dim());
                ensure!(aligned, "{} is not on the grid of {shown}; resample it", path.display());
            }
            let turned: Vec<Volume> = read.into_iter().map(|channel| channel.oriented(Orientation::LPS)).collect();
            let turned_affine = turned[0].affine;
            let (images, spacing_mm) = unlabelled(task, &shown, Subject::Volume { channels: turned, labels: None })?;
            preparation.check_images(image, images.view())?;
            let case = preparation.unmarked(&shown, images.view(), spacing_mm);
            let voxels = back_from(task.axis, predict(network, task, &case, card.scale.crop, device));
            let found = Volume { voxels, affine: turned_affine }.oriented(own);
            ensure!(found.affine.agrees_with(&affine, found.voxels.dim()), "{shown}: its mask would not align with the image");
            // The image's own affine, to the last bit.
            Ok(write_labels(place, &Volume { voxels: found.voxels, affine })?)
        }
        (ImageKind::Pictures, false) => {
            let one_file = matches!(task.channels.len(), 1 | 3) && !shown.contains("_0000.");
            let planes = if one_file { read_rgb(image)? } else { read_grey_planes(&channel_files(image, task.channels.len())?)? };
            let (images, spacing_mm) = unlabelled(task, &shown, Subject::Picture { planes, labels: None })?;
            preparation.check_images(image, images.view())?;
            let (_, _, rows, columns) = images.dim();
            let least = card.scale.crop * card.scale.downsampling;
            ensure!(rows.min(columns) >= least, "{shown} has {rows} x {columns} pixels; at least {least} per side are needed");
            let case = preparation.unmarked(&shown, images.view(), spacing_mm);
            let found = predict(network, task, &case, card.scale.crop, device);
            Ok(write_instances(place, found.index_axis(Axis(0), 0))?)
        }
        (ImageKind::Volumes, false) => bail!("{shown} is a picture; this segmenter for {} requires volumes", task.name),
        (ImageKind::Pictures, true) => bail!("{shown} is a volume; this segmenter for {} requires pictures", task.name),
    }
}

/// The files of an image with several channels: from that of the first, `NAME_0000.nii.gz`, those of the others.
fn channel_files(first: &Path, channels: usize) -> Result<Vec<PathBuf>> {
    if channels == 1 {
        return Ok(vec![first.into()]);
    }
    let name = first.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (stem, ending) = name.rsplit_once("_0000").with_context(|| {
        let shown = first.display();
        format!(
            "{shown}: this segmenter requires {channels} channels in files NAME_0000 to NAME_{:04}; name the first of them",
            channels - 1
        )
    })?;
    Ok((0..channels).map(|k| first.with_file_name(format!("{stem}_{k:04}{ending}"))).collect())
}

//! Segments arbitrary images with a segmenter that this program trained.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_data::{Preparation, from_slice_order};
use asyndgan_medio::{
    Format, Orientation, Subject, Volume, is_volume, read_grey_planes, read_rgb, read_volume, write_instances, write_labels,
};
use asyndgan_task::{Absent, ImageKind};
use ndarray::{Array3, Axis};
use tch::Device;

use crate::{data::unlabelled, network_file::SegmenterFile, progress::Progress};

/// Writes one mask per image to the folder `out`, on the grid of the image: NIfTI for a volume, PNG for a picture. An
/// image with several channels is named by the file of its first channel, `NAME_0000`.
///
/// # Errors
/// If the segmenter or an image cannot be read, or a mask exists or cannot be written.
pub fn segment(images: &[PathBuf], segmenter: &Path, out: &Path, device: Device) -> Result<()> {
    let segmenter = SegmenterFile::open(segmenter, device)?;
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
        one(image, &segmenter, place)?;
        tracing::info!("{}: {}", image.display(), place.display());
        bar.set(i as u64 + 1);
    }
    Ok(())
}

/// The name of an image's mask: without nnU-Net's channel number.
fn mask_name(image: &Path) -> Result<String> {
    let stem = Format::stem(image).map(|stem| stem.strip_suffix("_0000").map_or(stem.clone(), str::to_owned));
    ensure!(!image.is_dir(), "{} is a folder: name the images in it", image.display());
    let stem = stem.with_context(|| format!("{} has an unsupported format; use one of {}", image.display(), Format::endings()))?;
    Ok(stem + if is_volume(image)? { ".nii.gz" } else { ".png" })
}

fn one(image: &Path, segmenter: &SegmenterFile, place: &Path) -> Result<()> {
    let card = &segmenter.card;
    let (task, shown) = (&card.task, image.display().to_string());
    let absent = Absent { channels: card.absent_channels.iter().map(|&k| task.channels[k].name.clone()).collect(), classes: Vec::new() };
    let preparation = Preparation { absent: &absent, ..card.scale.preparation(task) };
    match (task.images, is_volume(image)?) {
        (ImageKind::Volumes, true) => {
            let channels = channel_files(image, task.channels.len())?;
            let is_absent = |k: usize| card.absent_channels.contains(&k);
            let first = read_volume(&channels[(0..channels.len()).find(|&k| !is_absent(k)).unwrap_or(0)])?;
            let (own, affine, dim) = (first.affine.orientation(), first.affine, first.voxels.dim());
            let mut read = Vec::new();
            for (k, path) in channels.iter().enumerate() {
                // The network was trained without an absent channel: its file is not read.
                let channel = if is_absent(k) { Volume { voxels: Array3::zeros(dim), affine } } else { read_volume(path)? };
                let aligned = channel.voxels.dim() == dim && channel.affine.agrees_with(&affine, dim);
                ensure!(aligned, "{} is not on the grid of {shown}; resample it", path.display());
                read.push(channel);
            }
            let turned: Vec<Volume> = read.into_iter().map(|channel| channel.oriented(Orientation::LPS)).collect();
            let turned_affine = turned[0].affine;
            let (images, spacing_mm) = unlabelled(task, &shown, Subject::Volume { channels: turned, labels: None })?;
            preparation.check_images(image, images.view())?;
            let case = preparation.unmarked(&shown, images.view(), spacing_mm);
            let voxels = from_slice_order(task.axis, segmenter.predict(case)?);
            let found = Volume { voxels, affine: turned_affine }.oriented(own);
            ensure!(found.affine.agrees_with(&affine, found.voxels.dim()), "{shown}: its mask would not align with the image");
            // The image's own affine, to the last bit.
            Ok(write_labels(place, &Volume { voxels: found.voxels, affine })?)
        }
        (ImageKind::Pictures, false) => {
            let channels = if task.is_coloured() { Vec::new() } else { channel_files(image, task.channels.len())? };
            let planes = if channels.len() > 1 { read_grey_planes(&channels)? } else { read_rgb(image)? };
            let (images, spacing_mm) = unlabelled(task, &shown, Subject::Picture { planes, labels: None })?;
            preparation.check_images(image, images.view())?;
            let (_, _, rows, columns) = images.dim();
            let least = card.scale.crop * card.scale.downsampling;
            ensure!(rows.min(columns) >= least, "{shown} has {rows} x {columns} pixels; at least {least} per side are needed");
            let case = preparation.unmarked(&shown, images.view(), spacing_mm);
            let found = segmenter.predict(case)?;
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

//! Segments arbitrary images with a segmenter that this program trained.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use asyndgan_data::{Preparation, from_slice_order};
use asyndgan_medio::{
    Format, Orientation, Subject, Volume, check_orientation_tag, dicom::read_series, is_grey, is_volume, read_grey_planes, read_rgb,
    read_volume, write_instances, write_labels,
};
use asyndgan_task::{Absent, ImageKind, Task};
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
    let shown = image.display();
    let (stem, ending) = if image.is_dir() {
        let name = image.file_name().with_context(|| format!("{shown}: give the folder of a DICOM series by its name"))?;
        (name.to_string_lossy().into_owned(), ".nii.gz")
    } else {
        let stem = Format::stem(image).with_context(|| format!("{shown} has an unsupported format; use one of {}", Format::endings()))?;
        (stem, if is_volume(image)? { ".nii.gz" } else { ".png" })
    };
    Ok(stem.strip_suffix("_0000").unwrap_or(&stem).to_owned() + ending)
}

fn one(image: &Path, segmenter: &SegmenterFile, place: &Path) -> Result<()> {
    let card = &segmenter.card;
    let (task, shown) = (&card.task, image.display().to_string());
    let absent = Absent { channels: card.absent_channels.iter().map(|&k| task.channels[k].name.clone()).collect(), classes: Vec::new() };
    let preparation = Preparation { absent: &absent, ..card.scale.preparation(task) };
    match (task.images, image.is_dir() || is_volume(image)?) {
        (ImageKind::Volumes, true) => {
            let channels = channel_files(image, task.channels.len())?;
            let is_absent = |k: usize| card.absent_channels.contains(&k);
            let first = read(&channels[(0..channels.len()).find(|&k| !is_absent(k)).unwrap_or(0)])?;
            let (own, affine, dim) = (first.affine.orientation(), first.affine, first.voxels.dim());
            let mut turned = Vec::new();
            for (k, path) in channels.iter().enumerate() {
                // The network was trained without an absent channel: its file is not read.
                let channel = if is_absent(k) { Volume { voxels: Array3::zeros(dim), affine } } else { read(path)? };
                let aligned = channel.on_grid(&first.grid());
                turned.push(aligned.map_err(|_| anyhow!("{} is not on the grid of {shown}; resample it", path.display()))?);
            }
            let turned: Vec<Volume> = turned.into_iter().map(|channel| channel.oriented(Orientation::LPS)).collect();
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
            let planes = picture_planes(task, &card.absent_channels, image)?;
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
        (ImageKind::Pictures, true) if image.is_dir() => bail!("{shown} is a folder: name the pictures in it"),
        (ImageKind::Pictures, true) => bail!("{shown} is a volume; this segmenter for {} requires pictures", task.name),
    }
}

/// Reads a volume: a file, or the folder of a DICOM series.
fn read(path: &Path) -> Result<Volume> {
    if !path.is_dir() {
        return Ok(read_volume(path)?);
    }
    read_series(path)
        .with_context(|| format!("{} is a folder, which must have one DICOM series; name other images one by one", path.display()))
}

/// The channels of a picture, with 0 in absent ones.
///
/// As in training, three channels are the colours of one file or in a file each; a network that knows one channel of
/// several takes the named file as this channel.
fn picture_planes(task: &Task, absent: &[usize], image: &Path) -> Result<Array3<f32>> {
    let count = task.channels.len();
    let present: Vec<usize> = (0..count).filter(|k| !absent.contains(k)).collect();
    let files = match channel_files(image, count) {
        _ if present.len() == 1 && count > 1 && !task.is_coloured() => vec![image.to_owned()],
        Ok(files) if count != 3 || files[1..].iter().any(|file| file.exists()) => present.iter().map(|&k| files[k].clone()).collect(),
        Err(error) if count != 3 => return Err(error),
        _ => vec![image.to_owned()],
    };
    for file in &files {
        check_orientation_tag(file)?;
    }
    if count == 1 || count == 3 && files.len() == 1 && present.len() > 1 {
        let planes = read_rgb(image)?;
        let is_readable = count == 1 || task.is_coloured() || !is_grey(&planes);
        ensure!(is_readable, "{} is grey, but {} has three channels: name the file NAME_0000 of the first", image.display(), task.name);
        return Ok(planes);
    }
    let read = read_grey_planes(&files)?;
    let (_, rows, columns) = read.dim();
    let mut planes = Array3::zeros((count, rows, columns));
    for (k, plane) in present.into_iter().zip(read.outer_iter()) {
        planes.index_axis_mut(Axis(0), k).assign(&plane);
    }
    Ok(planes)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn task(channels: &[&str], normalisation: &str) -> Task {
        let channel = |name: &&str| format!("{{ name = \"{name}\", normalisation = {normalisation} }}");
        let channels = channels.iter().map(channel).collect::<Vec<_>>().join(", ");
        let text =
            format!("name = \"cells\"\nimages = \"pictures\"\nchannels = [{channels}]\nclasses = [{{ name = \"cell\", labels = [1] }}]");
        Task::parse(&text).expect("a task")
    }

    const WINDOW: &str = "{ window = { low = 0.0, high = 255.0 } }";

    #[test]
    fn a_picture_is_in_one_file_or_in_one_per_channel() {
        let place = tempfile::tempdir().expect("a folder");
        let file = |name: &str| place.path().join(name);
        let grey = |name: &str, value: u8| {
            asyndgan_medio::write_grey(&file(name), ndarray::Array2::from_elem((4, 4), value).view()).expect("written");
        };
        for (name, value) in [("a_0000.png", 1), ("a_0001.png", 2), ("a_0002.png", 3), ("b_0000.png", 4), ("b_0001.png", 5), ("c.png", 6)] {
            grey(name, value);
        }
        let colours = Array3::from_shape_fn((3, 4, 4), |(k, ..)| 80 * k as u8);
        asyndgan_medio::write_rgb(&file("d.png"), colours.view()).expect("written");
        let of = |task: &Task, absent: &[usize], name: &str| {
            picture_planes(task, absent, &file(name)).map(|planes| planes.outer_iter().map(|plane| plane[[0, 0]]).collect::<Vec<f32>>())
        };
        let (rgb, three) = (task(&["r", "g", "b"], "\"rgb\""), task(&["x", "y", "z"], WINDOW));
        for task in [&rgb, &three] {
            assert_eq!(of(task, &[], "a_0000.png").expect("grey files"), [1.0, 2.0, 3.0]);
            assert_eq!(of(task, &[], "d.png").expect("colours"), [0.0, 80.0, 160.0]);
            assert!(of(task, &[], "b_0000.png").is_err(), "the third file is missing");
        }
        assert_eq!(of(&three, &[1], "a_0000.png").expect("two files"), [1.0, 0.0, 3.0]);
        assert_eq!(of(&rgb, &[], "c.png").expect("a grey picture has equal colours"), [6.0; 3]);
        assert!(of(&three, &[], "c.png").is_err_and(|error| error.to_string().contains("is grey")));
        let two = task(&["x", "y"], WINDOW);
        assert_eq!(of(&two, &[], "a_0000.png").expect("grey files"), [1.0, 2.0]);
        assert_eq!(of(&two, &[0], "c.png").expect("one channel"), [0.0, 6.0]);
        assert!(of(&two, &[], "c.png").is_err_and(|error| error.to_string().contains("NAME_0000 to NAME_0001")));
    }

    #[test]
    fn the_mask_of_a_series_has_the_name_of_its_folder() {
        let place = tempfile::tempdir().expect("a folder");
        let series = place.path().join("scan_0000");
        fs::create_dir(&series).expect("created");
        assert_eq!(mask_name(&series).expect("a name"), "scan.nii.gz");
        let error = format!("{:#}", read(&series).expect_err("no series"));
        assert!(error.contains("must have one DICOM series"), "{error}");
    }
}

//! Compares synthetic images with real ones, in the feature space of the segmenter that was trained on all real images.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use asyndgan_data::{CaseSet, covering_windows, window};
use asyndgan_metrics::{Undefined, fid, kid, nearest_distances, percentile_of_sorted, precision_recall};
use asyndgan_models::Segmenter;
use asyndgan_paper::{Arm, ImageQuality, Step};
use asyndgan_protocol::{Role, Stream, stream};
use ndarray::{Array2, Array3, ArrayView1, Axis, concatenate};
use rand::{RngExt, seq::SliceRandom as _};
use tch::{Device, Kind, Tensor};

use crate::{
    network_file::SegmenterFile,
    progress::Progress,
    run::{RunFolder, synthesize::made},
};

/// Maximum number of images of each kind. All kinds have the same number, because the measures depend on it.
const IMAGES_MAX: usize = 500;
/// Number of nearest neighbours for precision and recall.
const NEIGHBOURS: usize = 3;

/// The features of some images, and the images.
pub(crate) struct Sample {
    pub(crate) images: Vec<Array3<f32>>,
    pub(crate) features: Array2<f64>,
    /// The features without the channels that some training images lack; one for each of [`Training::lacking`], unless
    /// all are complete.
    without: Vec<Array2<f64>>,
}

/// The features of every real training image, in crops that cover it: a synthetic image may be a copy of any of them.
pub(crate) struct Training {
    cases: CaseSet,
    crop: usize,
    /// The case, first row and first column of each crop.
    places: Vec<(usize, usize, usize)>,
    features: Array2<f64>,
    /// Sets of channels that training images lack, each with the rows of `features` that lack them.
    lacking: BTreeMap<Vec<usize>, Vec<usize>>,
}

impl Training {
    fn new(cases: CaseSet, crop: usize, segmenter: &Segmenter, device: Device) -> Result<Self> {
        let (mut places, mut parts) = (Vec::new(), Vec::new());
        let mut bar = Progress::new(&Step::Report.label(), cases.len() as u64);
        for case in 0..cases.len() {
            let image = cases.read(case)?.image;
            let (_, rows, columns) = image.dim();
            let starts = covering_windows(rows, columns, crop);
            let crops: Vec<_> = starts.iter().map(|&(top, left)| window(image.view(), top, left, crop).to_owned()).collect();
            parts.push(features(segmenter, device, &crops));
            places.extend(starts.iter().map(|&(top, left)| (case, top, left)));
            bar.set(case as u64 + 1);
        }
        let parts: Vec<_> = parts.iter().map(|array| array.view()).collect();
        let features = if parts.is_empty() { Array2::zeros((0, 0)) } else { concatenate(Axis(0), &parts)? };
        let mut lacking = BTreeMap::<Vec<usize>, Vec<usize>>::new();
        for (row, &(case, ..)) in places.iter().enumerate() {
            lacking.entry(cases.absent_channels(case).to_vec()).or_default().push(row);
        }
        Ok(Self { cases, crop, places, features, lacking })
    }

    /// Distances of a sample to the nearest training images. Where those lack channels, the channels of the sample do
    /// not count either.
    fn distances(&self, sample: &Sample) -> Result<Vec<f64>, Undefined> {
        if sample.without.is_empty() {
            return nearest_distances(sample.features.view(), self.features.view());
        }
        let mut nearest = vec![f64::INFINITY; sample.images.len()];
        for (rows, features) in self.lacking.values().zip(&sample.without) {
            let distances = nearest_distances(features.view(), self.features.select(Axis(0), rows).view())?;
            nearest.iter_mut().zip(distances).for_each(|(nearest, distance)| *nearest = nearest.min(distance));
        }
        Ok(nearest)
    }

    /// The crop with the nearest features; `None` if there are no images.
    pub(crate) fn nearest(&self, from: ArrayView1<f64>) -> Result<Option<Array3<f32>>> {
        let distance = |to: ArrayView1<f64>| to.iter().zip(from).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let distances = self.features.rows().into_iter().map(distance).zip(&self.places);
        let Some((_, &(case, top, left))) = distances.min_by(|a, b| a.0.total_cmp(&b.0)) else { return Ok(None) };
        Ok(Some(window(self.cases.read(case)?.image.view(), top, left, self.crop).to_owned()))
    }
}

/// What is compared: real training images, real held-out ones, and the synthetic ones of every arm.
pub(crate) struct Samples {
    pub(crate) training: Training,
    real: Sample,
    held_out: Sample,
    pub(crate) synthetic: Vec<(Arm, Sample)>,
    /// Features of the held-out images and of those of every arm, where real images lack channels: of copies that lack
    /// them too.
    compared: Vec<Option<Array2<f64>>>,
}

impl Samples {
    /// Reads the samples; `None` without the segmenter that was trained on all real images.
    pub(crate) fn new(folder: &RunFolder, arms: &[Arm]) -> Result<Option<Self>> {
        let seed = folder.run.seeds[0];
        let weights = Step::folder(&folder.path, Arm::RealAll, seed).join("segmenter.safetensors");
        if folder.run.task().is_none() || !arms.contains(&Arm::RealAll) || !weights.is_file() {
            return Ok(None);
        }
        let segmenter = SegmenterFile::open(&weights, folder.device)?.network;
        let mut rng = stream(seed, Role::Comparison, 0, 0);
        let crop = folder.run.settings.data.crop;
        let sites: Vec<_> = (1..=folder.prepared()?.sites.len() as u32).map(|site| folder.site(site)).collect();
        let all = CaseSet::open(&sites)?;
        let mut sets = Vec::new();
        for &arm in arms.iter().filter(|arm| arm.is_synthetic()) {
            sets.push((arm, CaseSet::open(&[made(folder, arm, seed)?])?));
        }
        let lacking: BTreeSet<Vec<usize>> = (0..all.len()).map(|case| all.absent_channels(case).to_vec()).collect();
        let are_complete = lacking.iter().all(Vec::is_empty);
        let of = |images: Vec<Array3<f32>>| {
            let without = |channels: &Vec<usize>| {
                let images: Vec<_> = images.iter().map(|image| without_channels(image, channels)).collect();
                features(&segmenter, folder.device, &images)
            };
            let without = if are_complete { Vec::new() } else { lacking.iter().map(without).collect() };
            Sample { features: features(&segmenter, folder.device, &images), without, images }
        };
        let count = sets.iter().map(|(_, made)| made.len()).chain([all.len(), IMAGES_MAX]).min().unwrap_or(0);
        let (real, mut absent): (Vec<_>, Vec<_>) = crops(&all, crop, count, &mut rng)?.into_iter().unzip();
        let (real, held_out) = (of(real), of(held_out(folder, count, &mut rng)?));
        let mut synthetic = Vec::new();
        for (arm, made) in sets {
            let crops = crops(&made, crop, count, &mut rng)?.into_iter().map(|(image, _)| image).collect();
            synthetic.push((arm, of(crops)));
        }
        // Where real images lack channels, so do as many of those that they are compared with.
        absent.shuffle(&mut stream(seed, Role::Comparison, 1, 0));
        let like_real = |sample: &Sample| {
            let images: Vec<_> = sample.images.iter().zip(&absent).map(|(image, absent)| without_channels(image, absent)).collect();
            (!are_complete).then(|| features(&segmenter, folder.device, &images))
        };
        let compared = std::iter::once(&held_out).chain(synthetic.iter().map(|(_, sample)| sample)).map(like_real).collect();
        let training = Training::new(all, crop, &segmenter, folder.device)?;
        Ok(Some(Self { training, real, held_out, synthetic, compared }))
    }

    /// The comparisons. The first is of held-out real images, as a reference: the scores of real images of other
    /// patients.
    pub(crate) fn compare(&self) -> Vec<ImageQuality> {
        let one = |(arm, sample, compared): (Option<Arm>, &Sample, &Option<Array2<f64>>)| {
            let (synthetic, real) = (compared.as_ref().unwrap_or(&sample.features).view(), self.real.features.view());
            let mut undefined = BTreeMap::new();
            let both = known("precision and recall", precision_recall(real, synthetic, NEIGHBOURS), &mut undefined);
            let nearest = known("distance to the nearest", self.training.distances(sample), &mut undefined).map(|mut d| {
                d.sort_by(f64::total_cmp);
                [5.0, 50.0].map(|p| percentile_of_sorted(&d, p))
            });
            ImageQuality {
                arm,
                images: sample.images.len(),
                fid: known("FID", fid(synthetic, real), &mut undefined),
                kid: known("KID", kid(synthetic, real), &mut undefined),
                precision: both.map(|b| b.0),
                recall: both.map(|b| b.1),
                nearest_real: nearest,
                undefined,
            }
        };
        let samples = std::iter::once((None, &self.held_out)).chain(self.synthetic.iter().map(|(arm, sample)| (Some(*arm), sample)));
        samples.zip(&self.compared).map(|((arm, sample), compared)| one((arm, sample, compared))).collect()
    }
}

/// An image with 0 in some channels.
fn without_channels(image: &Array3<f32>, channels: &[usize]) -> Array3<f32> {
    let mut image = image.clone();
    for &channel in channels {
        image.index_axis_mut(Axis(0), channel).fill(0.0);
    }
    image
}

/// A measure's value; else its reason is noted.
fn known<T>(measure: &str, value: Result<T, Undefined>, undefined: &mut BTreeMap<String, String>) -> Option<T> {
    value.inspect_err(|why| _ = undefined.insert(measure.into(), why.to_string())).ok()
}

/// Random crops of some cases, evenly spread over all, with the indices of the channels that each does not have.
fn crops(cases: &CaseSet, crop: usize, count: usize, rng: &mut Stream) -> Result<Vec<(Array3<f32>, Vec<usize>)>> {
    let one = |i: usize| {
        let number = i * cases.len() / count;
        let case = cases.read(number)?;
        let (_, rows, columns) = case.image.dim();
        let (top, left) = (rng.random_range(0..=rows - crop), rng.random_range(0..=columns - crop));
        Ok((window(case.image.view(), top, left, crop).to_owned(), cases.absent_channels(number).to_vec()))
    };
    (0..count).map(one).collect()
}

/// Random crops of the held-out cases, evenly spread over all.
fn held_out(folder: &RunFolder, count: usize, rng: &mut Stream) -> Result<Vec<Array3<f32>>> {
    let (test, crop) = (folder.test()?, folder.run.settings.data.crop);
    let mut images = Vec::new();
    for i in 0..test.len() {
        let case = test.read(i)?;
        let (slices, _, rows, columns) = case.images.dim();
        for _ in count * i / test.len()..count * (i + 1) / test.len() {
            let (slice, top, left) = (rng.random_range(0..slices), rng.random_range(0..=rows - crop), rng.random_range(0..=columns - crop));
            images.push(window(case.images.index_axis(Axis(0), slice), top, left, crop).to_owned());
        }
    }
    Ok(images)
}

fn features(segmenter: &Segmenter, device: Device, images: &[Array3<f32>]) -> Array2<f64> {
    let mut values = Vec::new();
    let mut width = 0;
    for batch in images.chunks(32) {
        let (channels, rows, columns) = batch[0].dim();
        let flat: Vec<f32> = batch.iter().flat_map(|image| image.iter().copied()).collect();
        let shape = [batch.len() as i64, channels as i64, rows as i64, columns as i64];
        let features = segmenter.features(&Tensor::from_slice(&flat).view(shape).to_device(device));
        let features = features.to_device(Device::Cpu).to_kind(Kind::Double).contiguous();
        width = features.size()[1] as usize;
        let mut part = vec![0.0; features.numel()];
        features.copy_data(&mut part, features.numel());
        values.extend(part);
    }
    Array2::from_shape_vec((images.len(), width), values).expect("features of every image")
}

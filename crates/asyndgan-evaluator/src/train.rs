use asyndgan_data::{Case, CaseSet, stain_jitter, window};
use asyndgan_models::{Adam, AdamConfig, Noise, Precision, Segmenter, SegmenterConfig, loss};
use asyndgan_task::Task;
use ndarray::{Array3, Array4, Axis};
use rand::{Rng, RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{Error, target, target::possible_targets};

/// Training settings of a segmenter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SegmenterTraining {
    /// The network.
    pub network: SegmenterConfig,
    /// Optimiser steps.
    pub steps: u64,
    /// Images per step.
    pub batch: usize,
    /// Rows and columns of the random crops.
    pub crop: usize,
    /// Adam's learning rate; decays linearly to zero over the second half.
    pub learning_rate: f64,
    /// Maximum random scale and shift of each channel (the same in every arm), because stains and scanners differ.
    pub colour_jitter: f32,
    /// Maximum random change of the two stains in colour images of tissue, as a fraction (the same in every arm); 0
    /// turns it off.
    pub stain_jitter: f32,
    /// Augment images with quarter turns in addition to flips; otherwise flips, if any.
    pub quarter_turns: bool,
    /// Augment images with flips.
    pub flips: bool,
    /// Precision of the layers during training.
    #[serde(default)]
    pub precision: Precision,
}

impl SegmenterTraining {
    /// Training of a network for `steps` steps: batches of 8 crops of 64 x 64, learning rate 1e-3, flips, no jitter.
    ///
    /// # Example
    /// ```
    /// use asyndgan_evaluator::{SegmenterConfig, SegmenterTraining};
    /// let training = SegmenterTraining::new(SegmenterConfig::new(1, 4), 2_000).with(|training| training.crop = 128);
    /// assert_eq!((training.steps, training.crop), (2_000, 128));
    /// ```
    pub fn new(network: SegmenterConfig, steps: u64) -> Self {
        Self {
            network,
            steps,
            batch: 8,
            crop: 64,
            learning_rate: 1e-3,
            colour_jitter: 0.0,
            stain_jitter: 0.0,
            quarter_turns: false,
            flips: true,
            precision: Precision::Float32,
        }
    }

    /// This configuration with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Number of steps between two evaluations of the loss.
const LOSS_EVERY: u64 = 10;

/// Trains a segmenter on real or synthetic cases; only one batch is in memory at a time. `progress` receives the number
/// of steps done, and the loss at every tenth step.
///
/// # Panics
/// If a case is smaller than a crop.
///
/// # Errors
/// [`Error::NoCases`], [`Error::Diverged`], [`Error::Data`].
pub fn train_segmenter(
    training: &SegmenterTraining,
    task: &Task,
    cases: &CaseSet,
    device: Device,
    rng: &mut ChaCha8Rng,
    progress: impl FnMut(u64, Option<f64>),
) -> Result<Segmenter, Error> {
    train_segmenter_on(training, task, &[(cases, 1.0)], device, rng, progress)
}

/// Trains a segmenter on several sets of cases, such as real and synthetic ones. Each set comes with its share of every
/// batch, and has one image in it at least.
///
/// # Panics
/// If a case is smaller than a crop.
///
/// # Errors
/// As [`train_segmenter`].
pub fn train_segmenter_on(
    training: &SegmenterTraining,
    task: &Task,
    sets: &[(&CaseSet, f64)],
    device: Device,
    rng: &mut ChaCha8Rng,
    mut progress: impl FnMut(u64, Option<f64>),
) -> Result<Segmenter, Error> {
    let mut trainer = Trainer::new(training, task, sets, device, rng)?;
    for step in 0..training.steps {
        progress(step + 1, trainer.step(step, rng)?);
    }
    Ok(trainer.segmenter)
}

/// A segmenter that learns from sets of cases.
pub(crate) struct Trainer<'a> {
    training: &'a SegmenterTraining,
    task: &'a Task,
    sets: &'a [(&'a CaseSet, f64)],
    /// Images of each set in a batch.
    counts: Vec<usize>,
    /// The cases of each set that are still to come, before the set is shuffled again.
    orders: Vec<Vec<usize>>,
    device: Device,
    adam: Adam,
    pub(crate) segmenter: Segmenter,
}

impl<'a> Trainer<'a> {
    /// A segmenter with initial weights.
    pub(crate) fn new(
        training: &'a SegmenterTraining,
        task: &'a Task,
        sets: &'a [(&'a CaseSet, f64)],
        device: Device,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self, Error> {
        if sets.is_empty() || sets.iter().any(|(cases, _)| cases.is_empty()) {
            return Err(Error::NoCases);
        }
        let segmenter = Segmenter::new(&training.network, device, rng);
        let adam = AdamConfig { learning_rate: training.learning_rate, beta_1: 0.9, beta_2: 0.999 };
        let adam = Adam::new(adam, &segmenter.parameters);
        let (counts, orders) = (counts(sets, training.batch), vec![Vec::new(); sets.len()]);
        Ok(Self { training, task, sets, counts, orders, device, adam, segmenter })
    }

    /// Takes a step; returns the loss at every tenth step.
    pub(crate) fn step(&mut self, step: u64, rng: &mut ChaCha8Rng) -> Result<Option<f64>, Error> {
        let Self { training, task, sets, counts, orders, device, adam, segmenter } = self;
        let mut chosen: Vec<(&CaseSet, usize)> = Vec::new();
        for (((cases, _), &mut count), order) in sets.iter().zip(counts).zip(orders) {
            for _ in 0..count {
                if order.is_empty() {
                    *order = (0..cases.len()).collect();
                    order.shuffle(rng);
                }
                chosen.push((cases, order.pop().expect("refilled")));
            }
        }
        let read = |(cases, i): (&'_ CaseSet, usize)| Ok((cases.read(i)?, cases.absent_channels(i).to_vec()));
        let possible: Vec<bool> = chosen.iter().flat_map(|(cases, i)| possible_targets(task, cases.absent_classes(*i))).collect();
        let possible = Tensor::from_slice(&possible).view([chosen.len() as i64, -1]);
        let chosen = chosen.into_iter().map(read).collect::<Result<Vec<_>, Error>>()?;
        let (images, targets) = batch(training, task, &chosen, rng);
        let mut noise = Noise::new(vec![(chosen.len() as i64, ChaCha8Rng::from_rng(rng))]);
        let images = training.precision.cast(&images.to_device(*device));
        let logits = segmenter.forward_train(&images, &mut noise).to_kind(Kind::Float);
        let loss = loss::segmentation(&logits, &targets.to_device(*device), Some(&possible.to_device(*device)));
        let value = step.is_multiple_of(LOSS_EVERY).then(|| loss.double_value(&[]));
        if value.is_some_and(|loss| !loss.is_finite()) {
            return Err(Error::Diverged { step });
        }
        let left = (training.steps - step) as f64 / training.steps as f64;
        adam.step(&segmenter.parameters, &segmenter.parameters.gradient(&loss), (2.0 * left).min(1.0));
        Ok(value)
    }
}

/// Images of each set in a batch: its share, and one at least; the last set has the rest.
fn counts(sets: &[(&CaseSet, f64)], batch: usize) -> Vec<usize> {
    let mut left = batch.max(sets.len());
    let mut counts = Vec::new();
    for (number, (_, share)) in sets.iter().enumerate() {
        let others = sets.len() - 1 - number;
        let count = if others == 0 { left } else { ((batch as f64 * share).round() as usize).clamp(1, left - others) };
        counts.push(count);
        left -= count;
    }
    counts
}

/// Random crops and flips, with jittered channels; absent channels stay 0.
fn batch(training: &SegmenterTraining, task: &Task, cases: &[(Case, Vec<usize>)], rng: &mut impl Rng) -> (Tensor, Tensor) {
    let (mut images, mut targets) = (Vec::new(), Vec::new());
    for (case, absent) in cases {
        let (_, rows, columns) = case.image.dim();
        let (top, left) = (rng.random_range(0..=rows - training.crop), rng.random_range(0..=columns - training.crop));
        let mut image = window(case.image.view(), top, left, training.crop);
        let mut condition = window(case.condition.view(), top, left, training.crop);
        if training.quarter_turns && rng.random() {
            image.swap_axes(1, 2);
            condition.swap_axes(0, 1);
        }
        for axis in 0..2 {
            let flip: bool = rng.random();
            if flip && training.flips {
                image.invert_axis(Axis(axis + 1));
                condition.invert_axis(Axis(axis));
            }
        }
        let mut image = image.to_owned();
        if training.stain_jitter > 0.0 {
            stain_jitter(&mut image, training.stain_jitter, rng);
        }
        let jitter = training.colour_jitter;
        for mut plane in image.axis_iter_mut(Axis(0)) {
            let (scale, shift) = (1.0 + jitter * rng.random_range(-1.0..1.0_f32), jitter * rng.random_range(-1.0..1.0_f32));
            plane.mapv_inplace(|v| v * scale + shift);
        }
        for &channel in absent {
            image.index_axis_mut(Axis(0), channel).fill(0.0);
        }
        images.push(image);
        targets.push(target(task, condition));
    }
    let images: Array4<f32> =
        ndarray::stack(Axis(0), &images.iter().map(|array| array.view()).collect::<Vec<_>>()).expect("crops of one shape");
    let targets: Array3<u8> =
        ndarray::stack(Axis(0), &targets.iter().map(|array| array.view()).collect::<Vec<_>>()).expect("crops of one shape");
    let shape = |s: &[usize]| s.iter().map(|&d| d as i64).collect::<Vec<_>>();
    let images = Tensor::from_slice(images.as_slice().expect("stacked")).view(&shape(images.shape())[..]);
    let targets = Tensor::from_slice(targets.as_slice().expect("stacked")).view(&shape(targets.shape())[..]);
    (images, targets.to_kind(Kind::Int64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set_has_its_share_of_a_batch() {
        let set = CaseSet::open(&[]).expect("no case");
        let of = |shares: &[f64], batch| counts(&shares.iter().map(|share| (&set, *share)).collect::<Vec<_>>(), batch);
        assert_eq!(of(&[1.0], 8), [8]);
        assert_eq!(of(&[0.5, 0.5], 8), [4, 4]);
        assert_eq!(of(&[0.25, 0.75], 8), [2, 6]);
        assert_eq!(of(&[0.01, 0.99], 8), [1, 7]);
        assert_eq!(of(&[0.99, 0.01], 8), [7, 1]);
        assert_eq!(of(&[0.5, 0.5], 1), [1, 1]);
    }
}

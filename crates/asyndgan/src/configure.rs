//! Translates a run's settings into the configurations of the crates.

use asyndgan_evaluator::{SegmenterTraining, Task};
use asyndgan_medio::prepare::{BRAIN_CODES, TISSUE_CODES};
use asyndgan_models::{
    AdamConfig, DiscriminatorConfig, GeneratorConfig, Guidance, Norm, ResNetConfig, SegmenterConfig, Upsample, Variation, loss::Game,
};
use asyndgan_paper::{Arm, Experiment, GanLoss, Run, Settings};
use asyndgan_protocol::{Dtype, RunDescription, Symmetry, Waiting, Weighting};
use asyndgan_training::{GanConfig, Precision, toy};
use clap::ValueEnum;
use serde::Deserialize;

/// What the images show, in the terms of users who do not reproduce the paper's experiments.
#[derive(Debug, Clone, Copy, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Images {
    Brain,
    Tissue,
}

impl Images {
    /// The experiment that has such images.
    pub(crate) fn experiment(self) -> Experiment {
        match self {
            Self::Brain => Experiment::Table1,
            Self::Tissue => Experiment::Table2,
        }
    }
}

pub(crate) fn image_channels(experiment: Experiment) -> i64 {
    if experiment == Experiment::Table2 { 3 } else { 1 }
}

pub(crate) fn codes(experiment: Experiment) -> u8 {
    match experiment {
        Experiment::Fig5 => toy::SITES.len() as u8,
        Experiment::Table1 => BRAIN_CODES,
        Experiment::Table2 => TISSUE_CODES,
    }
}

/// An arm's networks. The overlapping arm follows equation 1 exactly, because theory predicts its result.
pub(crate) fn gan(run: &Run, arm: Arm) -> GanConfig {
    let s = &run.settings;
    let Settings { generator_width: width, generator_blocks: blocks, discriminator_width, batch_norm, .. } = *s;
    let norm = if batch_norm { Norm::Batch } else { Norm::Instance };
    let (codes, image_channels) = (codes(run.experiment), image_channels(run.experiment));
    let condition_channels = i64::from(codes);
    let channels = condition_channels + image_channels;
    let (generator, discriminator) = if run.experiment == Experiment::Fig5 {
        let generator = GeneratorConfig::Perceptron { condition_channels, image_channels, width, noise: 4 };
        (generator, DiscriminatorConfig::Perceptron { channels, width: discriminator_width })
    } else {
        let upsample = if s.resize_convolution { Upsample::Nearest } else { Upsample::Transposed };
        let variation = if s.noise_code > 0 { Variation::EveryScale { code: s.noise_code } } else { Variation::Dropout };
        let guidance = if s.guided { Guidance::EveryScale } else { Guidance::First };
        let generator = ResNetConfig { condition_channels, image_channels, width, blocks, norm, upsample, variation, guidance };
        let (width, spectral) = (discriminator_width, s.spectral_norm);
        let discriminator = match s.gan_loss {
            GanLoss::Segmentation => DiscriminatorConfig::Segmenting { codes: condition_channels, image_channels, width, spectral },
            _ => DiscriminatorConfig::Patch { channels, width, norm, spectral },
        };
        (GeneratorConfig::ResNet(generator), discriminator)
    };
    let adam = |learning_rate| AdamConfig { learning_rate, beta_1: s.beta_1, beta_2: s.beta_2 };
    GanConfig {
        generator,
        discriminator,
        generator_adam: adam(s.learning_rate),
        discriminator_adam: adam(s.discriminator_learning_rate),
        codes,
        game: match s.gan_loss {
            _ if arm == Arm::AsynDganOverlap => Game::Minimax,
            GanLoss::CrossEntropy => Game::CrossEntropy,
            GanLoss::Hinge => Game::Hinge,
            GanLoss::LeastSquares => Game::LeastSquares,
            GanLoss::Segmentation => Game::Segmentation,
        },
        augmentation: s.augmentation,
        average_decay: s.average_decay,
        site_code: s.site_code,
        precision: if s.bfloat16 { Precision::Bfloat16 } else { Precision::Float32 },
    }
}

fn symmetry(run: &Run) -> Symmetry {
    match run.experiment {
        Experiment::Fig5 => Symmetry::None,
        _ if run.settings.quarter_turns => Symmetry::Turns,
        _ => Symmetry::Flips,
    }
}

/// Whether every site has a discriminator of its own.
fn is_distributed(arm: Arm) -> bool {
    matches!(arm, Arm::AsynDgan | Arm::AsynDganOverlap)
}

/// The run of one arm. A single GAN sees as many pairs per round as all sites together.
pub(crate) fn description(run: &Run, arm: Arm, seed: u64, sites: u32) -> RunDescription {
    let s = &run.settings;
    RunDescription {
        name: format!("{} {arm}", run.experiment.name()),
        seed,
        rounds: s.rounds,
        batch: if is_distributed(arm) { s.batch } else { s.batch * sites },
        channels: image_channels(run.experiment) as u32,
        size: s.size as u32,
        crop: s.crop as u32,
        symmetry: symmetry(run),
        weighting: if s.uniform_weights { Weighting::Uniform } else { Weighting::Proportional },
        l1_weight: s.l1_weight,
        checkpoint_every: s.checkpoint_every,
        waiting: Waiting::All,
        synthetic_dtype: Dtype::F32,
        feedback_dtype: Dtype::F32,
        site_threads: s.site_threads,
        networks: gan(run, arm).description(),
    }
}

/// Server threads in the run of one arm. A single GAN has no sites to distribute across threads.
pub(crate) fn server_threads(run: &Run, arm: Arm) -> u32 {
    if is_distributed(arm) { run.settings.server_threads } else { run.settings.site_threads }
}

pub(crate) fn task(experiment: Experiment) -> Task {
    if experiment == Experiment::Table1 { Task::Tumour } else { Task::Nuclei }
}

pub(crate) fn segmenter(run: &Run) -> SegmenterTraining {
    let s = &run.settings;
    SegmenterTraining {
        network: SegmenterConfig {
            image_channels: image_channels(run.experiment),
            classes: task(run.experiment).classes(),
            width: s.segmenter_width,
            depth: s.segmenter_depth,
        },
        steps: s.segmenter_steps,
        batch: s.segmenter_batch,
        crop: s.crop,
        learning_rate: s.segmenter_learning_rate,
        colour_jitter: s.colour_jitter,
        stain_jitter: if image_channels(run.experiment) == 3 { s.stain_jitter } else { 0.0 },
        quarter_turns: s.quarter_turns,
    }
}

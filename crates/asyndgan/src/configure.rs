//! Translates a run's settings into the configurations of the crates.

use std::num::NonZeroU64;

use anyhow::{Context, Result};
use asyndgan_data::Preparation;
use asyndgan_evaluator::{SegmenterTraining, segmenter_classes};
use asyndgan_models::{
    AdamConfig, Conditioning, DiscriminatorConfig, GeneratorConfig, NoiseInjection, Norm, ResNetConfig, SegmenterConfig, Upsample, loss,
};
use asyndgan_paper::{Arm, GanLossSetting, MaskSetting, Run, Settings};
use asyndgan_protocol::{ConditionPolicy, PrivacyBudget, RunDescription, Symmetry, Weighting};
use asyndgan_task::{Absent, Task};
use asyndgan_training::{Baseline, DpSgd, GanConfig, Precision, toy};

/// Channels of an image; the toy has one value.
fn image_channels(run: &Run) -> i64 {
    run.task().map_or(1, |task| task.channels.len() as i64)
}

/// How a run prepares images with all channels and classes of its task.
pub(crate) fn preparation<'a>(task: &'a Task, settings: &Settings) -> Preparation<'a> {
    Preparation { task, size: settings.data.size, downsampling: settings.data.downsampling, absent: Absent::none() }
}

/// Number of classes in a condition, without the background; the toy has one per site.
pub(crate) fn condition_classes(run: &Run) -> u8 {
    run.task().map_or(toy::SITES.len() as u8, Task::condition_classes)
}

/// An arm's networks. The overlapping arm follows equation 1 exactly, because theory predicts its result.
pub(crate) fn gan(run: &Run, arm: Arm) -> GanConfig {
    let s = &run.settings;
    let (width, blocks, discriminator_width) = (s.generator.width, s.generator.blocks, s.discriminator.width);
    let norm = if s.generator.batch_norm { Norm::Batch } else { Norm::Instance };
    let (condition_classes, image_channels) = (condition_classes(run), image_channels(run));
    let condition_channels = i64::from(condition_classes);
    let channels = condition_channels + image_channels;
    let (generator, discriminator) = if run.task().is_none() {
        let generator = GeneratorConfig::Mlp { condition_channels, image_channels, width, noise: 4 };
        (generator, DiscriminatorConfig::Mlp { channels, width: discriminator_width })
    } else {
        let upsample = if s.generator.resize_convolution { Upsample::Nearest } else { Upsample::Transposed };
        let noise =
            if s.generator.noise_code > 0 { NoiseInjection::MultiScale { code: s.generator.noise_code } } else { NoiseInjection::Dropout };
        let conditioning = if s.generator.guided { Conditioning::Spade } else { Conditioning::Input };
        let generator = ResNetConfig::new(condition_channels, image_channels).with(|network| {
            network.width = width;
            network.blocks = blocks;
            network.norm = norm;
            network.upsample = upsample;
            network.noise = noise;
            network.conditioning = conditioning;
        });
        let (width, spectral) = (discriminator_width, s.discriminator.spectral_norm);
        let discriminator = match s.protocol.gan_loss {
            GanLossSetting::Segmentation => DiscriminatorConfig::UNet { condition_channels, image_channels, width, spectral },
            _ => DiscriminatorConfig::Patch { channels, width, norm, spectral },
        };
        (GeneratorConfig::ResNet(generator), discriminator)
    };
    let adam = |learning_rate| AdamConfig { learning_rate, beta_1: s.optimiser.beta_1, beta_2: s.optimiser.beta_2 };
    GanConfig::new(generator, discriminator, condition_classes).with(|config| {
        config.generator_adam = adam(s.optimiser.generator_learning_rate);
        config.discriminator_adam = adam(s.optimiser.discriminator_learning_rate);
        config.images = run.task().map(|task| preparation(task, s).description());
        config.gan_loss = match s.protocol.gan_loss {
            _ if arm == Arm::AsynDganOverlap => loss::GanLoss::Minimax,
            GanLossSetting::CrossEntropy => loss::GanLoss::CrossEntropy,
            GanLossSetting::Hinge => loss::GanLoss::Hinge,
            GanLossSetting::LeastSquares => loss::GanLoss::LeastSquares,
            GanLossSetting::Segmentation => loss::GanLoss::Segmentation,
        };
        config.augmentation = s.discriminator.augmentation;
        config.average_decay = s.generator.average_decay;
        config.site_code = s.generator.site_code;
        config.privacy = s.privacy.epsilon.filter(|_| is_asyndgan(arm)).map(|epsilon| {
            DpSgd::new(epsilon, s.privacy.delta).with(|sgd| {
                sgd.clipping_norm = s.privacy.clipping_norm;
                sgd.patients_per_step = s.privacy.patients_per_step;
                sgd.images_per_patient = s.privacy.images_per_patient;
                sgd.discriminator_steps = s.privacy.discriminator_steps;
            })
        });
        config.precision = precision(run);
    })
}

fn symmetry(run: &Run) -> Symmetry {
    match run.task() {
        None => Symmetry::None,
        Some(_) if !run.settings.data.flips => Symmetry::None,
        Some(_) if run.settings.data.quarter_turns => Symmetry::Turns,
        Some(_) => Symmetry::Flips,
    }
}

/// Whether a run of the protocol trains it at every site.
fn is_asyndgan(arm: Arm) -> bool {
    matches!(arm, Arm::AsynDgan | Arm::AsynDganOverlap)
}

/// An interval of a run, whose settings allow no 0.
pub(crate) fn at_least_one(interval: u64) -> NonZeroU64 {
    NonZeroU64::new(interval).unwrap_or(NonZeroU64::MIN)
}

/// The baseline that an arm is.
pub(crate) fn baseline(run: &Run, arm: Arm) -> Option<Baseline> {
    let settings = &run.settings.federated;
    match arm {
        Arm::FedGan => Some(Baseline::FedGan { local_rounds: at_least_one(settings.local_steps) }),
        Arm::MdGan => Some(Baseline::MdGan { exchange_every: at_least_one(settings.exchange_every) }),
        _ => None,
    }
}

/// The run of one arm. A single GAN sees as many pairs per round as all sites together.
pub(crate) fn description(run: &Run, arm: Arm, seed: u64, sites: u32) -> RunDescription {
    let s = &run.settings;
    RunDescription::new(format!("{} {arm}", run.experiment.name()), s.protocol.rounds).with(|described| {
        described.seed = seed;
        described.batch = if arm.is_distributed() { s.protocol.batch } else { s.protocol.batch * sites };
        described.channels = image_channels(run) as u32;
        described.size = s.data.size as u32;
        described.crop = s.data.crop as u32;
        described.symmetry = symmetry(run);
        described.weighting = if s.protocol.uniform_weights { Weighting::Uniform } else { Weighting::Proportional };
        described.l1_weight = s.protocol.l1_weight;
        described.checkpoint_every = s.protocol.checkpoint_every;
        described.site_threads = s.compute.site_threads;
        described.networks = gan(run, arm).description();
    })
}

/// Which masks leave the sites of an arm's run.
pub(crate) fn masks(run: &Run, arm: Arm) -> ConditionPolicy {
    match run.settings.privacy.masks {
        _ if !is_asyndgan(arm) || run.task().is_none() => ConditionPolicy::All,
        MaskSetting::All => ConditionPolicy::All,
        MaskSetting::Deformed => ConditionPolicy::Deformed,
        MaskSetting::Recombined => ConditionPolicy::Recombined,
        MaskSetting::Sampled => ConditionPolicy::Sampled,
    }
}

/// What sampled masks may cost each patient.
pub(crate) fn masks_budget(run: &Run) -> PrivacyBudget {
    PrivacyBudget { epsilon: run.settings.privacy.masks_epsilon, delta: run.settings.privacy.delta }
}

/// Server threads in the run of one arm. A single GAN has no sites to distribute across threads.
pub(crate) fn server_threads(run: &Run, arm: Arm) -> u32 {
    if arm.is_distributed() { run.settings.compute.server_threads } else { run.settings.compute.site_threads }
}

/// The task of a run on images.
pub(crate) fn task(run: &Run) -> Result<&Task> {
    run.task().context("the toy has no images")
}

pub(crate) fn segmenter(run: &Run) -> Result<SegmenterTraining> {
    let (s, task) = (&run.settings, task(run)?);
    let network = SegmenterConfig::new(image_channels(run), segmenter_classes(task)).with(|network| {
        (network.width, network.depth) = (s.segmenter.width, s.segmenter.depth);
    });
    Ok(SegmenterTraining::new(network, s.segmenter.steps).with(|training| {
        training.batch = s.segmenter.batch;
        training.crop = s.data.crop;
        training.learning_rate = s.segmenter.learning_rate;
        training.colour_jitter = s.segmenter.colour_jitter;
        training.stain_jitter = if task.is_stained() { s.segmenter.stain_jitter } else { 0.0 };
        training.quarter_turns = s.data.quarter_turns && s.data.flips;
        training.flips = s.data.flips;
        training.precision = precision(run);
    }))
}

/// The precision of the layers of networks that are trained.
fn precision(run: &Run) -> Precision {
    if run.settings.compute.bfloat16 { Precision::Bfloat16 } else { Precision::Float32 }
}

//! A site that lacks channels gives feedback for those that it has, and for no others.
#![allow(missing_docs, reason = "tests")]

use asyndgan_models::{AdamConfig, DiscriminatorConfig, GeneratorConfig, Norm, ResNetConfig, Upsample, loss::GanLoss};
use asyndgan_protocol::{Augmentation, Draw, Losses, RoundDraw, RunDescription, SiteId, SiteWork, Symmetry, Weighting};
use asyndgan_training::{GanConfig, Pairs, SiteOptions, SiteTrainer, to_payload, to_tensor};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const SIDE: i64 = 32;
const CHANNELS: i64 = 3;
const CASES: i64 = 3;

fn config(gan_loss: GanLoss) -> GanConfig {
    let adam = AdamConfig { learning_rate: 2e-4, beta_1: 0.5, beta_2: 0.999 };
    let discriminator = match gan_loss {
        GanLoss::Segmentation => DiscriminatorConfig::UNet { condition_channels: 1, image_channels: CHANNELS, width: 2, spectral: false },
        _ => DiscriminatorConfig::Patch { channels: 1 + CHANNELS, width: 2, norm: Norm::Instance, spectral: true },
    };
    GanConfig::new(
        GeneratorConfig::ResNet(ResNetConfig::new(1, CHANNELS).with(|network| {
            network.width = 2;
            network.blocks = 1;
            network.upsample = Upsample::Nearest;
        })),
        discriminator,
        1,
    )
    .with(|config| {
        config.generator_adam = adam;
        config.discriminator_adam = adam;
        config.gan_loss = gan_loss;
        config.augmentation = 1.0;
    })
}

fn description(gan_loss: GanLoss, l1_weight: f64) -> RunDescription {
    RunDescription::new("missing channels", 2).with(|run| {
        run.seed = 5;
        run.batch = CASES as u32;
        run.channels = CHANNELS as u32;
        run.size = SIDE as u32;
        run.crop = SIDE as u32;
        run.symmetry = Symmetry::Flips;
        run.weighting = Weighting::Uniform;
        run.l1_weight = l1_weight;
        run.checkpoint_every = 2;
        run.networks = config(gan_loss).description();
    })
}

fn waves(shape: &[i64], speed: f64) -> Tensor {
    let count = shape.iter().product::<i64>();
    (Tensor::arange(count, (Kind::Double, Device::Cpu)) * speed).sin().to_kind(Kind::Float).view(shape)
}

/// The feedback and losses of a site whose cases have the given channels. Absent channels of the real and of the
/// synthetic images hold `real` and `synthetic`.
fn step(gan_loss: GanLoss, l1_weight: f64, has: &[bool], real: f64, synthetic: f64) -> (Tensor, Losses) {
    let flags: Vec<f32> = has.iter().map(|&has| f32::from(u8::from(has))).collect();
    let present = Tensor::from_slice(&flags).view([CASES, CHANNELS, 1, 1]);
    let filled = |images: Tensor, value: f64| images * &present + (present.ones_like() - &present) * value;
    let shape = [CASES, CHANNELS, SIDE, SIDE];
    let codes = waves(&[CASES, 1, SIDE, SIDE], 0.05).gt(0.2).to_kind(Kind::Uint8);
    let pairs = Pairs::new(filled(waves(&shape, 0.11), real), codes).with_present_channels(present.shallow_clone());
    let folder = tempfile::tempdir().expect("a folder");
    let mut site = SiteTrainer::new(pairs, SiteOptions::default(), folder.path(), Device::Cpu);
    let run = description(gan_loss, l1_weight);
    site.begin(SiteId(0), &run, 0).expect("begins");
    let plain = Augmentation { top: 0, left: 0, flip_columns: true, flip_rows: false, transpose: false };
    let draw = Draw { site: SiteId(0), cases: (0..CASES as u32).collect(), augmentations: vec![plain; CASES as usize] };
    let draw = RoundDraw { conditions: draw.clone(), real: draw };
    let (feedback, losses) = site.step(0, &draw, &to_payload(&filled(waves(&shape, 0.07), synthetic))).expect("a step");
    (to_tensor(&feedback, Device::Cpu).expect("a tensor"), losses)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn feedback_is_zero_where_a_channel_is_absent_and_only_there(
        has in proptest::collection::vec(any::<bool>(), (CASES * CHANNELS) as usize),
        segmenting: bool,
        with_l1: bool,
        values in (-1.0..1.0_f64, -1.0..1.0_f64),
    ) {
        let (gan_loss, l1_weight) = (if segmenting { GanLoss::Segmentation } else { GanLoss::Hinge }, f64::from(u8::from(with_l1)));
        let (feedback, losses) = step(gan_loss, l1_weight, &has, 0.0, 0.0);
        for (i, &has) in has.iter().enumerate() {
            let (case, channel) = (i as i64 / CHANNELS, i as i64 % CHANNELS);
            let largest = feedback.get(case).get(channel).abs().max().double_value(&[]);
            prop_assert_eq!(largest > 0.0, has, "case {}, channel {}", case, channel);
        }
        // What an absent channel holds changes nothing.
        let (same, same_losses) = step(gan_loss, l1_weight, &has, values.0, values.1);
        prop_assert_eq!(same_losses, losses);
        prop_assert!(same.equal(&feedback));
    }
}

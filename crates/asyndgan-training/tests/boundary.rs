//! Attacks of a malicious server on a site's trainer.
#![allow(missing_docs, reason = "tests")]

use std::collections::BTreeSet;

use asyndgan_models::{
    AdamConfig, Conditioning, DiscriminatorConfig, GeneratorConfig, NoiseInjection, Norm, ResNetConfig, Upsample, loss::GanLoss,
};
use asyndgan_protocol::{
    ConditionPolicy, DiscriminatorFamily, Dtype, Payload, RunDescription, ServerWork as _, SiteId, SitePolicy, SiteRandomness, SiteSecret,
    SiteSummary, SiteWork as _, Symmetry,
};
use asyndgan_training::{
    GanConfig, Pairs, ServerTrainer, SiteOptions, SiteTrainer,
    attack::{Reconstruction, Recovery, reconstruct},
    to_payload,
};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use tch::{Device, Kind, Tensor};

/// Rows and columns that networks see, and of the stored images.
const SIDE: i64 = 64;
const SIZE: i64 = 72;

fn config(discriminator: DiscriminatorConfig, gan_loss: GanLoss) -> GanConfig {
    GanConfig::new(
        GeneratorConfig::ResNet(ResNetConfig::new(1, 1).with(|network| {
            network.width = 2;
            network.blocks = 1;
            network.upsample = Upsample::Nearest;
            network.noise = NoiseInjection::MultiScale { code: 3 };
            network.conditioning = Conditioning::Spade;
        })),
        discriminator,
        1,
    )
    .with(|config| {
        config.generator_adam = AdamConfig { learning_rate: 2e-4, beta_1: 0.5, beta_2: 0.999 };
        config.discriminator_adam = AdamConfig { learning_rate: 1e-3, beta_1: 0.5, beta_2: 0.999 };
        config.gan_loss = gan_loss;
        config.augmentation = 0.25;
        config.average_decay = 0.9;
        config.site_code = true;
    })
}

fn patch() -> GanConfig {
    config(DiscriminatorConfig::Patch { channels: 2, width: 16, norm: Norm::Instance, spectral: false }, GanLoss::LeastSquares)
}

fn unet() -> GanConfig {
    config(DiscriminatorConfig::UNet { condition_channels: 1, image_channels: 1, width: 8, spectral: false }, GanLoss::Segmentation)
}

fn run(config: &GanConfig) -> RunDescription {
    RunDescription::new("boundary", 400).with(|run| {
        run.seed = 5;
        run.batch = 2;
        run.size = SIZE as u32;
        run.crop = SIDE as u32;
        run.symmetry = Symmetry::Turns;
        run.networks = config.description();
    })
}

/// Images of so many cases, four of each patient, each with waves of its own, brighter inside its mask; with the
/// patients.
fn images(cases: i64) -> (Tensor, Tensor) {
    let axis = Tensor::arange(SIZE, (Kind::Float, Device::Cpu)) * (std::f64::consts::TAU / SIZE as f64);
    let wave = |k: i64, rows: i64, columns: i64| {
        let (phase, shift) = (1.7 * k as f64, 2.9 * k as f64);
        (&axis * rows as f64 + phase).sin().unsqueeze(1) * (&axis * columns as f64 + shift).cos().unsqueeze(0)
    };
    let masks: Vec<Tensor> = (0..cases).map(|k| wave(k + 100, k % 3 + 1, k % 2 + 2).gt(0.3)).collect();
    let shades = |k: i64| wave(k, k % 4 + 1, (k / 4) % 3 + 1) * 0.4 + wave(3 * k + 1, 1, 1) * 0.2;
    let images: Vec<Tensor> = (0..cases).map(|k| shades(k) + masks[k as usize].to_kind(Kind::Float) * 0.4 - 0.2).collect();
    (Tensor::stack(&images, 0).unsqueeze(1), Tensor::stack(&masks, 0).unsqueeze(1).to_kind(Kind::Uint8))
}

fn site(folder: &std::path::Path, cases: i64, secret: u8, norm_max: f32) -> SiteTrainer {
    let (images, masks) = images(cases);
    let randomness = SiteRandomness::Secret(SiteSecret::new([secret; 32]));
    let options = SiteOptions::default().with(|options| {
        options.randomness = randomness;
        options.feedback_norm_max = norm_max;
    });
    SiteTrainer::new(Pairs::new(images, masks), options, folder, Device::Cpu)
}

/// What a server recovers of a site's images that begins with the masks, which it knows.
fn recovered(run: &RunDescription, policy: &SitePolicy, cases: i64, attack: Reconstruction) -> Recovery {
    asyndgan_models::set_threads(1);
    let folder = tempfile::tempdir().expect("a folder");
    let mut site = site(folder.path(), cases, 3, policy.feedback_norm_max);
    let (images, masks) = images(cases);
    let first = masks.to_kind(Kind::Float) * 0.4 - 0.2;
    let guesses = reconstruct(&mut site, run, policy, &first, attack, |_| ()).expect("the policy allows it");
    Recovery::of_guesses(&guesses, &images, &masks)
}

#[test]
fn an_l1_term_and_a_discriminator_that_memorises_give_images_away() {
    // The controls: what the default policy refuses would be seen by the measure below.
    let open = SitePolicy::default().with(|policy| {
        policy.cases_min = 0;
        policy.discriminators = vec![DiscriminatorFamily::Patch];
        policy.case_rounds_max = 10_000;
        policy.conditions = ConditionPolicy::All;
    });
    let l1 = run(&patch()).with(|run| {
        run.l1_weight = 100.0;
        run.rounds = 40;
    });
    let policy = open.clone().with(|policy| {
        policy.allow_l1 = true;
        policy.patients_per_batch_min = 1;
        policy.feedback_norm_max = f32::INFINITY;
    });
    let own = recovered(&l1, &policy, 8, Reconstruction::Signs).own;
    assert!(own > 0.5, "an L1 term: {own}");
    let Recovery { own, other, .. } = recovered(&run(&patch()).with(|run| run.rounds = 1_000), &open, 4, Reconstruction::Follow);
    assert!(own > 0.2 && own > other + 0.15, "four cases, again and again: {own}, with others {other}");
}

#[test]
fn under_the_default_policy_a_server_learns_no_image_beyond_a_blind_guess() {
    let (cases, policy) = (36, SitePolicy::default());
    let run = run(&unet()).with(|run| {
        run.rounds = 590;
        run.batch = 8;
    });
    let followed = recovered(&run, &policy, cases, Reconstruction::Follow);
    let summed = recovered(&run.with(|run| run.rounds = 300), &policy, cases, Reconstruction::Sum);
    for (attack, Recovery { own, other, .. }) in [("followed", followed), ("summed", summed)] {
        assert!(own < 0.1 && own - other < 0.1, "{attack}: {own} with the own image, {other} with others");
    }
}

#[test]
fn the_first_feedback_depends_on_the_sites_secret() {
    asyndgan_models::set_threads(1);
    let run = run(&patch());
    let first = |secret: u8| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut site = site(folder.path(), 8, secret, f32::INFINITY);
        let (summary, patients) = (site.summary(), site.patients());
        site.begin(SiteId(0), &run, 0).expect("begins");
        let draw = run.round_draw(SiteId(0), 0, &summary, &site.randomness(), &patients, 2);
        site.step(0, &draw, &to_payload(&Tensor::zeros([2, 1, SIDE, SIDE], (Kind::Float, Device::Cpu)))).expect("answers").0
    };
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
}

/// Descriptions of networks, sound and otherwise.
fn networks() -> impl Strategy<Value = (GanConfig, u32, u32)> {
    let norm = prop_oneof![Just(Norm::Instance), Just(Norm::Batch)];
    let width = prop_oneof![4 => 1_i64..9, 1 => Just(0_i64), 1 => Just(-3), 1 => Just(i64::MAX), 1 => Just(5_000)];
    let channels = prop_oneof![4 => Just(2_i64), 1 => -1_i64..5];
    let discriminator =
        prop_oneof![
            (channels.clone(), width.clone(), norm, any::<bool>())
                .prop_map(|(channels, width, norm, spectral)| DiscriminatorConfig::Patch { channels, width, norm, spectral }),
            (0_i64..3, 0_i64..3, width.clone(), any::<bool>()).prop_map(|(codes, image_channels, width, spectral)| {
                DiscriminatorConfig::UNet { condition_channels: codes, image_channels, width, spectral }
            }),
            (channels, width).prop_map(|(channels, width)| DiscriminatorConfig::Mlp { channels, width }),
        ];
    let gan_loss = prop_oneof![
        Just(GanLoss::CrossEntropy),
        Just(GanLoss::Minimax),
        Just(GanLoss::Hinge),
        Just(GanLoss::LeastSquares),
        Just(GanLoss::Segmentation)
    ];
    let crop = prop_oneof![2 => Just(SIDE as u32), 3 => (1..=SIDE as u32 / 4).prop_map(|quarter| 4 * quarter), 1 => 1..=SIDE as u32];
    (discriminator, gan_loss, crop, 0_u32..4, 0_u8..3).prop_map(|(discriminator, gan_loss, crop, batch, codes)| {
        (config(discriminator, gan_loss).with(|config| config.condition_classes = codes), crop, batch)
    })
}

#[test]
fn what_a_site_accepts_it_can_train() {
    asyndgan_models::set_threads(1);
    let (mut runner, networks) = (TestRunner::deterministic(), networks());
    let (mut trained, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..1_500 {
        let (config, crop, batch) = networks.new_tree(&mut runner).expect("networks").current();
        let run = run(&config).with(|run| {
            run.crop = crop;
            run.batch = batch;
            run.rounds = 2;
        });
        let folder = tempfile::tempdir().expect("a folder");
        let mut site = site(folder.path(), 8, 1, 1.0);
        let (summary, patients) = (site.summary(), site.patients());
        let policy = SitePolicy::unrestricted();
        let accepted = run.check(SiteId(0), &summary).map_err(|e| e.to_string()).and_then(|()| {
            let learning = site.inspect(SiteId(0), &run).map_err(|e| e.to_string())?;
            policy.check(&run, &learning, &summary, &patients).map_err(|e| e.to_string())
        });
        if let Err(fact) = accepted {
            refused.insert(fact.split(':').next().unwrap_or_default().to_owned());
            continue;
        }
        site.begin(SiteId(0), &run, 0).expect("begins");
        let draw = run.round_draw(SiteId(0), 0, &summary, &site.randomness(), &patients, 1);
        let mut server = ServerTrainer::new(config.clone(), run.clone(), 1, 1, folder.path(), Device::Cpu).expect("a server");
        assert_eq!(server.store_conditions(SiteId(0), &summary, site.conditions()).expect("kept"), None);
        server.begin(0).expect("begins");
        let synthetic = server.synthesize(0, std::slice::from_ref(&draw.conditions)).expect("synthetic images").swap_remove(0);
        site.step(0, &draw, &synthetic).expect("trains");
        trained.insert(format!("{:?} {:?}", config.gan_loss, crop));
    }
    assert!(trained.len() > 10 && refused.len() >= 2, "{} kinds trained, {refused:?}", trained.len());
}

#[test]
fn masks_are_inflated_to_disk_within_bounds_and_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = patch();
    let mut server = ServerTrainer::new(config.clone(), run(&config), 1, 1, folder.path(), Device::Cpu).expect("a server");
    let (_, masks) = images(8);
    let sound = to_payload(&masks.squeeze_dim(1));
    let summary = SiteSummary { cases: 8, image_dims: vec![1, SIZE as u32, SIZE as u32], conditions_sha256: sound.sha256() };
    let mut keep = |payload: Payload| server.store_conditions(SiteId(0), &summary, payload).expect("the server goes on");
    // 32 kB that claim to be the masks, and inflate to 100 MB.
    let bomb = Payload::new(vec![100_000_000], Dtype::U8, vec![0; 100_000_000]).compressed();
    assert!(bomb.bytes.len() < 32_000);
    let claimed = Payload { dims: sound.dims.clone(), ..bomb };
    assert!(keep(claimed).expect("refused").contains("different size"));
    assert!(keep(Payload { bytes: vec![7; 100].into(), packed: true, ..sound.clone() }).expect("refused").contains("decompressed"));
    let other = to_payload(&(1 - masks.squeeze_dim(1)));
    assert!(keep(other.compressed()).expect("refused").contains("do not match its summary"));
    assert!(server.conditions().next().is_none() && server.stored_conditions().expect("known").is_empty());
    assert_eq!(server.store_conditions(SiteId(0), &summary, sound.compressed()).expect("kept"), None);
    assert_eq!(server.conditions().next().expect("kept").1, &masks);
    // Found again by the next server; a damaged file counts as none.
    let open = || ServerTrainer::new(config.clone(), run(&config), 1, 1, folder.path(), Device::Cpu).expect("a server");
    assert_eq!(open().stored_conditions().expect("known"), [(SiteId(0), summary.clone())]);
    let path = folder.path().join(run(&config).id()).join("conditions-1.u8");
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[77] ^= 1;
    std::fs::write(&path, bytes).expect("damaged");
    assert!(open().stored_conditions().expect("known").is_empty());
}

#[test]
fn settings_that_a_site_does_not_know_are_refused() {
    let text = unet().description();
    assert_eq!(GanConfig::from_description(&text).expect("its own"), unet());
    let top = text.replacen('{', "{\"feedback\":\"exact\",", 1);
    let nested = text.replacen("\"width\":8", "\"width\":8,\"tap\":3", 1);
    assert!(top != text && nested != text);
    for described in [top, nested] {
        assert!(matches!(GanConfig::from_description(&described), Err(asyndgan_training::Error::Networks { .. })), "{described}");
    }
}

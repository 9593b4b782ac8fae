//! Laws of the baselines: what they have in common with `AsynDGAN`, and where they differ.
#![allow(missing_docs, reason = "tests")]

use std::path::Path;

use asyndgan_models::{AdamConfig, Conditioning, DiscriminatorConfig, GeneratorConfig, NoiseInjection, ResNetConfig, Upsample};
use asyndgan_protocol::{Contribution, RunDescription, ServerWork as _, SiteId, SiteWork as _, Symmetry};
use asyndgan_training::{Baseline, BaselineJob, BaselineResult, GanConfig, Pairs, ServerTrainer, SiteOptions, SiteTrainer};
use tch::{Device, Kind, Tensor};

const SIDE: i64 = 16;

fn config() -> GanConfig {
    let generator = ResNetConfig::new(1, 1).with(|network| {
        network.width = 2;
        network.blocks = 1;
        network.upsample = Upsample::Nearest;
        network.noise = NoiseInjection::MultiScale { code: 3 };
        network.conditioning = Conditioning::Spade;
    });
    let discriminator = DiscriminatorConfig::UNet { condition_channels: 1, image_channels: 1, width: 2, spectral: false };
    GanConfig::new(GeneratorConfig::ResNet(generator), discriminator, 1).with(|config| {
        let adam = AdamConfig { learning_rate: 2e-3, beta_1: 0.5, beta_2: 0.999 };
        (config.generator_adam, config.discriminator_adam) = (adam, adam);
        config.gan_loss = asyndgan_models::loss::GanLoss::Segmentation;
        config.average_decay = 0.5;
    })
}

fn description(rounds: u64) -> RunDescription {
    RunDescription::new("baselines", rounds).with(|run| {
        run.seed = 5;
        run.batch = 2;
        run.size = SIDE as u32;
        run.crop = SIDE as u32;
        run.symmetry = Symmetry::Flips;
        run.checkpoint_every = 2;
        run.networks = config().description();
    })
}

fn pairs(site: usize, cases: i64) -> Pairs {
    let angle = Tensor::arange(cases * SIDE * SIDE, (Kind::Double, Device::Cpu)) * (0.05 + site as f64 * 0.017);
    let codes = angle.sin().gt(0.2).to_kind(Kind::Uint8).view([cases, 1, SIDE, SIDE]);
    Pairs::new(codes.to_kind(Kind::Float) * 1.4 - 0.7 + site as f64 * 0.05, codes)
}

fn sites(count: usize) -> Vec<Pairs> {
    (0..count).map(|site| pairs(site, 3 + site as i64)).collect()
}

fn trained(baseline: Baseline, rounds: u64, count: usize, folder: &Path) -> BaselineResult {
    trained_from(baseline, rounds, count, folder).1
}

/// The result, and the number of rounds with which training began.
fn trained_from(baseline: Baseline, rounds: u64, count: usize, folder: &Path) -> (u64, BaselineResult) {
    asyndgan_models::set_threads(1);
    let mut first = None;
    let progress = |round| _ = first.get_or_insert(round);
    let result = BaselineJob::new(baseline, config(), description(rounds), folder).train(sites(count), progress).expect("trained");
    (first.expect("it reports when it begins"), result)
}

fn fed_gan(local_rounds: u64) -> Baseline {
    Baseline::FedGan { local_rounds: local_rounds.try_into().expect("rounds") }
}

fn md_gan(exchange_every: u64) -> Baseline {
    Baseline::MdGan { exchange_every: exchange_every.try_into().expect("rounds") }
}

fn weights(result: &BaselineResult) -> Tensor {
    result.server.generator().parameters.flat().copy()
}

/// `AsynDGAN` with the trainers alone.
fn asyndgan(rounds: u64, count: usize, folder: &Path) -> Tensor {
    asyndgan_models::set_threads(1);
    let run = description(rounds);
    let mut server = ServerTrainer::new(config(), run.clone(), count as u32, 1, folder, Device::Cpu).expect("a server");
    let mut members: Vec<_> =
        sites(count).into_iter().map(|pairs| SiteTrainer::new(pairs, SiteOptions::default(), folder, Device::Cpu)).collect();
    for (id, site) in (0..).map(SiteId).zip(&mut members) {
        server.store_conditions(id, &site.summary(), site.conditions()).expect("stored");
        site.begin(id, &run, 0).expect("begun");
    }
    server.begin(0).expect("begun");
    let cases: Vec<u32> = members.iter_mut().map(|site| site.summary().cases).collect();
    let shares = run.weighting.weights(&cases);
    for round in 0..rounds {
        let draws: Vec<_> = (0..).map(SiteId).zip(&mut members).map(|(id, site)| run.draw(id, round, &site.summary())).collect();
        let synthetic = server.synthesize(round, &draws).expect("synthesized");
        let mut contributions = Vec::new();
        for (((site, draw), synthetic), &weight) in members.iter_mut().zip(draws).zip(&synthetic).zip(&shares) {
            let both = run.round_draw(draw.site, round, &site.summary(), &site.randomness(), &site.patients(), 1);
            let (feedback, _) = site.step(round, &both, synthetic).expect("a step");
            contributions.push(Contribution { round, draw, weight, norm: feedback.norm(), feedback, scale: 1.0, losses: None });
        }
        server.update(round, &contributions).expect("updated");
    }
    server.generator().parameters.flat().copy()
}

#[test]
fn md_gan_is_asyndgan_until_discriminators_are_exchanged() {
    let folders = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let expected = asyndgan(4, 3, folders[0].path());
    let never = trained(md_gan(100), 4, 3, folders[1].path());
    assert!(weights(&never).equal(&expected));
    let often = trained(md_gan(1), 4, 3, folders[2].path());
    assert!(!weights(&often).equal(&expected));
    assert_eq!((often.bytes[0]["weights"].0, often.bytes[0]["round"].0, never.bytes[0].get("weights")), (6, 4, None));
}

#[test]
fn fed_gan_of_a_single_site_is_asyndgan_with_one_site() {
    let folders = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let expected = asyndgan(5, 1, folders[0].path());
    for (local_rounds, folder) in [1, 3].into_iter().zip(&folders[1..]) {
        let result = trained(fed_gan(local_rounds), 5, 1, folder.path());
        assert!(weights(&result).allclose(&expected, 1e-6, 1e-6, false), "{local_rounds}");
        assert_eq!(result.bytes[0]["weights"].0, 2 * 5_u64.div_ceil(local_rounds));
    }
}

#[test]
fn fed_gan_depends_on_how_often_weights_are_averaged() {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let (often, once) = (trained(fed_gan(1), 4, 2, folders[0].path()), trained(fed_gan(4), 4, 2, folders[1].path()));
    assert!(!weights(&often).allclose(&weights(&once), 1e-6, 1e-6, false));
}

#[test]
fn an_average_of_fed_gan_is_weighted_by_cases() {
    let folders = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let both = trained(fed_gan(1), 1, 2, folders[0].path());
    // Sites with 3 and 4 cases take their first round from the same weights, each alone.
    let run = description(1);
    let alone = |site: u32, folder: &Path| {
        let mut server = ServerTrainer::new(config(), run.clone(), 2, 1, folder, Device::Cpu).expect("a server");
        let mut members = [0, 1].map(|k| SiteTrainer::new(pairs(k, 3 + k as i64), SiteOptions::default(), folder, Device::Cpu));
        let own = &mut members[site as usize];
        let id = SiteId(site);
        server.store_conditions(id, &own.summary(), own.conditions()).expect("stored");
        server.begin(0).expect("begun");
        // Both begin with the discriminator of the first site.
        own.begin(SiteId(0), &run, 0).expect("begun");
        let draw = run.round_draw(id, 0, &own.summary(), &own.randomness(), &own.patients(), 1);
        let synthetic = server.synthesize(0, std::slice::from_ref(&draw.conditions)).expect("synthesized").swap_remove(0);
        let (feedback, _) = own.step(0, &draw, &synthetic).expect("a step");
        let (draw, norm) = (draw.conditions, feedback.norm());
        server.update(0, &[Contribution { round: 0, draw, weight: 1.0, norm, feedback, scale: 1.0, losses: None }]).expect("updated");
        server.generator().parameters.flat().copy()
    };
    let expected = alone(0, folders[1].path()) * (3.0 / 7.0) + alone(1, folders[2].path()) * (4.0 / 7.0);
    assert!(weights(&both).allclose(&expected, 1e-5, 1e-7, false), "{}", (weights(&both) - expected).abs().max());
}

#[test]
fn an_interrupted_baseline_resumes_and_ends_with_the_same_generator() {
    // Checkpoints after every second round also lie between two averages or exchanges.
    for baseline in [fed_gan(3), md_gan(3)] {
        let (whole, resumed) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (begun, expected) = trained_from(baseline, 6, 2, whole.path());
        assert_eq!(begun, 0);
        trained(baseline, 6, 2, resumed.path());
        // As if it had been interrupted while the checkpoints of round 6 were written.
        assert_eq!(remove(resumed.path(), "site-2-00000006.safetensors"), 1);
        let (begun, result) = trained_from(baseline, 6, 2, resumed.path());
        assert_eq!(begun, 4, "{baseline:?}");
        assert!(weights(&result).equal(&weights(&expected)), "{baseline:?}");
        // Another interval is another method.
        let other = if baseline == fed_gan(3) { fed_gan(2) } else { md_gan(2) };
        assert_eq!(trained_from(other, 6, 2, resumed.path()).0, 0);
    }
}

/// Removes all files below a folder whose name ends so.
fn remove(folder: &Path, end: &str) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let of_entry = |path: std::path::PathBuf| match path.is_dir() {
        true => remove(&path, end),
        false if path.to_string_lossy().ends_with(end) => std::fs::remove_file(path).map(|()| 1).expect("removed"),
        false => 0,
    };
    entries.map(of_entry).sum()
}

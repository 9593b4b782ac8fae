//! Distributed learning is centralised learning: equations 1 to 4 as gradients, with the trainers that a run uses.
#![allow(missing_docs, clippy::float_cmp, reason = "tests, which also compare exact values")]

use asyndgan_models::{
    AdamConfig, Conditioning, Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, Noise, NoiseInjection, Norm, ResNetConfig,
    Upsample, loss, loss::GanLoss,
};
use asyndgan_protocol::{
    Augmentation, Contribution, Draw, Losses, Payload, Role, RoundDraw, RunDescription, ServerWork, SiteId, SiteWork, Symmetry, draw_cases,
    stream,
};
use asyndgan_training::{
    GanConfig, Pairs, Precision, ServerTrainer, SiteOptions, SiteTrainer, SynthesisRequest, one_hot_condition, synthesize as through,
    to_payload, to_tensor,
};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const SIDE: i64 = 32;

fn config() -> GanConfig {
    let adam = AdamConfig { learning_rate: 2e-4, beta_1: 0.5, beta_2: 0.999 };
    GanConfig::new(
        GeneratorConfig::ResNet(ResNetConfig::new(1, 1).with(|network| {
            network.width = 2;
            network.blocks = 1;
            network.upsample = Upsample::Nearest;
            network.noise = NoiseInjection::MultiScale { code: 3 };
            network.conditioning = Conditioning::Spade;
        })),
        DiscriminatorConfig::Patch { channels: 2, width: 2, norm: Norm::Instance, spectral: true },
        1,
    )
    .with(|config| {
        config.generator_adam = adam;
        config.discriminator_adam = adam;
        config.gan_loss = GanLoss::Hinge;
        config.augmentation = 0.5;
        config.average_decay = 0.9;
        config.site_code = true;
    })
}

/// The same with discriminators that segment.
fn unet() -> GanConfig {
    let discriminator = DiscriminatorConfig::UNet { condition_channels: 1, image_channels: 1, width: 2, spectral: true };
    config().with(|config| {
        config.discriminator = discriminator;
        config.gan_loss = GanLoss::Segmentation;
    })
}

fn description(rounds: u64, batch: u32) -> RunDescription {
    RunDescription::new("equations", rounds).with(|run| {
        run.seed = 11;
        run.batch = batch;
        run.size = SIDE as u32;
        run.crop = SIDE as u32;
        run.symmetry = Symmetry::Turns;
        run.l1_weight = 1.0;
        run.checkpoint_every = 2;
        run.networks = config().description();
    })
}

fn codes(cases: i64, seed: f64) -> Tensor {
    (Tensor::arange(cases * SIDE * SIDE, (Kind::Double, Device::Cpu)) * (0.05 + seed))
        .sin()
        .gt(0.2)
        .to_kind(Kind::Uint8)
        .view([cases, 1, SIDE, SIDE])
}

fn pairs(site: usize, cases: i64) -> Pairs {
    let codes = codes(cases, site as f64 * 0.017);
    let images = codes.to_kind(Kind::Float) * 1.4 - 0.7 + site as f64 * 0.05;
    Pairs::new(images, codes)
}

/// A site of the gradient tests: who it is decides its masks, dropout and discriminator.
#[derive(Debug, Clone, Copy)]
struct Member {
    id: u32,
    batch: i64,
    pi: f64,
}

/// Gradient of the weighted sum of the sites' losses in one piece, and pushed through from feedback; the discriminators
/// stay as they are.
fn both_gradients(config: &GanConfig, members: &[Member]) -> (Tensor, Tensor) {
    let generator = Generator::new(&config.generator, Device::Cpu, &mut stream(1, Role::GeneratorWeights, 0, 0));
    let mut joint = Tensor::zeros([], (Kind::Float, Device::Cpu));
    let mut pushed = Tensor::zeros([], (Kind::Float, Device::Cpu));
    for &Member { id, batch, pi } in members {
        let condition = one_hot_condition(&codes(batch, f64::from(id) * 0.01), 1);
        let discriminator = Discriminator::new(&config.discriminator, Device::Cpu, &mut stream(1, Role::DiscriminatorWeights, id, 0));
        let synthesize = || {
            generator
                .forward(&condition, &mut Noise::new(vec![(batch, stream(1, Role::Dropout, id, 0))]).of_sites(vec![id; batch as usize]))
        };
        let site_loss = |y: &Tensor| config.gan_loss.generator(&discriminator.forward(&condition, y), y, y, 0.0);
        joint += site_loss(&synthesize()) * pi;
        let synthetic = synthesize();
        // What crosses the boundary: bytes out, bytes back.
        let at_site = to_tensor(&to_payload(&synthetic), Device::Cpu).expect("payload").set_requires_grad(true);
        let feedback = Tensor::run_backward(&[site_loss(&at_site)], &[&at_site], false, false).swap_remove(0);
        let feedback = to_tensor(&to_payload(&feedback), Device::Cpu).expect("payload");
        pushed += (synthetic * feedback).sum(Kind::Float) * pi;
    }
    (generator.parameters.gradient(&joint), generator.parameters.gradient(&pushed))
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    proptest::collection::vec((1_i64..4, 0.05..1.0_f64), 1..5).prop_map(|sites| {
        let all: f64 = sites.iter().map(|s| s.1).sum();
        (0..).zip(sites).map(|(id, (batch, share))| Member { id, batch, pi: share / all }).collect()
    })
}

fn far(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[]) / a.abs().max().double_value(&[]).max(1e-12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn feedback_pushed_through_the_generator_is_the_joint_gradient(members in members()) {
        for config in [config(), unet()] {
            let (joint, pushed) = both_gradients(&config, &members);
            prop_assert!(far(&joint, &pushed) < 1e-4, "{}", far(&joint, &pushed));
        }
    }

    #[test]
    fn permuting_sites_permutes_nothing_but_rounding(members in members(), turn in 0_usize..4) {
        let mut turned = members.clone();
        turned.rotate_left(turn % members.len());
        let (straight, turned) = (both_gradients(&config(), &members).1, both_gradients(&config(), &turned).1);
        prop_assert!(far(&straight, &turned) < 1e-4, "{}", far(&straight, &turned));
    }
}

#[test]
fn one_site_is_a_regular_gan_and_splitting_it_changes_nothing() {
    let (regular, distributed) = both_gradients(&config(), &[Member { id: 0, batch: 4, pi: 1.0 }]);
    assert!(far(&regular, &distributed) < 1e-4);
    // One site of three cases, against two sites with the same discriminator and proportional shares.
    let config = config();
    let generator = Generator::new(&config.generator, Device::Cpu, &mut stream(1, Role::GeneratorWeights, 0, 0));
    let discriminator = Discriminator::new(&config.discriminator, Device::Cpu, &mut stream(1, Role::DiscriminatorWeights, 0, 0));
    let condition = one_hot_condition(&codes(3, 0.0), 1);
    let gradient = |shares: &[(i64, i64, f64)]| {
        let synthetic = generator.forward(&condition, &mut Noise::off());
        let part = |from: i64, n: i64| {
            loss::adversarial(&discriminator.forward(&condition.narrow(0, from, n), &synthetic.narrow(0, from, n)), true)
        };
        let sum = shares.iter().fold(Tensor::zeros([], (Kind::Float, Device::Cpu)), |sum, &(from, n, pi)| sum + part(from, n) * pi);
        generator.parameters.gradient(&sum)
    };
    assert!(far(&gradient(&[(0, 3, 1.0)]), &gradient(&[(0, 1, 1.0 / 3.0), (1, 2, 2.0 / 3.0)])) < 1e-4);
}

/// Plays rounds with real trainers; sites answer in the given order, with their real images looked at early or not, and
/// both ends may be stopped after some rounds.
fn play(config: &GanConfig, threads: u32, folder: &std::path::Path, [rounds, from, to]: [u64; 3], order: &[usize], early: bool) -> Tensor {
    play_run(&description(rounds, 2), config, threads, folder, [from, to], order, early).parameters.flat().copy()
}

fn play_run(
    run: &RunDescription,
    config: &GanConfig,
    threads: u32,
    folder: &std::path::Path,
    [from, to]: [u64; 2],
    order: &[usize],
    early: bool,
) -> Generator {
    let run = run.clone().with(|run| run.networks = config.description());
    let cases = [3_i64, 5, 4];
    let mut server = ServerTrainer::new(config.clone(), run.clone(), 3, threads, folder, Device::Cpu).expect("server");
    let mut sites: Vec<SiteTrainer> =
        cases.iter().enumerate().map(|(j, &n)| SiteTrainer::new(pairs(j, n), SiteOptions::default(), folder, Device::Cpu)).collect();
    for (id, site) in (0..).map(SiteId).zip(&mut sites) {
        site.begin(id, &run, from).expect("site begins");
        let summary = site.summary();
        assert_eq!(server.store_conditions(id, &summary, site.conditions()).expect("kept"), None);
    }
    let weights = run.weighting.weights(&[3, 5, 4]);
    server.begin(from).expect("server begins");
    for round in from..to {
        let plain = Augmentation { top: 0, left: 0, flip_columns: round % 2 == 0, flip_rows: false, transpose: round % 3 == 0 };
        let draw = |j: u32| {
            let cases = draw_cases(run.seed, j, round, run.batch, cases[j as usize] as u32);
            Draw { site: SiteId(j), cases, augmentations: vec![plain; 2] }
        };
        let draws: Vec<Draw> = (0..3).map(draw).collect();
        let synthetic = server.synthesize(round, &draws).expect("synthetic");
        let mut answers: Vec<Option<(Payload, Losses)>> = vec![None, None, None];
        for &j in order {
            let draw = RoundDraw { conditions: draws[j].clone(), real: draws[j].clone() };
            if early {
                sites[j].prepare(round, &draw).expect("prepared");
            }
            answers[j] = Some(sites[j].step(round, &draw, &synthetic[j]).expect("step"));
        }
        let mut contributions = Vec::new();
        for ((draw, answer), &weight) in draws.into_iter().zip(answers).zip(&weights) {
            let (feedback, losses) = answer.expect("answered");
            let norm = feedback.norm();
            contributions.push(Contribution { round, draw, weight, feedback, norm, scale: 1.0, losses: Some(losses) });
        }
        server.update(round, &contributions).expect("update");
        if run.is_checkpoint(round + 1) {
            for site in &mut sites {
                site.checkpoint(round + 1).expect("site keeps");
            }
            server.checkpoint(round + 1).expect("server keeps");
        }
    }
    server.generator()
}

/// Mean value of the class minus that of the background in synthetic images of fresh masks.
fn contrast(generator: &Generator) -> f64 {
    let masks = codes(8, 0.11);
    let noise = &mut Noise::new(vec![(8, stream(3, Role::Synthesis, 0, 0))]).of_sites(vec![1; 8]);
    let images = tch::no_grad(|| generator.forward(&one_hot_condition(&masks, 1), noise));
    let mean = |inside: &Tensor| (&images * inside).sum(Kind::Float).double_value(&[]) / inside.sum(Kind::Float).double_value(&[]);
    let inside = masks.to_kind(Kind::Float);
    mean(&inside) - mean(&(1.0 - &inside))
}

#[test]
fn a_generator_learns_the_images_of_sites_from_their_feedback_alone() {
    asyndgan_models::set_threads(1);
    // No L1 term: what it learns comes from discriminators. In the sites' images the contrast is 1.4.
    let run = description(400, 2).with(|run| (run.l1_weight, run.checkpoint_every) = (0.0, 0));
    let folder = || tempfile::tempdir().expect("a folder");
    for config in [config().with(|config| config.augmentation = 0.0), unet().with(|config| config.augmentation = 0.0)] {
        let config = config.with(|config| {
            (config.generator_adam.learning_rate, config.discriminator_adam.learning_rate) = (2e-3, 2e-3);
        });
        let after = |rounds| contrast(&play_run(&run, &config, 1, folder().path(), [0, rounds], &[0, 1, 2], false));
        let (untrained, trained) = (after(0), after(400));
        let nearer = (untrained - 1.4).abs() - (trained - 1.4).abs();
        assert!(nearer > 0.25, "{:?}: {untrained} before, {trained} after", config.gan_loss);
    }
}

#[test]
fn a_folder_with_checkpoints_of_another_run_is_refused() {
    asyndgan_models::set_threads(1);
    let folder = tempfile::tempdir().expect("a folder");
    let trainer = |seed: u64| {
        let run = description(4, 2).with(|run| run.seed = seed);
        ServerTrainer::new(config(), run, 1, 1, folder.path(), Device::Cpu)
    };
    // A run without a checkpoint can be corrected.
    trainer(1).expect("begun");
    let mut server = trainer(2).expect("another run");
    server.begin(0).expect("begun");
    server.checkpoint(2).expect("kept");
    assert!(trainer(2).is_ok());
    assert!(matches!(trainer(3), Err(asyndgan_training::Error::OtherRun { .. })));
}

#[test]
fn the_average_of_the_weights_follows_its_formula() {
    asyndgan_models::set_threads(1);
    let after = |decay: f64, rounds: u64| {
        let folder = tempfile::tempdir().expect("a folder");
        play(&config().with(|config| config.average_decay = decay), 1, folder.path(), [7, 0, rounds], &[0, 1, 2], false)
    };
    let mut average = after(0.0, 0);
    for round in 0..5 {
        // Without an average, the result is the current weights.
        let current = after(0.0, round + 1);
        let decay = ((1 + round) as f64 / (10 + round) as f64).min(0.15);
        average = average * decay + current * (1.0 - decay);
        let found = (after(0.15, round + 1) - &average).abs().max().double_value(&[]);
        assert!(found < 1e-6, "round {round}: {found}");
    }
}

/// The generator after a round for which sites were asked in these groups, one after the other; those named answered.
fn asked_in_groups(groups: &[&[u32]], answering: &[u32]) -> Tensor {
    let folder = tempfile::tempdir().expect("a folder");
    let run = description(4, 2);
    let mut server = ServerTrainer::new(config(), run.clone(), 3, 2, folder.path(), Device::Cpu).expect("server");
    let mut draws = Vec::new();
    for j in 0..3 {
        let mut site = SiteTrainer::new(pairs(j as usize, 3), SiteOptions::default(), folder.path(), Device::Cpu);
        site.begin(SiteId(j), &run, 0).expect("site begins");
        let summary = site.summary();
        assert_eq!(server.store_conditions(SiteId(j), &summary, site.conditions()).expect("kept"), None);
        draws.push(run.draw(SiteId(j), 0, &summary));
    }
    server.begin(0).expect("server begins");
    for group in groups {
        let draws: Vec<Draw> = group.iter().map(|&j| draws[j as usize].clone()).collect();
        server.synthesize(0, &draws).expect("synthetic");
    }
    let answer = |&j: &u32| {
        let feedback = to_payload(&(codes(2, f64::from(j)).to_kind(Kind::Float) - 0.4));
        Contribution { round: 0, draw: draws[j as usize].clone(), weight: 0.5, norm: feedback.norm(), feedback, scale: 1.0, losses: None }
    };
    server.update(0, &answering.iter().map(answer).collect::<Vec<_>>()).expect("update");
    server.generator().parameters.flat().copy()
}

#[test]
fn sites_that_are_asked_later_in_a_round_count_as_the_others_do() {
    asyndgan_models::set_threads(1);
    let together = asked_in_groups(&[&[0, 1, 2]], &[0, 1, 2]);
    // Adam's first step is the sign of the gradient: that of a bias before a norm is all but zero, and its last bits
    // decide.
    let differ = |other: &Tensor| (&together - other).abs().gt(1e-6).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
    for groups in [&[&[0, 1][..], &[2]][..], &[&[1], &[2], &[0]], &[&[0, 1, 2], &[1]]] {
        let later = differ(&asked_in_groups(groups, &[0, 1, 2]));
        assert!(later < 0.03, "{groups:?}: {later}");
    }
    let lost = differ(&asked_in_groups(&[&[0, 1, 2]], &[0, 1]));
    assert!(lost > 0.05, "an answer that is lost must show: {lost}");
}

#[test]
fn order_and_interruption_change_no_bit() {
    asyndgan_models::set_threads(1);
    let folder = || tempfile::tempdir().expect("a folder");
    let bfloat16 = config().with(|config| config.precision = Precision::Bfloat16);
    let ended = [config(), bfloat16, unet()].map(|config| {
        let straight = play(&config, 2, folder().path(), [6, 0, 6], &[0, 1, 2], false);
        assert_eq!(straight, play(&config, 2, folder().path(), [6, 0, 6], &[2, 0, 1], true));
        let stopped = folder();
        // Stopped after five rounds: the checkpoint of round four is the last.
        let _ = play(&config, 2, stopped.path(), [6, 0, 5], &[1, 2, 0], true);
        assert_eq!(straight, play(&config, 2, stopped.path(), [6, 4, 6], &[0, 2, 1], false));
        // And the test could fail: another stopping point is another generator.
        assert_ne!(straight, play(&config, 2, folder().path(), [6, 0, 5], &[0, 1, 2], false));
        straight
    });
    // The precisions differ, by less than the weights are large.
    let far = far(&ended[0], &ended[1]);
    assert!(far > 0.0 && far < 0.1, "{far}");
}

#[test]
fn sharing_the_generators_passes_out_to_threads_changes_the_last_bits_only() {
    asyndgan_models::set_threads(1);
    let folder = || tempfile::tempdir().expect("a folder");
    let [one, two, three] = [1, 2, 3].map(|threads| play(&config(), threads, folder().path(), [2, 0, 1], &[0, 1, 2], false));
    // Adam's first step is the sign of the gradient: that of a bias before a norm is all but zero, and its last bits
    // decide.
    let differ = |other: &Tensor| (&one - other).abs().gt(1e-6).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
    assert!(differ(&two) < 0.03 && differ(&three) < 0.03, "{} {}", differ(&two), differ(&three));
}

#[test]
fn a_set_made_part_by_part_is_the_set_made_at_once() {
    let generator = Generator::new(&config().generator, Device::Cpu, &mut stream(3, Role::GeneratorWeights, 0, 0));
    let codes = Tensor::from_slice(&(0..6 * SIDE * SIDE).map(|i| (i % 7 / 6) as u8).collect::<Vec<_>>()).view([6, 1, SIDE, SIDE]);
    let sites = [0, 1, 2, 0, 1, 2];
    let part = |start: i64, count: i64| {
        let sites = &sites[start as usize..(start + count) as usize];
        let codes = codes.narrow(0, start, count);
        let wanted = SynthesisRequest::new(&codes, 1).with(|request| {
            request.sites = sites;
            request.together = 2;
            request.batches_before = start as u64 / 2;
        });
        through(&generator, &wanted, 5, Device::Cpu, |_| ())
    };
    assert_eq!(Tensor::cat(&[part(0, 4), part(4, 2)], 0), part(0, 6));
    let first = |batches_before| {
        let codes = codes.narrow(0, 0, 2);
        let wanted = SynthesisRequest::new(&codes, 1).with(|request| {
            request.sites = &sites[..2];
            request.together = 2;
            request.batches_before = batches_before;
        });
        through(&generator, &wanted, 5, Device::Cpu, |_| ())
    };
    assert_ne!(first(0), first(1), "noise is not used twice");
}

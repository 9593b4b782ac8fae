//! Discriminator steps with differential privacy: the noise and the clipping that the accountant assumes, and a ledger
//! that neither forgets a step nor counts a repeated one.
#![allow(missing_docs, reason = "tests")]

use std::{collections::BTreeSet, path::Path};

use asyndgan_models::{DiscriminatorConfig, GeneratorConfig, Norm, read_tensors};
use asyndgan_privacy::SubsampledGaussian;
use asyndgan_protocol::{Payload, PrivacyBudget, Readiness, RoundDraw, RunDescription, SiteId, SiteRandomness, SiteSecret, SiteWork};
use asyndgan_training::{DpSgd, Error, GanConfig, Pairs, PrivacyLedger, PrivateSteps, SiteOptions, SiteTrainer, to_payload};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const SITE: SiteId = SiteId(0);

fn config(privacy: DpSgd) -> GanConfig {
    let generator = GeneratorConfig::Mlp { condition_channels: 1, image_channels: 1, width: 4, noise: 2 };
    GanConfig::new(generator, DiscriminatorConfig::Mlp { channels: 2, width: 12 }, 1).with(|config| config.privacy = Some(privacy))
}

fn run(privacy: DpSgd, rounds: u64) -> RunDescription {
    RunDescription::new("private", rounds).with(|run| {
        run.batch = 2;
        run.networks = config(privacy).description();
    })
}

fn site(values: &[f64], folder: &Path, budget: Option<PrivacyBudget>) -> SiteTrainer {
    let options = SiteOptions::default().with(|options| {
        options.randomness = SiteRandomness::Secret(SiteSecret::new([7; 32]));
        options.privacy_ledger = Some(folder.join("privacy.jsonl"));
        options.budget = budget;
    });
    SiteTrainer::new(Pairs::of_values(values, &vec![1; values.len()]), options, &folder.join("checkpoints"), Device::Cpu)
}

fn draw(site: &SiteTrainer, run: &RunDescription, round: u64) -> RoundDraw {
    let conditions = run.draw(SITE, round, site.data());
    let real = asyndgan_protocol::Draw { site: SITE, cases: Vec::new(), augmentations: Vec::new() };
    RoundDraw { conditions, real }
}

fn synthetic(value: f32) -> Payload {
    to_payload(&Tensor::from_slice(&[value, value]).view([2, 1]))
}

/// One round; `None` if the budget is spent.
fn step(site: &mut SiteTrainer, run: &RunDescription, round: u64, value: f32) -> Option<Payload> {
    let draw = draw(site, run, round);
    match site.prepare(round, &draw).expect("prepared") {
        Readiness::Ready => Some(site.step(round, &draw, &synthetic(value)).expect("stepped").0),
        Readiness::BudgetSpent { reason } => {
            assert!(reason.contains("budget"), "{reason}");
            None
        }
    }
}

fn entries(folder: &Path) -> usize {
    PrivacyLedger::read(&folder.join("privacy.jsonl")).expect("a ledger").len()
}

/// The sum of the clipped gradients with its noise, of the first step from initial weights, in many rounds.
fn noisy_sums(values: &[f64], privacy: DpSgd, rounds: u64) -> (Tensor, SubsampledGaussian) {
    asyndgan_models::set_threads(1);
    let folder = tempfile::tempdir().expect("a folder");
    let run = run(privacy, 10_000);
    let mut site = site(values, folder.path(), None);
    let mut gradients = Vec::new();
    for round in 0..rounds {
        site.begin(SITE, &run, 0).expect("begun");
        step(&mut site, &run, round, 0.3).expect("no budget");
        site.checkpoint(1).expect("kept");
        let checkpoints = std::fs::read_dir(folder.path().join("checkpoints").join(run.id())).expect("a folder");
        let newest =
            checkpoints.map(|entry| entry.expect("an entry").path()).find(|path| path.extension().is_some_and(|e| e == "safetensors"));
        let tensors = read_tensors(&newest.expect("a checkpoint")).expect("read");
        // Adam's mean after one step is (1 - beta_1) times the gradient.
        gradients.push(tensors["adam.mean"].shallow_clone() / 0.5);
    }
    let PrivateSteps { mechanism, .. } = site.private_steps().expect("begun");
    let gradients = Tensor::stack(&gradients, 0);
    (gradients * 2.0 * mechanism.sampling_rate() * values.len() as f64, mechanism)
}

#[test]
fn the_noise_has_the_deviation_that_the_accountant_assumes() {
    let privacy = DpSgd::new(2.0, 1e-5).with(|privacy| (privacy.clipping_norm, privacy.patients_per_step) = (0.25, 3));
    let (sums, mechanism) = noisy_sums(&[1.0, -1.0, 2.0], privacy, 300);
    assert!((mechanism.sampling_rate() - 1.0).abs() < 1e-12);
    // Everyone takes part in every round, so only the noise differs.
    let deviation = sums.var_dim(&[0_i64][..], true, false).mean(Kind::Float).sqrt().double_value(&[]);
    let expected = mechanism.noise_multiplier() * 0.25;
    assert!((deviation / expected - 1.0).abs() < 0.02, "{deviation} instead of {expected}");
}

#[test]
fn one_patient_changes_the_sum_by_the_clipping_norm_at_most() {
    // Almost without noise, to see what is below it.
    let privacy = DpSgd::new(1e7, 1e-5).with(|privacy| (privacy.clipping_norm, privacy.patients_per_step) = (1e-3, 100));
    let mean = |values: &[f64]| {
        let (sums, mechanism) = noisy_sums(values, privacy, 200);
        // The clipped gradient of the synthetic images is part of it.
        let expected = mechanism.sampling_rate() * values.len() as f64;
        (sums.mean_dim(&[0_i64][..], false, None), expected, mechanism.noise_multiplier() * 1e-3)
    };
    let (all, count, noise) = mean(&[1.0, -1.0, 2.0, 0.5, 3.0]);
    let (others, fewer, _) = mean(&[1.0, -1.0, 2.0, 0.5]);
    // What does not depend on real images scales with the number of patients: of two different numbers, it can be
    // solved for.
    let (without, with) = (others / fewer, all / count);
    assert!((with.shallow_clone() - without).norm().double_value(&[]) <= 2.0 * 1e-3 / count + 10.0 * noise / count);
    assert!(with.norm().double_value(&[]) <= 2e-3 + 10.0 * noise, "real and synthetic gradients are clipped");
}

#[test]
fn every_patient_takes_part_with_the_sampling_rate() {
    // Almost without noise; every gradient is clipped to the norm.
    let privacy = DpSgd::new(1e7, 1e-5).with(|privacy| (privacy.clipping_norm, privacy.patients_per_step) = (1e-3, 1));
    let (sums, mechanism) = noisy_sums(&[1.0, -5.0, 3.0, 0.0], privacy, 600);
    let (rate, noise) = (mechanism.sampling_rate(), mechanism.noise_multiplier());
    assert!((rate - 0.25).abs() < 1e-12);
    // Each patient adds the variance of taking part, and each weight that of the noise.
    let found = sums.var_dim(&[0_i64][..], true, false).sum(Kind::Float).double_value(&[]) / 1e-6;
    let expected = 4.0 * rate * (1.0 - rate) + sums.size()[1] as f64 * noise * noise;
    assert!((found / expected - 1.0).abs() < 0.1, "{found} instead of {expected}");
}

#[test]
fn a_repeated_step_costs_nothing_and_has_the_same_result() {
    asyndgan_models::set_threads(1);
    let folder = tempfile::tempdir().expect("a folder");
    let run = run(DpSgd::new(4.0, 1e-5), 20);
    let mut first = site(&[1.0, -1.0, 2.0], folder.path(), None);
    first.begin(SITE, &run, 0).expect("begun");
    let answers: Vec<_> = (0..5).map(|round| step(&mut first, &run, round, 0.1 * round as f32)).collect();
    assert_eq!(entries(folder.path()), 5);
    drop(first);
    let mut again = site(&[1.0, -1.0, 2.0], folder.path(), None);
    again.begin(SITE, &run, 0).expect("begun");
    let same: Vec<_> = (0..5).map(|round| step(&mut again, &run, round, 0.1 * round as f32)).collect();
    assert_eq!((same, entries(folder.path())), (answers, 5));
}

#[test]
fn a_server_that_sends_other_images_pays_for_new_noise() {
    asyndgan_models::set_threads(1);
    let folder = tempfile::tempdir().expect("a folder");
    let run = run(DpSgd::new(4.0, 1e-5), 20);
    let mut site = site(&[1.0, -1.0, 2.0], folder.path(), None);
    let mut play = |first: f32| {
        site.begin(SITE, &run, 0).expect("begun");
        step(&mut site, &run, 0, first);
        step(&mut site, &run, 1, 0.5);
    };
    play(0.1);
    play(0.2);
    // The first step has the same weights and the same real images, and so the same noisy sum. The second does not.
    let keys: Vec<_> = PrivacyLedger::read(&folder.path().join("privacy.jsonl")).expect("a ledger");
    assert_eq!(keys.iter().map(|step| step.round).collect::<Vec<_>>(), [0, 1, 1]);
    assert_eq!(keys.iter().map(|step| &step.key).collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn repeated_rounds_with_other_images_do_not_exceed_the_epsilon_of_the_run() {
    asyndgan_models::set_threads(1);
    let folder = tempfile::tempdir().expect("a folder");
    let run = run(DpSgd::new(2.0, 1e-5), 6);
    let mut site = site(&[1.0, -1.0, 2.0], folder.path(), None);
    let mut answers = 0;
    for attempt in 0..5 {
        site.begin(SITE, &run, 0).expect("begun");
        answers += (0..6).take_while(|&round| step(&mut site, &run, round, 0.1 * attempt as f32).is_some()).count();
    }
    // The first step of each attempt is the same; all others are new, until the epsilon of the run is spent.
    assert_eq!(entries(folder.path()), 6);
    assert_eq!(answers, 6 + 4);
    let ledger = PrivacyLedger::read(&folder.path().join("privacy.jsonl")).expect("a ledger");
    assert!(ledger.iter().all(|step| step.round < 6));
}

#[test]
fn a_budget_that_ends_within_a_round_ends_the_run_in_order() {
    asyndgan_models::set_threads(1);
    let folder = tempfile::tempdir().expect("a folder");
    // Of the four steps, the first round takes two, and each repetition with other images one: its first step is the
    // same. The budget allows no repetition after the second one, which shows in the middle of the round.
    let run = run(DpSgd::new(2.0, 1e-5).with(|privacy| privacy.discriminator_steps = 2), 2);
    let mut site = site(&[1.0, -1.0, 2.0], folder.path(), None);
    for value in [0.1, 0.2, 0.3] {
        site.begin(SITE, &run, 0).expect("begun");
        step(&mut site, &run, 0, value).expect("the budget suffices");
    }
    site.begin(SITE, &run, 0).expect("begun");
    let draw = draw(&site, &run, 0);
    assert_eq!(site.prepare(0, &draw).expect("prepared"), Readiness::Ready);
    let error = site.step(0, &draw, &synthetic(0.4)).expect_err("no step is left");
    assert!(SiteTrainer::budget_spent(&error).is_some_and(|reason| reason.contains("budget")), "{error}");
    assert_eq!(entries(folder.path()), 4);
}

#[test]
fn a_repeated_step_with_another_result_is_refused_and_a_lost_ledger_noticed() {
    asyndgan_models::set_threads(1);
    let folder = tempfile::tempdir().expect("a folder");
    let run = run(DpSgd::new(4.0, 1e-5), 20);
    let mut first = site(&[1.0, -1.0, 2.0], folder.path(), None);
    first.begin(SITE, &run, 0).expect("begun");
    step(&mut first, &run, 0, 0.1).expect("no limit");
    first.checkpoint(1).expect("kept");
    drop(first);
    // Other images of the same patients.
    let mut other = site(&[1.0, -1.0, 2.5], folder.path(), None);
    other.begin(SITE, &run, 0).expect("begun");
    let draw = draw(&other, &run, 0);
    other.prepare(0, &draw).expect("prepared");
    assert!(matches!(other.step(0, &draw, &synthetic(0.1)), Err(Error::NotReproducible { round: 0 })));
    drop(other);
    std::fs::remove_file(folder.path().join("privacy.jsonl")).expect("removed");
    let mut again = site(&[1.0, -1.0, 2.0], folder.path(), None);
    again.checkpoints(SITE, &run).expect("listed");
    assert!(matches!(again.begin(SITE, &run, 1), Err(Error::LedgerLost { .. })));
}

#[test]
fn the_budget_ends_the_run_and_holds_for_the_next_one() {
    asyndgan_models::set_threads(1);
    let folder = tempfile::tempdir().expect("a folder");
    let budget = PrivacyBudget { epsilon: 2.5, delta: 1e-5 };
    let rounds = |name: &str| {
        let run = run(DpSgd::new(2.0, 1e-5), 12).with(|run| run.name = name.into());
        let mut site = site(&[1.0, -1.0, 2.0], folder.path(), Some(budget));
        site.begin(SITE, &run, 0).expect("begun");
        (0..12).take_while(|&round| step(&mut site, &run, round, 0.1).is_some()).count()
    };
    assert_eq!(rounds("first"), 12);
    let second = rounds("second");
    assert!((3..12).contains(&second), "{second}");
    assert_eq!(rounds("third"), 0);
    let ledger = PrivacyLedger::open(&folder.path().join("privacy.jsonl")).expect("a ledger");
    let spent = ledger.spent().epsilon(1e-5).expect("a number");
    assert!(spent <= 2.5 && spent > 2.3, "{spent}");
}

#[test]
fn a_damaged_ledger_and_one_in_use_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("privacy.jsonl");
    let open = PrivacyLedger::open(&path).expect("opened");
    assert!(matches!(PrivacyLedger::open(&path), Err(Error::PrivacyLedgerInUse { .. })));
    drop(open);
    let line = r#"{"run":"r","round":0,"state":"s","key":"k","sampling_rate":0.1,"noise_multiplier":1.0}"#;
    for (text, at) in [("{}\n", 1), (&*format!("{line}\n{}\n", line.replace("1.0", "-1.0")), 2), (&*format!("x{line}\n{line}\n"), 1)] {
        std::fs::write(&path, text).expect("written");
        let error = PrivacyLedger::open(&path).expect_err("damaged");
        assert!(matches!(error, Error::PrivacyLedger { line, .. } if line == at), "{error}");
    }
    // A step that was being written when the process was killed was not taken.
    std::fs::write(&path, format!("{line}\n{}", &line[..20])).expect("written");
    let ledger = PrivacyLedger::open(&path).expect("opened");
    assert_eq!(ledger.spent().steps().map(|s| s.1).sum::<u64>(), 1);
    assert_eq!(std::fs::read_to_string(&path).expect("read"), format!("{line}\n"));
}

#[test]
fn patients_without_a_name_have_no_budget() {
    let cases = DpSgd::new(1.0, 1e-5);
    let folder = tempfile::tempdir().expect("a folder");
    let mut site = site(&[1.0], folder.path(), None);
    assert_eq!(site.inspect(SITE, &run(cases, 5)).expect("trained").privacy.map(|privacy| privacy.budget), Some(cases.budget()));
    for wrong in
        [DpSgd::new(0.0, 1e-5), DpSgd::new(1.0, 1.0), cases.with(|c| c.clipping_norm = f64::NAN), cases.with(|c| c.patients_per_step = 0)]
    {
        assert!(matches!(site.inspect(SITE, &run(wrong, 5)), Err(Error::Networks { .. })), "{wrong:?}");
    }
}

#[test]
fn statistics_of_real_images_are_not_kept() {
    let patch = |norm| DiscriminatorConfig::Patch { channels: 2, width: 4, norm, spectral: false };
    let read = |norm| GanConfig::from_description(&config(DpSgd::new(1.0, 1e-5)).with(|c| c.discriminator = patch(norm)).description());
    assert!(read(Norm::Instance).is_ok());
    let refused = read(Norm::Batch).expect_err("batch norm").to_string();
    assert!(refused.contains("batch norm"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A process that is killed at any point, any number of times, ends with the ledger of one that was not.
    #[test]
    fn kills_neither_forget_a_step_nor_count_one_twice(kills in proptest::collection::vec((0..8_u64, 0..3_u8), 0..6)) {
        asyndgan_models::set_threads(1);
        let run = run(DpSgd::new(4.0, 1e-5), 8);
        let ledger = |kills: &[(u64, u8)]| {
            let folder = tempfile::tempdir().expect("a folder");
            let mut kills = kills.iter();
            let (mut kill, mut resumed) = (kills.next(), 0_u64);
            loop {
                let mut site = site(&[1.0, -1.0, 2.0, 0.5], folder.path(), None);
                site.begin(SITE, &run, resumed).expect("begun");
                let mut killed = false;
                let first = resumed;
                for round in first..8 {
                    let draw = draw(&site, &run, round);
                    let point = kill.filter(|k| k.0 == round).map(|k| k.1);
                    site.prepare(round, &draw).expect("prepared");
                    if point == Some(0) {
                        killed = true;
                    } else {
                        site.step(round, &draw, &synthetic(0.2)).expect("stepped");
                        killed = point == Some(1);
                        if !killed && (round + 1) % 2 == 0 {
                            site.checkpoint(round + 1).expect("kept");
                            resumed = round + 1;
                            killed = point == Some(2);
                        }
                    }
                    if killed {
                        kill = kills.next();
                        break;
                    }
                }
                if !killed {
                    return PrivacyLedger::read(&folder.path().join("privacy.jsonl")).expect("a ledger");
                }
            }
        };
        prop_assert_eq!(ledger(&kills), ledger(&[]));
    }
}

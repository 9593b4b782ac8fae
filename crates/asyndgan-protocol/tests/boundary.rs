//! What a site's policy lets a server do.
#![allow(missing_docs, reason = "tests")]

mod simulation;

use std::collections::BTreeSet;

use asyndgan_protocol::{
    DiscriminatorFamily, Dtype, Error, RequestedTraining, RunDescription, SiteId, SitePolicy, SiteRandomness, SiteSecret, SiteSummary,
    Symmetry, Waiting, draw_real_cases,
};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use simulation::{
    allowed::{allowed, patients, summary},
    work::learning,
};

fn checked(run: &RunDescription, learning: &RequestedTraining) -> Result<(), Error> {
    run.check(SiteId(0), &summary())?;
    SitePolicy::default().check(run, learning, &summary(), &patients())
}

/// What was drawn, if its bit is set.
fn pick<T>(wild: u32, bit: u32, changed: T, allowed: T) -> T {
    if wild >> bit & 1 == 1 { changed } else { allowed }
}

fn descriptions() -> impl Strategy<Value = (RunDescription, RequestedTraining)> {
    let numbers = prop_oneof![Just(0_u64), Just(1), Just(3), Just(400), 0_u64..5_000, any::<u64>()];
    let waiting = prop_oneof![
        Just(Waiting::All),
        (any::<u32>(), any::<u64>()).prop_map(|(sites, deadline_ms)| Waiting::Quorum { sites, deadline_ms }),
        (0_u32..9, 0_u64..2_000).prop_map(|(sites, rounds)| Waiting::Staleness { sites, rounds }),
    ];
    let dtype = prop_oneof![Just(Dtype::F32), Just(Dtype::F16), Just(Dtype::Bf16), Just(Dtype::Q8), Just(Dtype::U8)];
    let symmetry = prop_oneof![Just(Symmetry::None), Just(Symmetry::Flips), Just(Symmetry::Turns)];
    let floats = prop_oneof![Just(0.0), Just(1e-3), Just(f64::NAN), Just(f64::INFINITY), Just(-1.0), 0.0..1.5_f64];
    let l1 = prop_oneof![4 => Just(0.0), 1 => floats.clone()];
    let family = prop_oneof![Just(DiscriminatorFamily::Patch), Just(DiscriminatorFamily::UNet), Just(DiscriminatorFamily::Mlp)];
    let run = (numbers.clone(), 0_u32..70, 0_u32..144, symmetry, l1, numbers.clone(), waiting, (dtype.clone(), dtype), 0_u32..1_100);
    let trained = (family, numbers.clone(), any::<bool>(), floats.clone(), [floats.clone(), floats.clone()], floats, numbers);
    // Most fields stay as they are allowed: else hardly anything would be accepted.
    (run, trained, [any::<u32>(), any::<u32>(), any::<u32>()]).prop_map(|(r, l, bits)| {
        let wild = bits[0] & bits[1] & bits[2];
        let (rounds, batch, crop, symmetry, l1_weight, checkpoint_every, waiting, (synthetic_dtype, feedback_dtype), site_threads) = r;
        let (family, width, spectral_norm, learning_rate, betas, augmentation, memory_bytes) = l;
        let (a, b) = (allowed(), learning());
        let described = a.clone().with(|run| {
            run.rounds = pick(wild, 0, rounds, a.rounds);
            run.batch = pick(wild, 1, batch, a.batch);
            run.crop = pick(wild, 2, crop, a.crop);
            run.symmetry = pick(wild, 3, symmetry, a.symmetry);
            run.l1_weight = pick(wild, 4, l1_weight, a.l1_weight);
            run.checkpoint_every = pick(wild, 5, checkpoint_every, a.checkpoint_every);
            run.waiting = pick(wild, 6, waiting, a.waiting);
            run.synthetic_dtype = pick(wild, 7, synthetic_dtype, a.synthetic_dtype);
            run.feedback_dtype = pick(wild, 8, feedback_dtype, a.feedback_dtype);
            run.site_threads = pick(wild, 9, site_threads, a.site_threads);
        });
        let learning = RequestedTraining {
            family: pick(wild, 10, family, b.family),
            width: pick(wild, 11, width, b.width),
            spectral_norm: pick(wild, 12, spectral_norm, b.spectral_norm),
            learning_rate: pick(wild, 13, learning_rate, b.learning_rate),
            betas: pick(wild, 14, betas, b.betas),
            augmentation: pick(wild, 15, augmentation, b.augmentation),
            memory_bytes: pick(wild, 16, memory_bytes, b.memory_bytes),
            privacy: None,
        };
        (described, learning)
    })
}

/// The default policy's bounds, written out once more.
fn is_within_bounds(run: &RunDescription, learning: &RequestedTraining) -> bool {
    let waits = match run.waiting {
        Waiting::All => true,
        Waiting::Quorum { deadline_ms, .. } => deadline_ms <= 7 * 24 * 3_600_000,
        Waiting::Staleness { rounds, .. } => rounds <= 1_000,
    };
    let shown = |cases: u64| {
        let mean = run.rounds.saturating_mul(run.batch.into()).saturating_mul(cases) / 48;
        mean.saturating_add(6 * mean.isqrt())
    };
    let floats = |dtype: Dtype| dtype != Dtype::U8 && dtype != Dtype::Q8;
    [
        run.rounds <= 100_000 && shown(1) <= 200 && shown(12) <= 20_000,
        (1..=1_000).contains(&run.checkpoint_every) && (1..=64).contains(&run.site_threads),
        (2..=64).contains(&run.batch) && (64..=135).contains(&run.crop) && run.symmetry != Symmetry::None,
        run.l1_weight == 0.0 && floats(run.feedback_dtype) && run.synthetic_dtype != Dtype::U8,
        waits,
        learning.family == DiscriminatorFamily::UNet && learning.width <= 128 && learning.memory_bytes <= 8 << 30,
        (1e-5..=1e-2).contains(&learning.learning_rate) && (0.25..=1.0).contains(&learning.augmentation),
        learning.betas.iter().all(|beta| (0.0..=0.9999).contains(beta)),
    ]
    .into_iter()
    .all(|holds| holds)
}

#[test]
fn whatever_the_default_policy_accepts_satisfies_every_bound() {
    let (mut runner, descriptions) = (TestRunner::deterministic(), descriptions());
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let (run, learning) = descriptions.new_tree(&mut runner).expect("a description").current();
        if checked(&run, &learning).is_ok() {
            accepted += 1;
            assert!(is_within_bounds(&run, &learning), "{run:?} {learning:?}");
        } else {
            refused += 1;
        }
    }
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} accepted, {refused} refused");
}

proptest! {
    #[test]
    fn a_batch_shows_several_patients_and_no_case_twice(seed: u64, batch in 1_u32..9, distinct in 1_u32..5) {
        let cases = draw_real_cases(&mut ChaCha8Rng::seed_from_u64(seed), batch, &patients(), distinct);
        prop_assert_eq!(cases.len(), batch as usize);
        prop_assert_eq!(cases.iter().collect::<BTreeSet<_>>().len(), batch as usize);
        let shown: BTreeSet<u32> = cases.iter().map(|&case| patients()[case as usize]).collect();
        prop_assert!(shown.len() >= batch.min(distinct) as usize);
    }
}

#[test]
fn a_refusal_names_how_many_rounds_are_allowed() {
    let run = |rounds: u64| allowed().with(|run| run.rounds = rounds);
    let error = checked(&run(5_000), &learning()).expect_err("too many rounds").to_string();
    let named = error.split("at most about ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    let rounds: u64 = named.unwrap_or_else(|| panic!("{error}"));
    assert_eq!(checked(&run(rounds), &learning()), Ok(()));
    checked(&run(rounds + rounds / 10), &learning()).expect_err("a tenth more");
}

#[test]
fn one_change_of_an_allowed_run_is_enough_to_be_refused() {
    assert_eq!(checked(&allowed(), &learning()), Ok(()));
    let refused = |change: fn(&mut RunDescription, &mut RequestedTraining), word: &str| {
        let (mut run, mut learning) = (allowed(), learning());
        change(&mut run, &mut learning);
        let error = checked(&run, &learning).expect_err(word).to_string();
        assert!(error.contains(word), "{word}: {error}");
    };
    refused(|r, _| r.batch = 1, "batch_min");
    refused(|r, _| r.batch = 65, "batch_max");
    refused(|r, _| r.crop = 8, "crop_min");
    refused(|r, _| r.symmetry = Symmetry::None, "require_symmetry");
    refused(|r, _| r.rounds = 100_001, "rounds_max");
    refused(|r, _| r.rounds = 5_000, "case_rounds_max");
    refused(|r, _| r.crop = 140, "crop_margin_min");
    refused(|r, _| r.checkpoint_every = 5_000, "checkpoint_every_max");
    refused(|r, _| r.checkpoint_every = 0, "checkpoint_every");
    refused(|r, _| r.site_threads = 1_024, "threads_max");
    refused(|r, _| r.l1_weight = 1e-9, "allow_l1");
    refused(|r, _| r.l1_weight = f64::NAN, "allow_l1");
    refused(|r, _| r.name = "a\u{1b}[2J".into(), "name");
    refused(|r, _| r.networks = "x".repeat(1 << 17), "networks");
    refused(|r, _| r.waiting = Waiting::Quorum { sites: 1, deadline_ms: u64::MAX }, "deadline");
    refused(|r, _| r.feedback_dtype = Dtype::Q8, "q8");
    refused(|_, l| l.family = DiscriminatorFamily::Mlp, "discriminators");
    refused(|_, l| l.family = DiscriminatorFamily::Patch, "discriminators");
    refused(|_, l| l.betas = [0.5, 0.999_999], "betas");
    refused(|_, l| l.width = 1_024, "width_max");
    refused(|_, l| l.learning_rate = 0.0, "learning rates");
    refused(|_, l| l.learning_rate = f64::NAN, "learning rates");
    refused(|_, l| l.betas = [0.5, 1.0], "betas");
    refused(|_, l| l.augmentation = 0.0, "augmentation_min");
    refused(|_, l| l.memory_bytes = 9 << 30, "memory_bytes_max");
    let spectral = SitePolicy::default().with(|policy| policy.require_spectral_norm = true);
    assert!(spectral.check(&allowed(), &learning(), &summary(), &patients()).is_err());
    // Cases of one patient alone.
    let error = SitePolicy::default().check(&allowed(), &learning(), &summary(), &[0; 48]).expect_err("one patient");
    assert!(error.to_string().contains("patients_per_batch_min"), "{error}");
    let few = SiteSummary { cases: 31, ..summary() };
    assert!(
        SitePolicy::default().check(&allowed(), &learning(), &few, &patients()[..31]).expect_err("few").to_string().contains("cases_min")
    );
    let patient = SitePolicy::default().with(|policy| policy.patient_rounds_max = 100);
    assert!(
        patient.check(&allowed(), &learning(), &summary(), &patients()).expect_err("too often").to_string().contains("patient_rounds_max")
    );
}

#[test]
fn every_case_is_drawn_about_as_often() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut counts = [0_u32; 48];
    for _ in 0..24_000 {
        for case in draw_real_cases(&mut rng, 2, &patients(), 2) {
            counts[case as usize] += 1;
        }
    }
    assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
}

#[test]
fn the_server_cannot_work_out_what_a_site_with_a_secret_shows() {
    let run = allowed();
    let drawn = |secret: u8, round| {
        let randomness = SiteRandomness::Secret(SiteSecret::new([secret; 32]));
        run.round_draw(SiteId(0), round, &summary(), &randomness, &patients(), 2)
    };
    let same = |a: u8, b: Option<u8>| {
        (0..200)
            .filter(|&round| drawn(a, round).real.cases == b.map_or(drawn(a, round).conditions.cases, |b| drawn(b, round).real.cases))
            .count()
    };
    assert_eq!(same(1, Some(1)), 200, "the same secret draws the same");
    // Of 2,256 ordered pairs one would be right by chance.
    assert!(same(1, Some(2)) < 4 && same(1, None) < 4);
    let other = run.clone().with(|run| run.seed = 4);
    let of_other = |round| {
        other.round_draw(SiteId(0), round, &summary(), &SiteRandomness::Secret(SiteSecret::new([1; 32])), &patients(), 2).real.cases
    };
    assert!((0..200).filter(|&round| drawn(1, round).real.cases == of_other(round)).count() < 4, "another run has other draws");
    // Feedback on an L1 term needs the real image of each mask.
    let l1 = allowed().with(|run| run.l1_weight = 1.0);
    let paired = l1.round_draw(SiteId(0), 3, &summary(), &SiteRandomness::Secret(SiteSecret::new([1; 32])), &patients(), 2);
    assert_eq!(paired.real, paired.conditions);
}

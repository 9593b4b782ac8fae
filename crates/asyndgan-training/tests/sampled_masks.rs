//! Masks from a model of shapes: what they cost is recorded once, before they exist.
#![allow(missing_docs, reason = "tests")]

use std::path::Path;

use asyndgan_privacy::{Budget, Composition, SubsampledGaussian};
use asyndgan_protocol::{PrivacyBudget, Role, SiteSecret, stream};
use asyndgan_task::Task;
use asyndgan_training::{Error, MASKS, PrivacyLedger, SampledMasks};
use ndarray::Array2;

const BUDGET: PrivacyBudget = PrivacyBudget { epsilon: 2.0, delta: 1e-5 };

fn task(labels: &str) -> Task {
    let text = format!(
        r#"
        name = "organ"
        images = "pictures"
        labels = "{labels}"
        channels = [{{ name = "grey", normalisation = "rgb" }}]
        classes = [{{ name = "organ", labels = [1] }}]
    "#
    );
    toml::from_str(&text).expect("a task")
}

/// Two discs for each of some patients.
fn masks(patients: u32) -> (Vec<Array2<u8>>, Vec<u32>) {
    let disc = |radius: f64| Array2::from_shape_fn((32, 32), |(r, c)| u8::from((r as f64 - 16.0).hypot(c as f64 - 16.0) < radius));
    let of_patient = |patient: u32| [0.0, 1.5].map(|more| disc(5.0 + f64::from(patient % 6) + more));
    ((0..patients).flat_map(of_patient).collect(), (0..patients).flat_map(|patient| [patient; 2]).collect())
}

fn sampled(ledger: Option<&Path>) -> SampledMasks {
    SampledMasks::new(BUDGET, SiteSecret::new([3; 32])).with(|sampled| sampled.ledger = ledger.map(Path::to_path_buf))
}

fn sample(from: &SampledMasks, (masks, patients): &(Vec<Array2<u8>>, Vec<u32>)) -> Result<Vec<Array2<u8>>, Error> {
    from.sample(&task("classes"), masks, patients, &mut stream(5, Role::Recombination, 0, 0))
}

#[test]
fn the_cost_is_that_of_the_budget_and_is_recorded_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("privacy.jsonl");
    let (own, from) = (masks(60), sampled(Some(&path)));
    let made = sample(&from, &own).expect("sampled");
    assert_eq!((made.len(), made[0].dim()), (120, (32, 32)));
    assert!(made.iter().any(|mask| mask.iter().any(|&code| code == 1)));
    let steps = PrivacyLedger::read(&path).expect("a ledger");
    assert_eq!(steps.len(), 2);
    let mut spent = Composition::new();
    for step in &steps {
        assert_eq!((step.run.as_str(), step.sampling_rate), (MASKS, 1.0));
        spent.add(SubsampledGaussian::new(step.sampling_rate, step.noise_multiplier).expect("a mechanism"), 1);
    }
    let epsilon = spent.epsilon(BUDGET.delta).expect("an epsilon");
    assert!((1.99..=2.0).contains(&epsilon), "{epsilon}");
    // A restarted site draws the same, for nothing.
    assert_eq!(sample(&from, &own).expect("sampled"), made);
    assert_eq!(PrivacyLedger::read(&path).expect("a ledger").len(), 2);
    // Another secret has other noise, which is another release.
    sample(&from.clone().with(|sampled| sampled.secret = SiteSecret::new([4; 32])), &own).expect("sampled");
    assert_eq!(PrivacyLedger::read(&path).expect("a ledger").len(), 4);
    // Other data are another release.
    sample(&from, &masks(61)).expect("sampled");
    assert_eq!(PrivacyLedger::read(&path).expect("a ledger").len(), 6);
    assert!(
        PrivacyLedger::open(&path)
            .expect("not in use")
            .spent()
            .steps_left(Budget::new(2.0, 1e-5).expect("a budget"), mechanism(), 1)
            .is_ok_and(|left| left == 0)
    );
}

fn mechanism() -> SubsampledGaussian {
    SubsampledGaussian::new(1.0, 1.0).expect("a mechanism")
}

#[test]
fn a_budget_that_is_too_small_leaves_the_ledger_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("privacy.jsonl");
    let limited = sampled(Some(&path)).with(|sampled| sampled.total = Some(PrivacyBudget { epsilon: 1.9, delta: 1e-5 }));
    assert!(matches!(sample(&limited, &masks(60)), Err(Error::Masks { .. })));
    assert_eq!(PrivacyLedger::read(&path).expect("a ledger").len(), 0);
    let enough = limited.with(|sampled| sampled.total = Some(PrivacyBudget { epsilon: 2.1, delta: 1e-5 }));
    sample(&enough, &masks(60)).expect("sampled");
    assert!(matches!(sample(&enough, &masks(61)), Err(Error::Masks { .. })));
    assert_eq!(PrivacyLedger::read(&path).expect("a ledger").len(), 2);
}

#[test]
fn the_choice_of_a_mask_depends_on_its_patient_alone() {
    // In another order, each patient has the same mask, so the sums and all that follows from them are the same.
    let own = masks(12);
    let renumbered = (own.0.clone(), own.1.iter().map(|patient| 100 - patient).collect());
    assert_eq!(sample(&sampled(None), &own).expect("sampled"), sample(&sampled(None), &renumbered).expect("sampled"));
}

#[test]
fn another_secret_draws_other_masks() {
    let other = SampledMasks::new(BUDGET, SiteSecret::new([4; 32]));
    assert_ne!(sample(&sampled(None), &masks(60)).expect("sampled"), sample(&other, &masks(60)).expect("sampled"));
}

#[test]
fn many_small_objects_are_refused() {
    let (own, patients) = masks(4);
    let refused = sampled(None).sample(&task("instances"), &own, &patients, &mut stream(5, Role::Recombination, 0, 0));
    assert!(matches!(refused, Err(Error::Masks { .. })));
}

//! Compares the accountants with Opacus and dp-accounting over a grid of mechanisms. `references.py` makes the golden
//! file.
#![allow(missing_docs, reason = "tests")]

use std::{fs, path::Path};

use asyndgan_privacy::{Error, PldAccountant, RdpAccountant, SubsampledGaussian};
use serde_json::Value;

fn cases() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/privacy.json");
    let golden: Value = serde_json::from_str(&fs::read_to_string(path).expect("the golden file")).expect("JSON");
    golden["cases"].as_array().expect("cases").clone()
}

fn step(case: &Value) -> (SubsampledGaussian, u64, f64) {
    let number = |name: &str| case[name].as_f64().expect("a number");
    let step = SubsampledGaussian::new(number("sampling_rate"), number("noise_multiplier")).expect("valid");
    (step, case["steps"].as_u64().expect("a count"), number("delta"))
}

/// Equal to 1e-6, relative to values above 1.
fn same(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-6 * expected.abs().max(1.0)
}

#[test]
fn rényi_bounds_are_those_of_opacus_and_dp_accounting() {
    for case in cases() {
        let (step, steps, delta) = step(&case);
        let whole_orders = RdpAccountant::with_orders((2..64).map(f64::from).collect()).expect("orders");
        for (reference, mut accountant) in [("opacus_rdp", RdpAccountant::new()), ("google_rdp", whole_orders)] {
            accountant.compose(step, steps).expect("composed");
            let found = accountant.epsilon(delta).expect("a delta");
            assert!(same(found, case[reference].as_f64().expect("a number")), "{reference}: {found}, {case}");
        }
    }
}

/// Compares the cases whose composed loss ranges widely, or the others; returns their number.
fn compare_distributions(are_wide: bool) -> usize {
    let mut compared = 0;
    for case in cases() {
        let (Some(expected), (step, steps, delta)) = (case["google_pld"].as_f64(), step(&case)) else { continue };
        let spread = steps as f64 * step.sampling_rate() / step.noise_multiplier().powi(2);
        if (spread > 20.0) != are_wide {
            continue;
        }
        let mut accountant = PldAccountant::new();
        match accountant.compose(step, steps) {
            Ok(()) => {
                let found = accountant.epsilon(delta).expect("a delta");
                assert!(same(found, expected), "{found}, {case}");
                compared += 1;
            }
            Err(Error::TooWide { .. }) => assert!(spread > 1000.0, "{case}"),
            Err(error) => panic!("{error}: {case}"),
        }
    }
    compared
}

#[test]
fn privacy_loss_distributions_are_those_of_dp_accounting() {
    assert!(compare_distributions(false) > 50);
}

#[test]
#[ignore = "distributions of many points take half a minute"]
fn wide_privacy_loss_distributions_are_those_of_dp_accounting() {
    assert!(compare_distributions(true) > 20);
}

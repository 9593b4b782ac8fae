//! Laws of the accountants, for random mechanisms.
#![allow(missing_docs, reason = "tests")]

use asyndgan_privacy::{Budget, Composition, Error, PldAccountant, RdpAccountant, SubsampledGaussian, noise_multiplier};
use proptest::prelude::*;

fn rdp(rate: f64, noise: f64, steps: u64, delta: f64) -> f64 {
    let mut accountant = RdpAccountant::new();
    accountant.compose(SubsampledGaussian::new(rate, noise).expect("valid"), steps).expect("composed");
    accountant.epsilon(delta).expect("a delta")
}

fn pld(rate: f64, noise: f64, steps: u64, delta: f64) -> f64 {
    let mut accountant = PldAccountant::new();
    accountant.compose(SubsampledGaussian::new(rate, noise).expect("valid"), steps).expect("composed");
    accountant.epsilon(delta).expect("a delta")
}

/// The delta of a Gaussian mechanism at an epsilon.
///
/// Balle and Wang, Improving the Gaussian Mechanism for Differential Privacy, ICML 2018, Theorem 8.
fn delta_of_gaussian(noise: f64, epsilon: f64) -> f64 {
    let below = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
    below(0.5 / noise - epsilon * noise) - epsilon.exp() * below(-0.5 / noise - epsilon * noise)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn more_noise_costs_less_and_more_steps_data_and_certainty_cost_more(rate in 0.001..0.3_f64, noise in 0.7..4.0_f64, steps in 1_u64..300) {
        for epsilon in [rdp, pld] {
            let spent = epsilon(rate, noise, steps, 1e-5);
            let close = 1e-9 + 1e-6 * spent;
            prop_assert!(spent.is_finite() && spent >= 0.0);
            prop_assert!(epsilon(rate, 1.5 * noise, steps, 1e-5) <= spent + close);
            prop_assert!(epsilon(rate, noise, 2 * steps, 1e-5) + close >= spent);
            prop_assert!(epsilon((1.5 * rate).min(1.0), noise, steps, 1e-5) + close >= spent);
            prop_assert!(epsilon(rate, noise, steps, 1e-7) + close >= spent);
        }
    }

    #[test]
    fn the_distribution_of_the_loss_gives_the_tighter_bound(rate in 0.001..1.0_f64, noise in 0.7..4.0_f64, steps in 1_u64..200) {
        prop_assert!(pld(rate, noise, steps, 1e-6) <= rdp(rate, noise, steps, 1e-6) + 1e-3);
    }

    #[test]
    fn steps_compose_in_any_grouping(rate in 0.001..0.3_f64, noise in 0.8..4.0_f64, steps in 2_u64..60, part in 0.0..1.0_f64) {
        let first = (part * steps as f64) as u64;
        let step = SubsampledGaussian::new(rate, noise).expect("valid");
        let (mut rdp_parts, mut pld_parts) = (RdpAccountant::new(), PldAccountant::new());
        for steps in [first, steps - first] {
            rdp_parts.compose(step, steps).expect("composed");
            pld_parts.compose(step, steps).expect("composed");
        }
        prop_assert!((rdp_parts.epsilon(1e-5).expect("a delta") - rdp(rate, noise, steps, 1e-5)).abs() < 1e-9);
        prop_assert!((pld_parts.epsilon(1e-5).expect("a delta") - pld(rate, noise, steps, 1e-5)).abs() < 1e-5);
    }

    #[test]
    fn without_subsampling_it_is_the_gaussian_mechanism(noise in 0.6..8.0_f64, steps in 1_u64..100) {
        // Steps of a Gaussian mechanism are one with less noise.
        let epsilon = pld(1.0, noise, steps, 1e-6);
        let delta = delta_of_gaussian(noise / (steps as f64).sqrt(), epsilon);
        prop_assert!((0.99e-6..1.001e-6).contains(&delta), "{epsilon}: {delta}");
    }

    #[test]
    fn a_plan_stays_within_its_budget(epsilon in 0.5..8.0_f64, rate in 0.005..0.2_f64, steps in 10_u64..500) {
        let noise = noise_multiplier(Budget::new(epsilon, 1e-5).expect("a budget"), rate, steps).expect("reachable");
        prop_assert!(pld(rate, noise, steps, 1e-5) <= epsilon + 1e-9);
        prop_assert!(pld(rate, 0.99 * noise, steps, 1e-5) > epsilon, "less noise would be enough");
    }
}

#[test]
fn nothing_is_spent_by_no_step_or_on_no_data() {
    assert!(rdp(0.0, 1.0, 1_000, 1e-5) == 0.0 && pld(0.0, 1.0, 1_000, 1e-5) == 0.0);
    assert!(pld(0.1, 1.0, 0, 1e-5) == 0.0);
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    let name = |error: Error| error.to_string();
    assert!(name(SubsampledGaussian::new(1.1, 1.0).expect_err("a rate")).contains("the sampling rate is 1.1"));
    assert!(name(SubsampledGaussian::new(f64::NAN, 1.0).expect_err("a rate")).contains("the sampling rate"));
    assert!(name(SubsampledGaussian::new(0.1, 0.0).expect_err("noise")).contains("the noise multiplier is 0"));
    assert!(name(Budget::new(1.0, 0.0).expect_err("a delta")).contains("delta is 0"));
    assert!(RdpAccountant::new().epsilon(1.0).is_err() && PldAccountant::new().epsilon(0.0).is_err());
    assert!(RdpAccountant::with_orders(vec![2.0, 1.0]).is_err());
}

#[test]
fn a_loss_that_ranges_too_far_is_an_error() {
    let step = SubsampledGaussian::new(1.0, 0.1).expect("valid");
    assert!(matches!(PldAccountant::new().compose(step, 100_000), Err(Error::TooWide { .. })));
}

#[test]
fn a_budget_lasts_for_the_steps_that_its_noise_was_planned_for() {
    let budget = Budget::new(3.0, 1e-5).expect("a budget");
    for (rate, steps) in [(0.02, 500), (0.5, 40), (1.0, 7)] {
        let noise = noise_multiplier(budget, rate, steps).expect("a plan");
        let step = SubsampledGaussian::new(rate, noise).expect("valid");
        let mut spent = Composition::new();
        let left = |spent: &Composition| spent.steps_left(budget, step, 10 * steps).expect("a number");
        let all = left(&spent);
        assert!(all >= steps && all <= steps + 1 + steps / 50, "{all} of {steps}");
        spent.add(step, steps / 2);
        assert_eq!(left(&spent), all - steps / 2);
        spent.add(step, all - steps / 2);
        assert_eq!(left(&spent), 0);
        spent.add(step, 1);
        assert_eq!((left(&spent), spent.steps().count()), (0, 1));
        assert!(spent.epsilon(1e-5).expect("a number") > 3.0);
    }
}

#[test]
fn steps_of_several_runs_add_up() {
    let [fine, coarse] = [(0.01, 1.0), (0.1, 2.0)].map(|(rate, noise)| SubsampledGaussian::new(rate, noise).expect("valid"));
    let mut both = Composition::new();
    assert!(both.epsilon(1e-5).expect("a number").abs() < f64::EPSILON);
    both.add(fine, 300);
    let one = both.epsilon(1e-5).expect("a number");
    both.add(coarse, 100);
    let epsilon = both.epsilon(1e-5).expect("a number");
    let mut pld = PldAccountant::new();
    pld.compose(coarse, 100).expect("composed");
    pld.compose(fine, 300).expect("composed");
    assert!(epsilon > one && (epsilon - pld.epsilon(1e-5).expect("a number")).abs() < 1e-4, "{epsilon}");
}

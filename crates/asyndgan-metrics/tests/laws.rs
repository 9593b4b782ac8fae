//! Laws that the metrics keep on random small arrays, and equality with the definition written out plainly.
#![allow(missing_docs, clippy::float_cmp, reason = "tests, which also compare exact values")]

use asyndgan_metrics::{
    Confusion, Connectivity, Undefined, aji, bootstrap_difference, components, hd95, squared_distance_to, summarise, wasserstein_1,
};
use ndarray::{Array2, Array3, Axis};
use proptest::prelude::*;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

fn mask() -> impl Strategy<Value = Array3<bool>> {
    (1_usize..5, 1_usize..6, 1_usize..6).prop_flat_map(|(d, h, w)| {
        proptest::collection::vec(prop::bool::weighted(0.3), d * h * w)
            .prop_map(move |v| Array3::from_shape_vec((d, h, w), v).expect("shape"))
    })
}

fn masks() -> impl Strategy<Value = (Array3<bool>, Array3<bool>)> {
    mask().prop_flat_map(|a| {
        let dim = a.dim();
        let other = proptest::collection::vec(prop::bool::weighted(0.3), a.len());
        (Just(a), other.prop_map(move |v| Array3::from_shape_vec(dim, v).expect("shape")))
    })
}

fn labels() -> impl Strategy<Value = (Array2<u32>, Array2<u32>)> {
    (1_usize..7, 1_usize..7).prop_flat_map(|(h, w)| {
        let map = move || proptest::collection::vec(0_u32..4, h * w).prop_map(move |v| Array2::from_shape_vec((h, w), v).expect("shape"));
        (map(), map())
    })
}

fn points(mask: &Array3<bool>) -> Vec<[f64; 3]> {
    mask.indexed_iter().filter(|(_, m)| **m).map(|((z, y, x), _)| [z as f64, y as f64, x as f64]).collect()
}

const SPACING_MM: [f64; 3] = [3.0, 0.5, 1.25];

proptest! {
    #[test]
    fn distance_is_the_nearest_by_brute_force(m in mask()) {
        let fast = squared_distance_to(m.view(), &SPACING_MM);
        for ((z, y, x), &d) in fast.indexed_iter() {
            let slow = points(&m).iter().map(|p| {
                [z as f64, y as f64, x as f64].iter().zip(p).zip(SPACING_MM).map(|((a, b), s)| ((a - b) * s).powi(2)).sum::<f64>()
            }).fold(f64::INFINITY, f64::min);
            prop_assert!(d == slow || (d - slow).abs() < 1e-9, "{d} {slow}");
        }
    }

    #[test]
    fn overlap_is_symmetric_and_bounded((a, b) in masks()) {
        let (ab, ba) = (Confusion::of(a.view(), b.view()), Confusion::of(b.view(), a.view()));
        prop_assert_eq!(ab.dice(), ba.dice());
        for value in [ab.dice(), ab.sensitivity(), ab.specificity()].into_iter().flatten() {
            prop_assert!((0.0..=1.0).contains(&value));
        }
    }

    #[test]
    fn hd95_is_symmetric_zero_on_equality_and_scales_with_spacing((a, b) in masks()) {
        let forth = hd95(a.view(), b.view(), &SPACING_MM);
        let back = hd95(b.view(), a.view(), &SPACING_MM);
        prop_assert_eq!(forth.ok(), back.ok());
        if let Ok(mm) = forth {
            let doubled = hd95(a.view(), b.view(), &SPACING_MM.map(|s| 2.0 * s)).expect("defined");
            prop_assert!((doubled - 2.0 * mm).abs() < 1e-9);
            let mut turned = (a.clone(), b.clone());
            turned.0.swap_axes(0, 2);
            turned.1.swap_axes(0, 2);
            let turned = hd95(turned.0.view(), turned.1.view(), &[1.25, 0.5, 3.0]).expect("defined");
            prop_assert!((turned - mm).abs() < 1e-9);
        }
        if a.iter().any(|&m| m) {
            prop_assert_eq!(hd95(a.view(), a.view(), &SPACING_MM), Ok(0.0));
        }
    }

    #[test]
    fn aji_is_bounded_one_on_equality_and_blind_to_names((t, p) in labels()) {
        if let Ok(value) = aji(t.view(), p.view()) {
            prop_assert!((0.0..=1.0).contains(&value));
            let renamed = p.mapv(|l| if l == 0 { 0 } else { l * 1000 });
            prop_assert_eq!(aji(t.view(), renamed.view()), Ok(value));
        }
        if t.iter().any(|&l| l > 0) {
            prop_assert_eq!(aji(t.view(), t.view()), Ok(1.0));
        }
    }

    #[test]
    fn components_join_exactly_the_touching((t, _) in labels()) {
        let mask = t.mapv(|l| l > 0);
        let (four, n4) = components(mask.view(), Connectivity::Faces);
        let (_, n8) = components(mask.view(), Connectivity::Corners);
        prop_assert!(n8 <= n4);
        for axis in 0..2 {
            for pair in four.axis_windows(Axis(axis), 2) {
                for lane in pair.lanes(Axis(axis)) {
                    prop_assert!(lane[0] == 0 || lane[1] == 0 || lane[0] == lane[1]);
                }
            }
        }
        prop_assert_eq!(four.iter().copied().max().unwrap_or(0), n4);
    }

    #[test]
    fn wasserstein_is_a_distance_and_moves_with_a_shift(a in proptest::collection::vec(-9.0..9.0_f64, 1..20), b in proptest::collection::vec(-9.0..9.0_f64, 1..20)) {
        let d = wasserstein_1(&a, &b).expect("defined");
        prop_assert!((d - wasserstein_1(&b, &a).expect("defined")).abs() < 1e-9 && d >= 0.0);
        let shifted: Vec<f64> = a.iter().map(|v| v + 2.5).collect();
        prop_assert!((wasserstein_1(&a, &shifted).expect("defined") - 2.5).abs() < 1e-9);
    }
}

#[test]
fn surface_distance_by_hand() {
    // A 3 x 3 square against itself moved by two columns: every far column is two pixels of 0.5 mm away.
    let square = |left: usize| Array2::from_shape_fn((5, 7), |(r, c)| (1..4).contains(&r) && (left..left + 3).contains(&c));
    assert_eq!(hd95(square(1).view(), square(3).view(), &[1.0, 0.5]), Ok(1.0));
}

#[test]
fn what_does_not_exist_says_why() {
    let (empty, full) = (Array2::from_elem((2, 2), false), Array2::from_elem((2, 2), true));
    assert_eq!(Confusion::of(empty.view(), empty.view()).dice(), Err(Undefined::BothEmpty));
    assert_eq!(Confusion::of(empty.view(), full.view()).sensitivity(), Err(Undefined::TruthEmpty));
    assert_eq!(Confusion::of(full.view(), full.view()).specificity(), Err(Undefined::TruthFull));
    assert_eq!(hd95(full.view(), empty.view(), &[1.0, 1.0]), Err(Undefined::PredictionEmpty));
    assert_eq!(hd95(empty.view(), full.view(), &[1.0, 1.0]), Err(Undefined::TruthEmpty));
    assert_eq!(aji(Array2::zeros((2, 2)).view(), Array2::zeros((2, 2)).view()), Err(Undefined::BothEmpty));
    assert_eq!(wasserstein_1(&[], &[1.0]), Err(Undefined::NoSamples));
    assert_eq!(wasserstein_1(&[f64::NAN], &[1.0]), Err(Undefined::NotFinite));
    let summary = summarise(&[Some(1.0), None, Some(3.0)]);
    assert_eq!((summary.mean, summary.sd, summary.n, summary.undefined), (Some(2.0), Some(2.0_f64.sqrt()), 2, 1));
}

#[test]
fn aji_by_hand() {
    // Truth 1 (4 px) and 2 (2 px); one prediction covers both: it serves twice. A stray prediction of 1 px joins the union.
    let truth = ndarray::arr2(&[[1, 1, 2, 0], [1, 1, 2, 0]]);
    let prediction = ndarray::arr2(&[[9, 9, 9, 0], [9, 9, 9, 4]]);
    assert_eq!(aji(truth.view(), prediction.view()), Ok(6.0 / 13.0));
}

#[test]
fn bootstrap_interval_holds_the_difference() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let a: Vec<f64> = (0..40).map(|i| f64::from(i % 7) + 1.0).collect();
    let b: Vec<f64> = (0..40).map(|i| f64::from(i % 5)).collect();
    let (difference, interval) = bootstrap_difference(&a, &b, 2000, &mut rng).expect("pairs");
    assert!(interval.low < difference && difference < interval.high);
    let (same, point) = bootstrap_difference(&a, &a, 100, &mut rng).expect("pairs");
    assert_eq!((same, point.low, point.high), (0.0, 0.0, 0.0));
}

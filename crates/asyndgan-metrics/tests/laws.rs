//! Laws that the metrics keep on random small arrays, and equality with the definition written out plainly.
#![allow(missing_docs, clippy::float_cmp, reason = "tests, which also compare exact values")]

use asyndgan_metrics::{
    Confusion, Connectivity, Overlaps, SurfaceDistances, Undefined, Window, aji, bootstrap_difference, connected_components, hd95, holm,
    nearest_distances, pearson, precision_recall, psnr, spearman, squared_distance_transform, ssim, summarise, wasserstein_1, wilcoxon,
};
use ndarray::{Array1, Array2, Array3, Axis, arr1};
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
        let fast = squared_distance_transform(m.view(), &SPACING_MM);
        for ((z, y, x), &d) in fast.indexed_iter() {
            let slow = points(&m).iter().map(|p| {
                [z as f64, y as f64, x as f64].iter().zip(p).zip(SPACING_MM).map(|((a, b), s)| ((a - b) * s).powi(2)).sum::<f64>()
            }).fold(f64::INFINITY, f64::min);
            prop_assert!(d == slow || (d - slow).abs() < 1e-9, "{d} {slow}");
        }
    }

    #[test]
    fn overlap_is_symmetric_and_bounded((a, b) in masks()) {
        let (ab, ba) = (Confusion::new(a.view(), b.view()), Confusion::new(b.view(), a.view()));
        prop_assert_eq!(ab.dice(), ba.dice());
        for value in [ab.dice(), ab.sensitivity(), ab.specificity()].into_iter().flatten() {
            prop_assert!((0.0..=1.0).contains(&value));
        }
    }

    #[test]
    fn surface_distances_are_those_of_brute_force((a, b) in masks()) {
        let on_surface = |m: &Array3<bool>| {
            let (d, h, w) = m.dim();
            let marked = |z: usize, y: usize, x: usize| z < d && y < h && x < w && m[[z, y, x]];
            let inner = |[z, y, x]: [usize; 3]| {
                [(z.wrapping_sub(1), y, x), (z + 1, y, x), (z, y.wrapping_sub(1), x), (z, y + 1, x), (z, y, x.wrapping_sub(1)), (z, y, x + 1)]
                    .into_iter()
                    .all(|(z, y, x)| marked(z, y, x))
            };
            points(m).into_iter().filter(|p| !inner(p.map(|v| v as usize))).collect::<Vec<_>>()
        };
        let (from, to) = (on_surface(&a), on_surface(&b));
        let mm = |p: &[f64; 3], q: &[f64; 3]| p.iter().zip(q).zip(SPACING_MM).map(|((a, b), s)| ((a - b) * s).powi(2)).sum::<f64>().sqrt();
        let directed = |from: &[[f64; 3]], to: &[[f64; 3]]| -> Vec<f64> {
            from.iter().map(|p| to.iter().map(|q| mm(p, q)).fold(f64::INFINITY, f64::min)).collect()
        };
        match SurfaceDistances::new(a.view(), b.view(), &SPACING_MM) {
            Err(_) => prop_assert!(from.is_empty() || to.is_empty()),
            Ok(found) => {
                let all = [directed(&from, &to), directed(&to, &from)].concat();
                let mean = all.iter().sum::<f64>() / all.len() as f64;
                prop_assert!((found.hausdorff() - all.iter().copied().fold(0.0, f64::max)).abs() < 1e-9);
                prop_assert!((found.average() - mean).abs() < 1e-9);
                let near = all.iter().filter(|d| **d <= 1.3).count() as f64 / all.len() as f64;
                prop_assert!((found.surface_dice(1.3) - near).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn a_distance_of_the_tolerance_is_within_it(away in 1_usize..12, spacing in 0.01_f64..5.0, thirds in 1_u32..40) {
        for spacing in [spacing, f64::from(thirds) / 3.0, f64::from(thirds) / 10.0] {
            let at = |x| Array1::from_shape_fn(12, |i| i == x);
            let found = SurfaceDistances::new(at(0).view(), at(away).view(), &[spacing]).expect("marked");
            let tolerance_mm = away as f64 * spacing;
            prop_assert_eq!(found.surface_dice(tolerance_mm), 1.0);
            prop_assert_eq!(found.surface_dice(tolerance_mm * (1.0 - 1e-6)), 0.0);
        }
    }

    #[test]
    fn what_moves_together_scores_the_same((a, b) in masks(), away in 0_usize..4) {
        let moved = |m: &Array3<bool>| {
            let (d, h, w) = m.dim();
            let mut out = Array3::from_elem((d + 2 * away, h + away, w + 3), false);
            for ((z, y, x), &on) in m.indexed_iter() {
                out[[z + away, y + away, x + 1]] = on;
            }
            out
        };
        let (forth, back) = (SurfaceDistances::new(a.view(), b.view(), &SPACING_MM), SurfaceDistances::new(moved(&a).view(), moved(&b).view(), &SPACING_MM));
        // Surfaces at the border of the array are surfaces inside of it, too.
        prop_assert_eq!(forth, back);
        let overlap = |a: &Array3<bool>, b: &Array3<bool>| Confusion::new(a.view(), b.view());
        prop_assert_eq!(overlap(&a, &b).dice(), overlap(&moved(&a), &moved(&b)).dice());
        if let (Ok(jaccard), Ok(dice)) = (overlap(&a, &b).jaccard(), overlap(&a, &b).dice()) {
            prop_assert!((jaccard - dice / (2.0 - dice)).abs() < 1e-12);
        }
    }

    #[test]
    fn a_smaller_prediction_within_the_truth_scores_no_better((truth, other) in masks()) {
        // Within the truth, what is marked less is found less.
        let within = ndarray::Zip::from(&truth).and(&other).map_collect(|&t, &o| t && o);
        let (all, part) = (Confusion::new(truth.view(), truth.view()), Confusion::new(truth.view(), within.view()));
        if let (Ok(all), Ok(part)) = (all.dice(), part.dice()) {
            prop_assert!(part <= all);
        }
        let full = truth.iter().all(|&t| t);
        prop_assert_eq!(part.specificity().ok(), (!full).then_some(1.0));
    }

    #[test]
    fn instance_metrics_are_bounded_symmetric_and_blind_to_names((t, p) in labels()) {
        let of = |t: &Array2<u32>, p: &Array2<u32>| {
            let overlaps = Overlaps::new(t.view(), p.view());
            let matching = overlaps.matching(0.3);
            [overlaps.aji().value(), overlaps.aji_plus().value(), matching.pq(), matching.f1(), overlaps.object_dice()]
        };
        let found = of(&t, &p);
        for value in found.into_iter().flatten() {
            prop_assert!((0.0..=1.0).contains(&value));
        }
        let renamed = p.mapv(|l| if l == 0 { 0 } else { 90_000 - 1000 * l });
        let close = |a: Result<f64, Undefined>, b: Result<f64, Undefined>| a.is_err() == b.is_err() && a.ok().zip(b.ok()).is_none_or(|(a, b)| (a - b).abs() < 1e-9);
        // Ties may be broken the other way by other names; without them nothing changes.
        let other = of(&t, &renamed);
        prop_assert!(close(found[2], other[2]) && close(found[3], other[3]));
        let turned = of(&p, &t);
        prop_assert!(close(found[2], turned[2]) && close(found[4], turned[4]));
    }

    #[test]
    fn the_assignment_is_the_best_of_all((t, p) in labels()) {
        let overlaps = Overlaps::new(t.view(), p.view());
        let found = overlaps.matching(0.0).iou;
        let size = |m: &Array2<u32>, l: u32| m.iter().filter(|&&v| v == l).count() as f64;
        let shared = |a: u32, b: u32| ndarray::Zip::from(&t).and(&p).fold(0.0, |n, &x, &y| n + f64::from(u8::from(x == a && y == b)));
        let iou = |a: u32, b: u32| if shared(a, b) == 0.0 { 0.0 } else { shared(a, b) / (size(&t, a) + size(&p, b) - shared(a, b)) };
        let mut best = 0.0_f64;
        for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
            best = best.max((0..3).map(|k| iou(k as u32 + 1, order[k])).sum());
        }
        prop_assert!((found - best).abs() < 1e-9, "{found} {best}");
    }

    #[test]
    fn an_image_is_most_like_itself(values in proptest::collection::vec(0.0..255.0_f64, 144), noise in proptest::collection::vec(-9.0..9.0_f64, 144)) {
        let a = Array2::from_shape_vec((12, 12), values).expect("shape");
        let b = &a + &Array2::from_shape_vec((12, 12), noise).expect("shape");
        for window in [Window::Uniform(7), Window::Gaussian(1.5)] {
            let (same, forth, back) = (ssim(a.view(), a.view(), 255.0, window), ssim(a.view(), b.view(), 255.0, window), ssim(b.view(), a.view(), 255.0, window));
            prop_assert!(same.is_ok_and(|s| (s - 1.0).abs() < 1e-9) && forth.is_ok_and(|s| s <= 1.0));
            prop_assert!(forth.ok().zip(back.ok()).is_some_and(|(a, b)| (a - b).abs() < 1e-9));
        }
        prop_assert_eq!(psnr(a.view(), a.view(), 255.0), Err(Undefined::Identical));
    }

    #[cfg(feature = "fid")]
    #[test]
    fn samples_are_nearest_to_themselves(values in proptest::collection::vec(0.0..255.0_f64, 48), noise in proptest::collection::vec(-9.0..9.0_f64, 48)) {
        let a = Array2::from_shape_vec((12, 4), values).expect("shape");
        let b = &a + &Array2::from_shape_vec((12, 4), noise).expect("shape");
        let fid = |x: &Array2<f64>, y: &Array2<f64>| asyndgan_metrics::fid(x.view(), y.view());
        prop_assert!(fid(&a, &a).is_ok_and(|d| d < 1e-6) && fid(&a, &b).is_ok_and(|d| d >= 0.0));
    }

    #[test]
    fn holm_keeps_the_order_and_never_lowers(p_values in proptest::collection::vec(0.0..1.0_f64, 1..9)) {
        let corrected = holm(&p_values);
        for (i, p) in p_values.iter().enumerate() {
            prop_assert!(corrected[i] >= *p && corrected[i] <= 1.0);
            prop_assert!(p_values.iter().zip(&corrected).all(|(other, c)| other < p || *c >= corrected[i] - 1e-12));
        }
        prop_assert!((wilcoxon(&p_values, &p_values.iter().map(|p| p + 1.0).collect::<Vec<_>>()).expect("pairs") - 2.0 / 2_f64.powi(p_values.len() as i32)).abs() < 1e-12);
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
        let (four, n4) = connected_components(mask.view(), Connectivity::Faces);
        let (_, n8) = connected_components(mask.view(), Connectivity::Corners);
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
    assert_eq!(Confusion::new(empty.view(), empty.view()).dice(), Err(Undefined::BothEmpty));
    assert_eq!(Confusion::new(empty.view(), full.view()).sensitivity(), Err(Undefined::TruthEmpty));
    assert_eq!(Confusion::new(full.view(), full.view()).specificity(), Err(Undefined::TruthFull));
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
    // Truth 1 (4 px) and 2 (2 px); one prediction covers both: it serves twice. A stray prediction of 1 px joins the
    // union.
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

#[test]
fn long_rows_and_columns_are_measured_exactly() {
    for n in [254, 255, 256, 65_534, 65_535, 65_536] {
        let line = |at: &[usize]| Array2::from_shape_fn((1, n), |(_, c)| at.contains(&c));
        let (truth, prediction) = (line(&[0, n / 2]), line(&[n - 1]));
        for turned in [false, true] {
            let view = |m: &Array2<bool>| if turned { m.t().to_owned() } else { m.clone() };
            let found = SurfaceDistances::new(view(&truth).view(), view(&prediction).view(), &[0.5, 0.5]).expect("both mark something");
            assert_eq!(found.hausdorff(), (n - 1) as f64 / 2.0, "{n}");
            assert_eq!(found.average(), ((n - 1) + 2 * (n - 1 - n / 2)) as f64 / 6.0, "{n}");
        }
    }
}

#[test]
fn rank_correlation_is_that_of_scipy() {
    // scipy 1.17.1: spearmanr([1, 2, 2, 4, 5, 6.5], [3, 1, 4, 4, 8, 8]).
    let found = spearman(&[1.0, 2.0, 2.0, 4.0, 5.0, 6.5], &[3.0, 1.0, 4.0, 4.0, 8.0, 8.0]).expect("defined");
    assert!((found.value - 0.850_841_043_487_808_2).abs() < 1e-12, "{found:?}");
    assert!(found.interval.low < found.value && found.value < found.interval.high);
    let rising = spearman(&[1.0, 2.0, 3.0, 4.0], &[0.1, 10.0, 11.0, 1e9]).expect("defined");
    assert!((rising.value - 1.0).abs() < 1e-12);
    assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), Err(Undefined::Identical));
    assert_eq!(spearman(&[1.0], &[1.0]), Err(Undefined::NoSamples));
    assert_eq!(spearman(&[1.0, f64::NAN], &[1.0, 2.0]), Err(Undefined::NotFinite));
}

#[test]
fn linear_correlation_is_that_of_scipy() {
    // scipy 1.17.1, pearsonr of the same values.
    let large: Vec<f64> = (0..5_000).map(f64::from).collect();
    let waves = |share: f64| large.iter().map(|x| (x * x).cos() + share * x).collect::<Vec<f64>>();
    let shifted: Vec<f64> = large[..200].iter().map(|x| x + 20.0 * x.cos()).collect();
    let cases = [
        (vec![1.0, 2.0, 2.0, 4.0, 5.0, 6.5], vec![3.0, 1.0, 4.0, 4.0, 8.0, 8.0], 0.857_144_371_405_125_4, 0.029_153_916_338_809_288),
        (vec![1.0, 2.0, 3.0], vec![1.0, 2.0, 4.0], 0.981_980_506_061_965_5, 0.121_037_718_323_677_39),
        (large[..200].to_vec(), shifted, 0.970_970_193_671_800_7, 5.762_578_389_035_743e-125),
        (large[..200].to_vec(), waves(0.0)[..200].to_vec(), -0.087_990_519_989_257_32, 0.215_353_403_889_354_37),
        (large.clone(), waves(2e-5), 0.041_125_199_348_946_85, 0.003_631_740_861_506_158_6),
        (vec![1.0, 2.0], vec![5.0, 4.0], -1.0, 1.0),
    ];
    for (a, b, correlation, p) in cases {
        let found = pearson(&a, &b).expect("defined");
        assert!((found.correlation - correlation).abs() < 1e-12, "{found:?}, not {correlation}");
        assert!((found.p / p - 1.0).abs() < 1e-8, "{found:?}, not {p:e}");
        let huge: Vec<f64> = a.iter().map(|x| x * 1e200).collect();
        assert!((pearson(&b, &huge).expect("defined").correlation - correlation).abs() < 1e-12);
    }
    assert_eq!(pearson(&[0.1; 3], &[1.0, 2.0, 3.0]), Err(Undefined::Identical));
    assert_eq!(pearson(&[1.0], &[1.0]), Err(Undefined::NoSamples));
    assert_eq!(pearson(&[1.0, f64::INFINITY], &[1.0, 2.0]), Err(Undefined::NotFinite));
}

#[test]
fn the_surface_of_a_line_is_its_ends() {
    let line = |from: usize, to: usize| Array1::from_shape_fn(12, |i| (from..to).contains(&i));
    let found = SurfaceDistances::new(line(1, 6).view(), line(1, 9).view(), &[2.0]).expect("both mark something");
    // Ends 1 and 5 against ends 1 and 8, 2 mm apart each: distances 0, 6, 0 and 6.
    assert_eq!((found.hausdorff(), found.average()), (6.0, 3.0));
}

#[test]
fn of_equal_overlaps_one_is_matched() {
    // One truth of 2 elements under two predictions of one element each, and the reverse.
    let (one, two) = (arr1(&[1_u32, 1]), arr1(&[1_u32, 2]));
    for (truth, prediction) in [(&one, &two), (&two, &one)] {
        let matching = Overlaps::new(truth.view(), prediction.view()).matching(0.25);
        assert_eq!((matching.true_positive, matching.iou), (1, 0.5));
    }
}

#[test]
fn thousands_of_truths_under_one_prediction_are_assigned_at_once() {
    let truth = Array2::from_shape_fn((400, 400), |(r, c)| if r % 4 == 0 && c % 4 == 0 { (r * 100 + c / 4 + 1) as u32 } else { 0 });
    let prediction = Array2::from_elem((400, 400), 1_u32);
    let overlaps = Overlaps::new(truth.view(), prediction.view());
    assert_eq!(overlaps.aji_plus().value(), Ok(1.0 / (160_000.0 + 9_999.0)));
}

#[test]
fn thousands_of_cells_side_by_side_are_assigned_each_to_its_own() {
    // The prediction is the truth moved by a pixel along both axes: all cells form one group, in which each still
    // shares most with its own.
    let cell = |r: usize, c: usize| (r / 4 * 51 + c / 4 + 1) as u32;
    let truth = Array2::from_shape_fn((200, 200), |(r, c)| cell(r, c));
    let prediction = Array2::from_shape_fn((200, 200), |(r, c)| cell(r + 1, c + 1));
    let shared = 50.0 * 50.0 * 9.0;
    assert_eq!(Overlaps::new(truth.view(), prediction.view()).aji_plus().value(), Ok(shared / (80_000.0 - shared)));
}

#[test]
fn what_is_too_large_to_square_is_no_number() {
    #[cfg(feature = "fid")]
    {
        let far = ndarray::arr2(&[[0.0], [1e200]]);
        assert_eq!(asyndgan_metrics::fid(far.view(), far.view()), Err(Undefined::NotFinite));
    }
    assert_eq!(wasserstein_1(&[-1.7e308], &[1.7e308]), Err(Undefined::NotFinite));
}

proptest! {
    #[test]
    fn components_are_those_of_a_flood(mask in mask()) {
        for (connectivity, reach) in [(Connectivity::Faces, 1), (Connectivity::Edges, 2), (Connectivity::Corners, 3)] {
            let mut expected = Array3::<u32>::zeros(mask.dim());
            let mut count = 0;
            for (start, _) in mask.indexed_iter().filter(|(_, m)| **m) {
                if expected[start] > 0 {
                    continue;
                }
                count += 1;
                let mut open = vec![start];
                while let Some(at) = open.pop() {
                    expected[at] = count;
                    for (other, _) in mask.indexed_iter().filter(|(_, m)| **m) {
                        let apart = [at.0.abs_diff(other.0), at.1.abs_diff(other.1), at.2.abs_diff(other.2)];
                        if expected[other] == 0 && apart.iter().all(|&d| d <= 1) && apart.iter().sum::<usize>() <= reach {
                            open.push(other);
                        }
                    }
                }
            }
            prop_assert_eq!(connected_components(mask.view(), connectivity), (expected, count));
        }
    }

    #[test]
    fn ranks_with_ties_are_counted_out(differences in proptest::collection::vec(-4_i32..=4, 1..13)) {
        let a: Vec<f64> = differences.iter().map(|&d| f64::from(d)).collect();
        let some: Vec<f64> = a.iter().copied().filter(|d| *d != 0.0).collect();
        if some.is_empty() {
            prop_assert_eq!(wilcoxon(&a, &vec![0.0; a.len()]), Err(Undefined::Identical));
            return Ok(());
        }
        let count = |of: &dyn Fn(f64) -> bool| some.iter().filter(|o| of(o.abs())).count() as f64;
        let rank = |d: f64| count(&|o| o < d.abs()) + f64::midpoint(count(&|o| o == d.abs()), 1.0);
        let ranks: Vec<f64> = some.iter().map(|&d| rank(d)).collect();
        let positive: f64 = some.iter().zip(&ranks).filter(|(d, _)| **d > 0.0).map(|(_, r)| r).sum();
        let sums: Vec<f64> = (0..1_u32 << some.len()).map(|signs| (0..some.len()).filter(|k| signs >> k & 1 == 1).map(|k| ranks[k]).sum()).collect();
        let share = |of: &dyn Fn(f64) -> bool| sums.iter().filter(|s| of(**s)).count() as f64 / sums.len() as f64;
        let expected = (2.0 * share(&|s| s <= positive).min(share(&|s| s >= positive))).min(1.0);
        let found = wilcoxon(&a, &vec![0.0; a.len()]).expect("differences");
        prop_assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
}

proptest! {
    #[test]
    fn a_sample_covers_itself_and_far_samples_nothing(values in proptest::collection::vec(-5.0..5.0_f64, 12..40), k in 1_usize..4) {
        let rows = values.len() / 2;
        let sample = ndarray::Array2::from_shape_vec((rows, 2), values[..2 * rows].to_vec()).expect("shape");
        prop_assert_eq!(precision_recall(sample.view(), sample.view(), k), Ok((1.0, 1.0)));
        let far = &sample + 1000.0;
        prop_assert_eq!(precision_recall(sample.view(), far.view(), k), Ok((0.0, 0.0)));
        // Moving both moves nothing, and exchanging them exchanges the two.
        let other = &sample * 0.7 + 0.5;
        let (precision, recall) = precision_recall(sample.view(), other.view(), k).expect("defined");
        prop_assert_eq!(precision_recall(other.view(), sample.view(), k), Ok((recall, precision)));
        let nearest = nearest_distances(sample.view(), sample.view()).expect("defined");
        prop_assert!(nearest.iter().all(|d| *d == 0.0));
        let beyond = &sample * 1e200 + 1e200;
        prop_assert_eq!(precision_recall(beyond.view(), sample.view(), k), Err(Undefined::NotFinite));
        let nearest = nearest_distances(far.view(), sample.view()).expect("defined");
        prop_assert!(nearest.iter().all(|d| (1400.0..1430.0).contains(d)));
    }
}

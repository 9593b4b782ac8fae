//! What medpy, MONAI, `SciPy`, scikit-image and plain restatements of published definitions say of the same cases;
//! `references.py` made the numbers and says with which versions. Both sides make the cases from whole numbers
//! (splitmix64).
#![allow(missing_docs, reason = "tests")]

use asyndgan_metrics::{
    Confusion, Connectivity, Convention, ConventionName, Overlaps, SurfaceDistances, Undefined, Window, connected_components, psnr,
    score_masks, ssim, wasserstein_1, wilcoxon,
};
use ndarray::{Array2, ArrayD, Axis, Dimension, IxDyn, Slice};
use serde_json::Value;

const SPACINGS: [f64; 6] = [0.5, 0.75, 1.0, 1.25, 2.5, 3.0];

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) % n as u64) as usize
    }

    fn place(&mut self, shape: &[usize]) -> Vec<usize> {
        shape.iter().map(|&n| self.below(n)).collect()
    }
}

fn paint<T: Copy>(out: &mut ArrayD<T>, centre: &[i64], square: usize, value: T) {
    let reach = (square as f64).sqrt() as i64;
    let mut around = out.view_mut();
    let mut low = Vec::new();
    for (axis, &c) in centre.iter().enumerate() {
        let n = around.len_of(Axis(axis)) as i64;
        let range = (c - reach).clamp(0, n)..(c + reach + 1).clamp(0, n);
        low.push(range.start);
        around.slice_axis_inplace(Axis(axis), Slice::from(range.start as usize..range.end as usize));
    }
    for (at, place) in around.indexed_iter_mut() {
        let away: i64 = at.as_array_view().iter().zip(&low).zip(centre).map(|((&a, l), c)| (a as i64 + l - c).pow(2)).sum();
        if away <= square as i64 {
            *place = value;
        }
    }
}

fn whole(place: &[usize]) -> Vec<i64> {
    place.iter().map(|&p| p as i64).collect()
}

fn mask(numbers: &mut Numbers, shape: &[usize]) -> ArrayD<bool> {
    let kind = numbers.below(12);
    let mut out = ArrayD::from_elem(IxDyn(shape), kind == 1);
    if kind < 2 {
        return out;
    }
    if kind == 2 {
        let at = numbers.place(shape);
        out[IxDyn(&at)] = true;
        return out;
    }
    for _ in 0..=numbers.below(3) {
        let centre = whole(&numbers.place(shape));
        let square = 1 + numbers.below(60);
        paint(&mut out, &centre, square, true);
    }
    for _ in 0..numbers.below(20) {
        let at = numbers.place(shape);
        out[IxDyn(&at)] ^= true;
    }
    out
}

fn mask_case(i: usize) -> (ArrayD<bool>, ArrayD<bool>, Vec<f64>) {
    let mut numbers = Numbers(1000 + i as u64);
    let axes = 2 + i % 2;
    let shape: Vec<usize> = (0..axes).map(|_| 1 + numbers.below(if axes == 2 { 40 } else { 16 })).collect();
    let spacing = (0..axes).map(|_| SPACINGS[numbers.below(6)]).collect();
    (mask(&mut numbers, &shape), mask(&mut numbers, &shape), spacing)
}

fn instance_case(i: usize) -> (ArrayD<u32>, ArrayD<u32>) {
    let mut numbers = Numbers(5000 + i as u64);
    let many = i % 80 == 79;
    let shape = if many { vec![300, 300] } else { (0..2).map(|_| 4 + numbers.below(60)).collect() };
    let count = if many { 500 * (1 + i / 80) } else { numbers.below(40) };
    let (mut truth, mut prediction) = (ArrayD::zeros(IxDyn(&shape)), ArrayD::zeros(IxDyn(&shape)));
    for k in 0..count as u32 {
        let centre = whole(&numbers.place(&shape));
        let square = 1 + numbers.below(30);
        paint(&mut truth, &centre, square, 1 + 3 * k);
        let moved: Vec<i64> = centre.iter().map(|&c| c + numbers.below(3) as i64 - 1).collect();
        let larger = square + numbers.below(5);
        if numbers.below(8) > 0 {
            paint(&mut prediction, &moved, larger, 7 + 2 * k);
        }
    }
    for k in 0..numbers.below(5) as u32 {
        let centre = whole(&numbers.place(&shape));
        let square = 1 + numbers.below(30);
        paint(&mut prediction, &centre, square, 100_000 + k);
    }
    if numbers.below(25) == 0 {
        truth.fill(0);
    }
    (truth, prediction)
}

fn golden(kind: &str) -> Vec<Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/metrics.json");
    let mut all: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("the golden numbers")).expect("JSON");
    all[kind].take().as_array().expect("cases").clone()
}

fn near(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * expected.abs().max(1.0)
}

/// Both defined and near each other, or both undefined.
fn same(found: Result<f64, Undefined>, expected: &Value, tolerance: f64) -> bool {
    match (found, expected.as_f64()) {
        (Ok(found), Some(expected)) => near(found, expected, tolerance),
        (Err(_), None) => true,
        _ => false,
    }
}

#[test]
fn masks_score_as_in_medpy_and_monai() {
    let mut seen = 0;
    for (i, expected) in golden("masks").iter().enumerate() {
        let (truth, prediction, spacing) = mask_case(i);
        let (no_truth, no_prediction) = (!truth.iter().any(|&m| m), !prediction.iter().any(|&m| m));
        let score = |profile| score_masks(truth.view(), prediction.view(), &spacing, 1.5, &Convention::new(profile, "case"));
        // MONAI answers in single precision; the others in double.
        for (profile, name, tolerance) in [(ConventionName::Medpy, "medpy", 1e-9), (ConventionName::Monai, "monai", 2e-6)] {
            for (metric, expected) in expected[name].as_object().expect("metrics") {
                let found = score(profile)[metric.as_str()];
                let differs = match (name, metric.as_str()) {
                    // medpy intends 1, and returns NaN where NumPy does not raise ZeroDivisionError.
                    ("medpy", "dice") if no_truth && no_prediction => expected.is_null() && found == Ok(1.0),
                    // MONAI has a number, 0, only if the truth alone is empty; a surface that is missed agrees nowhere.
                    ("monai", "nsd") if no_truth != no_prediction => found == Ok(0.0) && expected.as_f64().is_none_or(|v| v == 0.0),
                    _ => false,
                };
                assert!(differs || same(found, expected, tolerance), "case {i}, {name} {metric}: {found:?}, expected {expected}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 400 * 13);
}

/// `DeepMind`'s surface runs between elements and weighs by area: the largest distance is mostly the same and never
/// more than an element away, percentiles and shares are other numbers.
#[test]
fn deepmind_measures_another_surface() {
    let (mut cases, mut same_largest, mut same_percentile) = (0, 0, 0);
    for (i, expected) in golden("masks").iter().enumerate() {
        let (truth, prediction, spacing) = mask_case(i);
        let Ok(found) = SurfaceDistances::new(truth.view(), prediction.view(), &spacing) else { continue };
        let of = |name: &str| expected["deepmind"][name].as_f64().expect("both mark something");
        let apart = (found.hausdorff() - of("hausdorff")).abs();
        assert!(apart <= spacing.iter().copied().fold(0.0, f64::max), "case {i}: {apart}");
        cases += 1;
        same_largest += usize::from(apart < 1e-6);
        same_percentile += usize::from(near(found.percentile(95.0, asyndgan_metrics::Directions::Separate), of("hd95"), 1e-6));
    }
    assert_eq!((cases, same_largest, same_percentile), (342, 261, 50));
}

#[test]
fn components_are_scipys() {
    for (i, expected) in golden("masks").iter().enumerate() {
        let (truth, ..) = mask_case(i);
        let counts = [Connectivity::Faces, Connectivity::Edges, Connectivity::Corners].map(|c| connected_components(truth.view(), c).1);
        assert_eq!(serde_json::json!(counts), expected["components"], "case {i}");
    }
}

#[test]
fn instances_score_as_their_definitions_say() {
    for (i, expected) in golden("instances").iter().enumerate() {
        let (truth, prediction) = instance_case(i);
        let overlaps = Overlaps::new(truth.view(), prediction.view());
        let found = [("aji", overlaps.aji().value()), ("aji_plus", overlaps.aji_plus().value()), ("object_dice", overlaps.object_dice())];
        for (name, found) in found {
            assert!(same(found, &expected[name], 1e-9), "case {i}, {name}: {found:?}, expected {}", expected[name]);
        }
        for (limit, values) in expected["matching"].as_object().expect("limits") {
            let matching = overlaps.matching(limit.parse().expect("a number"));
            assert!(same(matching.f1(), &values[0], 1e-9), "case {i}, F1 at {limit}: {matching:?} {values}");
            assert!(same(matching.pq(), &values[1], 1e-9), "case {i}, PQ at {limit}: {matching:?} {values}");
        }
    }
}

#[test]
fn images_score_as_in_scikit_image() {
    for (i, expected) in golden("images").iter().enumerate() {
        let mut numbers = Numbers(9000 + i as u64);
        let shape = (11 + numbers.below(20), 11 + numbers.below(20));
        let a = Array2::from_shape_simple_fn(shape, || numbers.below(256) as f64);
        let noise = Array2::from_shape_simple_fn(shape, || numbers.below(101) as f64 - 50.0);
        let b = (&a + &noise).mapv(|v| v.clamp(0.0, 255.0));
        for (name, found) in [
            ("psnr", psnr(a.view(), b.view(), 255.0)),
            ("uniform", ssim(a.view(), b.view(), 255.0, Window::Uniform(7))),
            ("gaussian", ssim(a.view(), b.view(), 255.0, Window::Gaussian(1.5))),
        ] {
            assert!(same(found, &expected[name], 1e-9), "case {i}, {name}: {found:?}, expected {}", expected[name]);
        }
    }
}

/// Whether differences are tied or nothing, and few enough to be counted out.
fn tied(a: &[f64], b: &[f64]) -> bool {
    let mut apart: Vec<f64> = a.iter().zip(b).map(|(a, b)| (a - b).abs()).collect();
    apart.sort_by(f64::total_cmp);
    let some = apart.iter().filter(|d| **d > 0.0).count();
    some <= 50 && (some < apart.len() || apart.windows(2).any(|w| (w[0] - w[1]).abs() < 1e-12))
}

#[test]
fn samples_compare_as_in_numpy_and_scipy() {
    for (i, expected) in golden("samples").iter().enumerate() {
        let mut numbers = Numbers(20_000 + i as u64);
        let (n, m, features) = (2 + numbers.below(60), 2 + numbers.below(60), 1 + numbers.below(8));
        let mut draw = |rows: usize| Array2::from_shape_simple_fn((rows, features), || numbers.below(2001) as f64 / 500.0 - 2.0);
        let a = draw(n);
        let b = draw(m) * 1.5 + 0.25;
        let first = |x: &Array2<f64>| x.index_axis(Axis(1), 0).to_vec();
        let (a0, b0, pairs) = (first(&a), first(&b), n.min(m));
        let rounded = |x: &[f64]| x[..pairs].iter().map(|v| v.round_ties_even()).collect::<Vec<_>>();
        for (name, found) in [
            // The root of a covariance of few samples has the precision of a root of rounding errors: about 1e-8.
            #[cfg(feature = "fid")]
            ("fid", asyndgan_metrics::fid(a.view(), b.view())),
            #[cfg(feature = "fid")]
            ("kid", asyndgan_metrics::kid(a.view(), b.view())),
            ("wasserstein", wasserstein_1(&a0, &b0)),
            ("wilcoxon", wilcoxon(&a0[..pairs], &b0[..pairs])),
            ("wilcoxon_ties", wilcoxon(&rounded(&a0), &rounded(&b0))),
        ] {
            let tolerance = match name {
                "fid" => 1e-6,
                // SciPy approximates where there are ties from 14 pairs on; here they are counted out.
                "wilcoxon" if pairs > 13 && tied(&a0[..pairs], &b0[..pairs]) => 0.1,
                "wilcoxon_ties" if pairs > 13 && tied(&rounded(&a0), &rounded(&b0)) => 0.1,
                _ => 1e-9,
            };
            assert!(same(found, &expected[name], tolerance), "case {i}, {name}: {found:?}, expected {}", expected[name]);
        }
    }
}

#[test]
fn conventions_differ_where_they_should() {
    let (truth, prediction, spacing) = mask_case(0);
    let found = SurfaceDistances::new(truth.view(), prediction.view(), &spacing).expect("both mark something");
    let expected = &golden("masks")[0];
    let of = |profile| Convention::new(profile, "case");
    for (profile, name) in [(ConventionName::Medpy, "medpy"), (ConventionName::Standard, "monai")] {
        let hd95 = found.percentile(95.0, of(profile).percentiles);
        assert!(near(hd95, expected[name]["hd95"].as_f64().expect("a number"), 1e-6), "{name} {hd95}");
    }
    let nothing = ArrayD::from_elem(IxDyn(&[3]), false);
    let empty = Confusion::new(nothing.view(), nothing.view()).dice();
    let settled =
        [ConventionName::Standard, ConventionName::Paper, ConventionName::Monai, ConventionName::Medpy].map(|p| of(p).apply(empty).ok());
    assert_eq!(settled, [None, Some(0.0), None, Some(1.0)]);
}

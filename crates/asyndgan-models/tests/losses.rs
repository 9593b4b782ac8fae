//! Laws of the losses, for random logits.
#![allow(missing_docs, clippy::float_cmp, reason = "tests, which also compare exact values")]

use asyndgan_models::loss::{self, GanLoss};
use proptest::prelude::*;
use tch::{Kind, Reduction, Tensor};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cross_entropy_is_finite_bounded_in_gradient_and_symmetric(logits in proptest::collection::vec(-1e30_f32..1e30, 1..20), small in proptest::collection::vec(-30.0_f32..30.0, 1..20)) {
        for values in [logits, small] {
            for real in [true, false] {
                let logits = Tensor::from_slice(&values).set_requires_grad(true);
                let value = loss::adversarial(&logits, real);
                prop_assert!(value.double_value(&[]).is_finite());
                let gradient = Tensor::run_backward(&[&value], &[&logits], false, false).swap_remove(0) * values.len() as f64;
                prop_assert!(gradient.abs().max().double_value(&[]) <= 1.0 + 1e-6);
                let mirrored = loss::adversarial(&(-logits.detach()), !real);
                prop_assert!((mirrored.double_value(&[]) - value.double_value(&[])).abs() <= 1e-6 * value.double_value(&[]).abs().max(1.0));
            }
        }
    }

    #[test]
    fn every_game_is_finite_and_pulls_both_sides_the_right_way(real in proptest::collection::vec(-1e4_f32..1e4, 1..20), synthetic in proptest::collection::vec(-1e4_f32..1e4, 1..20)) {
        let tensor = |v: &[f32]| Tensor::from_slice(v).set_requires_grad(true);
        for gan_loss in [GanLoss::CrossEntropy, GanLoss::Minimax, GanLoss::Hinge, GanLoss::LeastSquares] {
            let (r, s) = (tensor(&real), tensor(&synthetic));
            let value = gan_loss.discriminator(&r, &s);
            prop_assert!(value.double_value(&[]).is_finite() && value.double_value(&[]) >= 0.0);
            let pull = Tensor::run_backward(&[&value], &[&r, &s], false, false);
            if gan_loss != GanLoss::LeastSquares {
                // Never towards taking real for synthetic; least squares also pulls back what went beyond its mark.
                prop_assert!(pull[0].max().double_value(&[]) <= 0.0 && pull[1].min().double_value(&[]) >= 0.0);
                // Neither side is favoured: mirrored and exchanged, the loss is the same.
                let mirrored = gan_loss.discriminator(&-s.detach(), &-r.detach()).double_value(&[]);
                prop_assert!((mirrored - value.double_value(&[])).abs() <= 1e-4 * mirrored.max(1.0));
            }
            let better = gan_loss.generator(&(s.detach() * 0.0 + 1.0), &s, &s, 0.0).double_value(&[]);
            let worse = gan_loss.generator(&(s.detach() * 0.0 - 1.0), &s, &s, 0.0).double_value(&[]);
            prop_assert!(better < worse);
        }
        // Beyond its margins the hinge wants nothing more.
        let satisfied = GanLoss::Hinge.discriminator(&(tensor(&real).abs() + 1.0), &(-tensor(&synthetic).abs() - 1.0));
        prop_assert_eq!(satisfied.double_value(&[]), 0.0);
    }

    #[test]
    fn the_game_of_segmentation_is_finite_whatever_the_logits(logits in proptest::collection::vec(-1e4_f32..1e4, 4 * 16)) {
        // Four classes of 16 pixels: real and synthetic, of two codes.
        let logits = Tensor::from_slice(&logits).view([1, 4, 4, 4]).set_requires_grad(true);
        let likelihoods = logits.log_softmax(1, Kind::Float);
        let says = likelihoods.index_select(1, &Tensor::from_slice(&[1_i64, 3]));
        for value in [GanLoss::Segmentation.discriminator(&says, &says), GanLoss::Segmentation.generator(&says, &says, &says, 0.0)] {
            let pull = Tensor::run_backward(&[&value], &[&logits], true, false).swap_remove(0);
            prop_assert!(value.double_value(&[]).is_finite());
            // A mean over 16 pixels: each pulls by no more than its share.
            prop_assert!(pull.abs().max().double_value(&[]) <= 1.0 / 16.0 + 1e-6);
        }
        prop_assert!(GanLoss::Segmentation.discriminator(&says, &says).double_value(&[]) >= 0.0);
    }

    #[test]
    fn the_l1_term_pulls_towards_the_real_image(pixels in proptest::collection::vec((-1_f32..1.0, -1_f32..1.0), 6), weight in 0.5..200.0) {
        let (synthetic, real): (Vec<f32>, Vec<f32>) = pixels.into_iter().unzip();
        let logits = Tensor::zeros([1, 1, 2, 3], (Kind::Float, tch::Device::Cpu));
        let image = Tensor::from_slice(&synthetic).view([1, 1, 2, 3]).set_requires_grad(true);
        let target = Tensor::from_slice(&real).view([1, 1, 2, 3]);
        let with = GanLoss::CrossEntropy.generator(&logits, &image, &target, weight);
        let without = GanLoss::CrossEntropy.generator(&logits, &image, &target, 0.0);
        let mean: f64 = synthetic.iter().zip(&real).map(|(s, r)| f64::from((s - r).abs())).sum::<f64>() / 6.0;
        prop_assert!((with.double_value(&[]) - without.double_value(&[]) - weight * mean).abs() < 1e-4 * weight);
        let pull = Tensor::run_backward(&[&with], &[&image], false, false).swap_remove(0);
        for (i, (s, r)) in synthetic.iter().zip(&real).enumerate().filter(|(_, (s, r))| (*s - *r).abs() > 1e-6) {
            let at = pull.view(-1).double_value(&[i as i64]);
            prop_assert!((at - weight / 6.0 * f64::from((s - r).signum())).abs() < 1e-5 * weight, "{at}");
        }
    }

    #[test]
    fn an_unmarked_pixel_is_any_of_the_possible_classes(values in proptest::collection::vec(-5_f32..5.0, 4 * 12), targets in proptest::collection::vec(0_i64..4, 12)) {
        // Class 3 is not marked: its pixels and those of background are one class. Pixels of class 3 in `targets` are
        // not annotated.
        let logits = Tensor::from_slice(&values).view([1, 4, 1, 12]).set_requires_grad(true);
        let marked: Vec<i64> = targets.iter().map(|&t| match t { 0 => loss::UNMARKED, 3 => loss::NOT_ANNOTATED, t => t }).collect();
        let possible = Tensor::from_slice(&[true, false, false, true]).view([1, 4]);
        let value = loss::segmentation(&logits, &Tensor::from_slice(&marked).view([1, 1, 12]), Some(&possible));
        // The same with the two classes merged beforehand.
        let merged = logits.index_select(1, &Tensor::from_slice(&[0_i64, 3])).logsumexp([1].as_slice(), true);
        let merged = Tensor::cat(&[merged, logits.narrow(1, 1, 2)], 1);
        let of_merged: Vec<i64> = targets.iter().map(|&t| if t == 3 { loss::NOT_ANNOTATED } else { t }).collect();
        let whole = loss::segmentation(&merged, &Tensor::from_slice(&of_merged).view([1, 1, 12]), None).double_value(&[]);
        // Dice is a mean over three classes instead of two; that of class 3 counts marked pixels of other classes only.
        let elsewhere = Tensor::from_slice(&targets.iter().map(|&t| f32::from(u8::from(t == 1 || t == 2))).collect::<Vec<_>>());
        let third = (logits.softmax(1, Kind::Float).select(1, 3).view(-1) * elsewhere).sum(Kind::Float).double_value(&[]);
        let counted = targets.iter().filter(|&&t| t != 3).count();
        let dice = |value: f64, cross_entropy: f64| 1.0 - (value - cross_entropy);
        let entropy = if counted == 0 { 0.0 } else {
            merged.cross_entropy_loss::<Tensor>(&Tensor::from_slice(&of_merged).view([1, 1, 12]), None, Reduction::Mean, loss::NOT_ANNOTATED, 0.0).double_value(&[])
        };
        let expected = entropy + 1.0 - (2.0 * dice(whole, entropy) + 1.0 / (third + 1.0)) / 3.0;
        prop_assert!((value.double_value(&[]) - expected).abs() < 1e-4, "{} and {expected}", value.double_value(&[]));
        let pull = Tensor::run_backward(&[&value], &[&logits], true, false).swap_remove(0);
        prop_assert!(pull.isfinite().all().int64_value(&[]) == 1);
        // Where it is not known what is possible, unmarked pixels do not count.
        let unknown = Tensor::from_slice(&[false; 4]).view([1, 4]);
        let ignored: Vec<i64> = marked.iter().map(|&t| if t == loss::UNMARKED { loss::NOT_ANNOTATED } else { t }).collect();
        let without = loss::segmentation(&logits, &Tensor::from_slice(&ignored).view([1, 1, 12]), None);
        for possible in [Some(&unknown), None] {
            let value = loss::segmentation(&logits, &Tensor::from_slice(&marked).view([1, 1, 12]), possible);
            prop_assert!((value.double_value(&[]) - without.double_value(&[])).abs() < 1e-5);
        }
    }

    #[test]
    fn pixels_that_are_not_annotated_do_not_count(values in proptest::collection::vec(-5_f32..5.0, 3 * 12), targets in proptest::collection::vec(0_i64..4, 12)) {
        // Class 3 stands for pixels without annotation.
        let annotated: Vec<i64> = (0..12).filter(|&i| targets[i as usize] < 3).collect();
        let logits = Tensor::from_slice(&values).view([1, 3, 1, 12]).set_requires_grad(true);
        let marked: Vec<i64> = targets.iter().map(|&t| if t == 3 { loss::NOT_ANNOTATED } else { t }).collect();
        let value = loss::segmentation(&logits, &Tensor::from_slice(&marked).view([1, 1, 12]), None);
        let pull = Tensor::run_backward(&[&value], &[&logits], true, false).swap_remove(0);
        let elsewhere: Vec<i64> = (0..12).filter(|i| !annotated.contains(i)).collect();
        if !elsewhere.is_empty() {
            prop_assert_eq!(pull.index_select(3, &Tensor::from_slice(&elsewhere)).abs().max().double_value(&[]), 0.0);
        }
        prop_assert!(value.double_value(&[]).is_finite());
        if !annotated.is_empty() {
            let alone = logits.index_select(3, &Tensor::from_slice(&annotated));
            let of: Vec<i64> = annotated.iter().map(|&i| targets[i as usize]).collect();
            let expected = loss::segmentation(&alone, &Tensor::from_slice(&of).view([1, 1, -1]), None);
            prop_assert!((value.double_value(&[]) - expected.double_value(&[])).abs() < 1e-5);
        }
    }

    #[test]
    fn the_best_discriminator_has_the_value_of_the_divergence(p in proptest::collection::vec(0.01..1.0_f64, 2..6), q in proptest::collection::vec(0.01..1.0_f64, 6), weights in proptest::collection::vec(0.05..1.0_f64, 3)) {
        // On finitely many points, with D_j = p_j / (p_j + q): the value is sum_j pi_j 2 JSD(p_j || q) - log 4, never
        // below -log 4.
        let normal = |v: &[f64]| { let s: f64 = v.iter().sum(); v.iter().map(|x| x / s).collect::<Vec<_>>() };
        let n = p.len();
        let q = normal(&q[..n]);
        let sites: Vec<Vec<f64>> = (0..3).map(|j| { let mut r = p.clone(); r.rotate_left(j % n); normal(&r) }).collect();
        let pi = normal(&weights);
        let (mut value, mut divergence) = (0.0, 0.0);
        for (p, pi) in sites.iter().zip(&pi) {
            // The loss code's own value of the best discriminator, expectation by expectation.
            let expect = |logit: f64, real: bool| loss::adversarial(&Tensor::from_slice(&[logit]), real).double_value(&[]);
            for (p, q) in p.iter().zip(&q) {
                let logit = (p / q).ln();
                value -= pi * (p * expect(logit, true) + q * expect(logit, false));
                let m = f64::midpoint(*p, *q);
                divergence += pi * (p * (p / m).ln() + q * (q / m).ln());
            }
        }
        let floor = -(4.0_f64.ln());
        prop_assert!((value - (divergence + floor)).abs() < 1e-6, "{value} {divergence}");
        prop_assert!(value >= floor - 1e-6);
    }
}

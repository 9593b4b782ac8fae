//! The paper's claims and our own, compared with a run's scores.

use std::collections::BTreeMap;

use asyndgan_metrics::{Undefined, bootstrap_difference, holm, wilcoxon};
use asyndgan_paper::{Arm, Claim, Comparison, Run, Verdict};
use asyndgan_protocol::{Role, stream};

/// The value of one metric per arm and held-out case, averaged over seeds; `None` if it is undefined under any seed. In
/// the per-slice table a case's value is the mean over its slices with a value, which may be different slices for two
/// arms.
pub(crate) type Values = BTreeMap<Arm, Vec<Option<f64>>>;

/// The largest difference that counts as about the same, in Dice.
const MARGIN: f64 = 0.02;
/// With fewer cases, differences of one sign have p > 0.05, and the bootstrap interval is that of the extreme cases.
const CASES_MIN: usize = 6;
/// The level of a p-value.
const SIGNIFICANT: f64 = 0.05;
const RESAMPLES: usize = 10_000;

/// The claims of a table by Dice: the three of the paper, that synthetic images help every hospital, and the comparison
/// with federated averaging. For the toy's figure, three claims by Wasserstein-1 distance.
///
/// `by_metric` has a value per held-out case; for the toy, which has no cases, per seed. A claim is not measurable if
/// it is about an arm of `all` that was not computed.
pub(crate) fn claims(run: &Run, by_metric: &BTreeMap<String, Values>, all: &[Arm]) -> Vec<Claim> {
    let values = &by_metric[&run.columns()[0].name];
    let others = |among: fn(&Arm) -> bool| all.iter().copied().filter(among).collect::<Vec<Arm>>();
    if run.task().is_none() {
        let subsets = others(|arm| matches!(arm, Arm::SynSubset(_)));
        let distances = |arm| values.get(&arm).map_or(&[][..], Vec::as_slice);
        let ratios = |arm, others: &[Arm], holds: fn(f64) -> bool| {
            others.iter().map(|&other| by_seed(arm, other, distances(arm), distances(other), |a, b| holds(a / b))).collect()
        };
        let overlapping = Arm::AsynDganOverlap;
        let to_barycentre = by_metric["wasserstein_1_predicted"].get(&overlapping).map_or(&[][..], Vec::as_slice);
        return vec![
            toy("AsynDgan's distance at most 1.2 x SynAll's", ratios(Arm::AsynDgan, &[Arm::SynAll], |ratio| ratio <= 1.2)),
            toy("every SynSubset's distance at least 3 x AsynDgan's", ratios(Arm::AsynDgan, &subsets, |ratio| ratio <= 1.0 / 3.0)),
            toy(
                "overlapping conditions: nearer to the barycentre",
                vec![by_seed(overlapping, overlapping, to_barycentre, distances(overlapping), |barycentre, mixture| barycentre < mixture)],
            ),
        ];
    }
    let own = others(|arm| matches!(arm, Arm::OwnPlusSyn(_)));
    let is_of_paper = |arm: &Arm| *arm != Arm::RealAll && arm.is_of_paper();
    let mut claims = vec![
        above("RealAll above every other arm of the paper", values, Arm::RealAll, &others(is_of_paper)),
        above("AsynDgan above every RealSubset", values, Arm::AsynDgan, &others(|arm| matches!(arm, Arm::RealSubset(_)))),
        about_the_same(format!("AsynDgan within {MARGIN} Dice of SynAll"), values, Arm::AsynDgan, Arm::SynAll),
    ];
    if !own.is_empty() {
        claims.push(each_above("every OwnPlusSyn-n above RealSubset-n", values, &own));
    }
    if all.contains(&Arm::FedAvg) {
        claims.push(not_below(format!("AsynDgan at most {MARGIN} Dice below FedAvg"), values, &[Arm::AsynDgan], Arm::FedAvg));
        claims.push(not_below(format!("every OwnPlusSyn-n at most {MARGIN} Dice below FedAvg"), values, &own, Arm::FedAvg));
    }
    claims
}

/// No arm of some is below another by more than the margin.
fn not_below(claim: String, values: &Values, arms: &[Arm], other: Arm) -> Claim {
    let pairs: Vec<(Arm, Arm)> = arms.iter().map(|arm| (*arm, other)).collect();
    let verdict = |[low, high]: [f64; 2]| verdict(low > -MARGIN, high < -MARGIN);
    judged(claim, compare_pairs(values, &pairs, |_| -MARGIN), arms.len(), verdict, |c| c.difference)
}

/// The segmenter of each site is better with synthetic images in addition to the site's own.
fn each_above(claim: &str, values: &Values, arms: &[Arm]) -> Claim {
    let own = |arm: &Arm| if let Arm::OwnPlusSyn(site) = arm { Arm::RealSubset(*site) } else { Arm::RealAll };
    let pairs: Vec<(Arm, Arm)> = arms.iter().map(|arm| (*arm, own(arm))).collect();
    let verdict = |[low, high]: [f64; 2]| verdict(low > 0.0, high < 0.0);
    judged(claim.to_owned(), compare_pairs(values, &pairs, |_| 0.0), arms.len(), verdict, |c| c.difference)
}

/// An arm is above each of some others.
fn above(claim: &str, values: &Values, arm: Arm, others: &[Arm]) -> Claim {
    let verdict = |[low, high]: [f64; 2]| verdict(low > 0.0, high < 0.0);
    let pairs: Vec<(Arm, Arm)> = others.iter().map(|&other| (arm, other)).collect();
    judged(claim.to_owned(), compare_pairs(values, &pairs, |_| 0.0), others.len(), verdict, |c| c.difference)
}

/// An arm is neither better nor worse than another by more than the margin.
fn about_the_same(claim: String, values: &Values, arm: Arm, other: Arm) -> Claim {
    let verdict = |[low, high]: [f64; 2]| verdict(-MARGIN < low && high < MARGIN, low > MARGIN || high < -MARGIN);
    let comparison = compare_pairs(values, &[(arm, other)], |difference| MARGIN.copysign(difference));
    judged(claim, comparison, 1, verdict, |c| -c.difference.abs())
}

fn verdict(supported: bool, excluded: bool) -> Verdict {
    match (supported, excluded) {
        (true, _) => Verdict::Shown,
        (false, true) => Verdict::Contradicted,
        (false, false) => Verdict::NotShown,
    }
}

/// The claim with the joint verdict of its comparisons. First come those that contradict it, then those that do not
/// show it, and among these the one that supports it least.
fn judged(
    claim: String,
    mut compared: Vec<Compared>,
    wanted: usize,
    of_interval: impl Fn([f64; 2]) -> Verdict,
    support: impl Fn(&Comparison) -> f64,
) -> Claim {
    let is_significant = |p: Option<f64>| p.is_some_and(|p| p < SIGNIFICANT);
    let of_comparison = |c: &Compared| match c.comparison.interval.filter(|_| c.comparison.n >= CASES_MIN).map(&of_interval) {
        // Of many comparisons, some intervals exclude the truth by chance.
        Some(Verdict::Contradicted) if !is_significant(c.comparison.p) => Verdict::NotShown,
        // All comparisons must agree, so the p-value of each is enough. With few cases, the interval is too narrow.
        Some(Verdict::Shown) if !is_significant(c.p_alone) => Verdict::NotShown,
        Some(verdict) => verdict,
        None => Verdict::NotMeasurable,
    };
    let verdicts: Vec<Verdict> = compared.iter().map(of_comparison).collect();
    let is_measurable = compared.len() == wanted && wanted > 0 && !verdicts.contains(&Verdict::NotMeasurable);
    let rank = |c: &Compared| match of_comparison(c) {
        Verdict::Contradicted => 0,
        Verdict::NotShown | Verdict::NotMeasurable => 1,
        Verdict::Shown => 2,
    };
    compared.sort_by(|a, b| rank(a).cmp(&rank(b)).then(support(&a.comparison).total_cmp(&support(&b.comparison))));
    let comparisons = compared.into_iter().map(|c| c.comparison).collect();
    Claim { claim, verdict: if is_measurable { together(&verdicts) } else { Verdict::NotMeasurable }, comparisons }
}

/// Shown if all comparisons are, contradicted if one is.
fn together(verdicts: &[Verdict]) -> Verdict {
    verdict(verdicts.iter().all(|v| *v == Verdict::Shown), verdicts.contains(&Verdict::Contradicted))
}

/// A comparison, and its p-value without correction.
struct Compared {
    comparison: Comparison,
    p_alone: Option<f64>,
}

/// Compares the arms of each pair, over the cases that have a value in both. `limit` returns the difference that the
/// p-value tests against, for a mean difference.
fn compare_pairs(values: &Values, pairs: &[(Arm, Arm)], limit: impl Fn(f64) -> f64) -> Vec<Compared> {
    let of_pair = |&(arm, other): &(Arm, Arm)| {
        let (of_arm, of_other) = (values.get(&arm)?, values.get(&other)?);
        let (a, b): (Vec<f64>, Vec<f64>) = of_arm.iter().zip(of_other).filter_map(|(a, b)| Some(((*a)?, (*b)?))).unzip();
        let (difference, interval) = bootstrap_difference(&a, &b, RESAMPLES, &mut stream(0, Role::Bootstrap, 0, 0)).ok()?;
        let interval = (a.len() > 1).then_some([interval.low, interval.high]);
        let limit = limit(difference);
        let shifted: Vec<f64> = a.iter().map(|value| value - limit).collect();
        let p = match wilcoxon(&shifted, &b) {
            // No difference is no evidence, and counts as a comparison.
            Err(Undefined::Identical) => Some(1.0),
            p => p.ok(),
        };
        Some(Compared { comparison: Comparison { arm, other, difference, interval, n: a.len(), p }, p_alone: p })
    };
    let mut compared: Vec<Compared> = pairs.iter().filter_map(of_pair).collect();
    let corrected = holm(&compared.iter().filter_map(|c| c.p_alone).collect::<Vec<f64>>());
    for (one, p) in compared.iter_mut().filter(|c| c.p_alone.is_some()).zip(corrected) {
        one.comparison.p = Some(p);
    }
    compared
}

/// A comparison of the toy, and whether it holds under each seed.
fn by_seed(arm: Arm, other: Arm, a: &[Option<f64>], b: &[Option<f64>], holds: impl Fn(f64, f64) -> bool) -> (Comparison, Vec<bool>) {
    let pairs: Vec<(f64, f64)> = a.iter().zip(b).filter_map(|(a, b)| Some(((*a)?, (*b)?))).collect();
    let difference = pairs.iter().map(|(a, b)| a - b).sum::<f64>() / pairs.len().max(1) as f64;
    let comparison = Comparison { arm, other, difference, interval: None, n: pairs.len(), p: None };
    (comparison, pairs.into_iter().map(|(a, b)| holds(a, b)).collect())
}

/// A claim of the toy: shown if it holds under every seed, contradicted if one comparison holds under none.
fn toy(claim: &str, compared: Vec<(Comparison, Vec<bool>)>) -> Claim {
    let measurable = !compared.is_empty() && compared.iter().all(|(_, seeds)| !seeds.is_empty());
    let of_seeds = |seeds: &Vec<bool>| verdict(seeds.iter().all(|holds| *holds), seeds.iter().all(|holds| !*holds));
    let verdicts: Vec<Verdict> = compared.iter().map(|(_, seeds)| of_seeds(seeds)).collect();
    let mut comparisons: Vec<Comparison> = compared.into_iter().map(|(comparison, _)| comparison).collect();
    // Distances: the larger the difference, the less it supports the claim.
    comparisons.sort_by(|a, b| b.difference.total_cmp(&a.difference));
    Claim { claim: claim.to_owned(), verdict: if measurable { together(&verdicts) } else { Verdict::NotMeasurable }, comparisons }
}

#[cfg(test)]
mod tests {
    use Verdict::{Contradicted, NotMeasurable, NotShown, Shown};

    use asyndgan_paper::{Experiment, Profile, Settings};

    use super::*;

    /// Four cases with each of three values.
    fn values(rows: &[(Arm, [f64; 3])]) -> Values {
        rows.iter().map(|(arm, v)| (*arm, v.iter().cycle().take(12).copied().map(Some).collect())).collect()
    }

    fn verdicts(claims: &[Claim]) -> Vec<Verdict> {
        claims.iter().map(|c| c.verdict).collect()
    }

    fn run(experiment: Experiment) -> Run {
        Run::phantoms(experiment, Profile::Smoke, Settings::new(experiment, Profile::Smoke))
    }

    fn of_table(rows: &[(Arm, [f64; 3])]) -> Vec<Claim> {
        claims(&run(Experiment::Table2), &[("dice".to_owned(), values(rows))].into(), &Experiment::Table2.arms(1))
    }

    const ROWS: [(Arm, [f64; 3]); 6] = [
        (Arm::RealAll, [0.9, 0.8, 0.9]),
        (Arm::RealSubset(1), [0.7, 0.6, 0.7]),
        (Arm::SynAll, [0.8, 0.7, 0.8]),
        (Arm::AsynDgan, [0.8, 0.7, 0.79]),
        (Arm::OwnPlusSyn(1), [0.95, 0.8, 0.9]),
        (Arm::FedAvg, [0.79, 0.71, 0.8]),
    ];

    #[test]
    fn a_verdict_follows_the_interval() {
        assert_eq!(verdicts(&of_table(&ROWS)), [Shown; 6]);
        let worse = [
            (Arm::RealAll, [0.5; 3]),
            (Arm::RealSubset(1), [0.7; 3]),
            (Arm::SynAll, [0.8; 3]),
            (Arm::AsynDgan, [0.6; 3]),
            (Arm::OwnPlusSyn(1), [0.6; 3]),
            (Arm::FedAvg, [0.63; 3]),
        ];
        assert_eq!(verdicts(&of_table(&worse)), [Contradicted; 6]);
        // The mean is above, but not in every case.
        let unsure = [
            (Arm::RealAll, [0.9, 0.8, 0.9]),
            (Arm::RealSubset(1), [0.7; 3]),
            (Arm::SynAll, [0.75; 3]),
            (Arm::AsynDgan, [0.66, 0.79, 0.69]),
        ];
        assert_eq!(verdicts(&of_table(&unsure))[..3], [Shown, NotShown, NotShown]);
        assert_eq!(verdicts(&of_table(&unsure))[3..], [NotMeasurable; 3]);
    }

    #[test]
    fn every_other_arm_is_compared_with_and_the_nearest_comes_first() {
        let compared = &of_table(&ROWS)[0].comparisons;
        assert_eq!(compared.iter().map(|c| c.other).collect::<Vec<_>>(), [Arm::SynAll, Arm::AsynDgan, Arm::RealSubset(1)]);
        assert!(compared.windows(2).all(|pair| pair[0].difference <= pair[1].difference));
        assert!(compared.iter().all(|c| c.n == 12 && c.p.is_some_and(|p| p < 0.05)), "{compared:?}");
    }

    #[test]
    fn what_decides_comes_first_and_few_cases_decide_nothing() {
        let all: Vec<f64> = (0..8).map(f64::from).collect();
        let cases = |of: fn(f64) -> f64, count: usize| all.iter().take(count).map(|&k| Some(of(k))).collect::<Vec<_>>();
        // Below the first in the mean, but not always; below the second a little, and always.
        let rows = |count| -> Values {
            [
                (Arm::AsynDgan, cases(|_| 0.5, count)),
                (Arm::RealSubset(1), cases(|k| 0.55 + 0.1 * (k - 3.5), count)),
                (Arm::RealSubset(2), cases(|k| 0.51 + 0.001 * k, count)),
            ]
            .into()
        };
        let subsets = [Arm::RealSubset(1), Arm::RealSubset(2)];
        let claim = above("", &rows(8), Arm::AsynDgan, &subsets);
        assert_eq!((claim.verdict, claim.comparisons[0].other), (Contradicted, Arm::RealSubset(2)));
        assert_eq!(above("", &rows(5), Arm::AsynDgan, &subsets).verdict, NotMeasurable);
        let same = above("", &[(Arm::AsynDgan, cases(|_| 0.5, 8)), (Arm::SynAll, cases(|_| 0.5, 8))].into(), Arm::AsynDgan, &[Arm::SynAll]);
        assert_eq!((same.verdict, same.comparisons[0].p), (NotShown, Some(1.0)));
    }

    #[test]
    fn an_interval_of_few_cases_is_not_enough_without_a_p_value() {
        // Five of six differences are positive, and the negative one is not the smallest: the interval excludes 0.
        let above_zero = |differences: [f64; 6]| {
            let rows = [(Arm::AsynDgan, differences), (Arm::RealSubset(1), [0.0; 6])];
            let rows: Values = rows.iter().map(|(arm, v)| (*arm, v.iter().copied().map(Some).collect())).collect();
            let claim = above("", &rows, Arm::AsynDgan, &[Arm::RealSubset(1)]);
            (claim.verdict, claim.comparisons[0].interval.expect("an interval")[0] > 0.0)
        };
        assert_eq!(above_zero([0.3, 0.31, 0.29, 0.3, -0.01, 0.32]), (NotShown, true));
        assert_eq!(above_zero([0.3, 0.31, 0.29, 0.3, 0.01, 0.32]), (Shown, true));
    }

    #[test]
    fn a_claim_about_rows_that_were_left_out_is_not_measurable() {
        let without = |left_out: &[usize]| {
            let rows: Vec<_> = (0..ROWS.len()).filter(|k| !left_out.contains(k)).map(|k| ROWS[k]).collect();
            verdicts(&of_table(&rows))
        };
        let no = NotMeasurable;
        assert_eq!(without(&[1, 4]), [no, no, Shown, no, Shown, no]);
        assert_eq!(without(&[2]), [no, Shown, no, Shown, Shown, Shown]);
        assert_eq!(without(&[5]), [Shown, Shown, Shown, Shown, no, no]);
    }

    #[test]
    fn a_claim_without_values_or_with_a_single_case_is_not_measurable() {
        let all = Experiment::Table1.arms(1);
        for of_cases in [vec![None], vec![Some(0.5)], Vec::new()] {
            let same: Values = all.iter().map(|&arm| (arm, of_cases.clone())).collect();
            assert_eq!(verdicts(&claims(&run(Experiment::Table1), &[("dice".to_owned(), same)].into(), &all)), [NotMeasurable; 6]);
        }
    }

    #[test]
    fn the_toys_claims_are_judged_over_seeds() {
        let all = Experiment::Fig5.arms(1);
        let toy = |seeds: &[([f64; 4], f64)]| {
            let to_mixture: Values =
                all.iter().enumerate().map(|(i, &arm)| (arm, seeds.iter().map(|(distances, _)| Some(distances[i])).collect())).collect();
            let mut predicted = to_mixture.clone();
            predicted.insert(Arm::AsynDganOverlap, seeds.iter().map(|(_, overlap)| Some(*overlap)).collect());
            let by_metric = [("wasserstein_1".to_owned(), to_mixture), ("wasserstein_1_predicted".to_owned(), predicted)].into();
            verdicts(&claims(&run(Experiment::Fig5), &by_metric, &all))
        };
        // In the order of the arms: SynAll, SynSubset-1, AsynDgan, and the overlapping one.
        let (good, bad) = (([0.03, 2.0, 0.03, 0.3], 0.1), ([0.03, 0.1, 0.05, 0.1], 0.3));
        assert_eq!(toy(&[good, good]), [Shown; 3]);
        assert_eq!(toy(&[bad, bad]), [Contradicted; 3]);
        assert_eq!(toy(&[good, bad]), [NotShown; 3]);
        assert_eq!(toy(&[]), [NotMeasurable; 3]);
    }
}

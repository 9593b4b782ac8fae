//! The paper's claims, held against a run's scores.

use std::collections::BTreeMap;

use asyndgan_metrics::bootstrap_difference;
use asyndgan_paper::{Arm, Claim, Experiment};
use asyndgan_protocol::{Role, stream};

/// Every held-out case's value of one metric by arm, averaged over seeds; none where undefined under some seed. Per slice a case's value is
/// the mean over its slices that have one, which for two arms may be other slices.
pub(crate) type Values = BTreeMap<Arm, Vec<Option<f64>>>;

/// How far from `SynAll` still counts as about the same, in Dice.
const ABOUT: f64 = 0.02;
const RESAMPLES: usize = 10_000;

/// The three claims of a table by Dice; the two that the toy's figure makes by Wasserstein-1 distance.
///
/// A claim about all rows of the table is not measurable while some of them, `all`, were not computed.
pub(crate) fn claims(experiment: Experiment, by_metric: &BTreeMap<&str, Values>, all: &[Arm]) -> Vec<Claim> {
    let values = &by_metric[experiment.metrics()[0].0];
    let complete = |among: fn(&Arm) -> bool| all.iter().filter(|arm| among(arm)).all(|arm| values.contains_key(arm));
    let highest = |among: fn(&Arm) -> bool, sign: f64| {
        let means = values.keys().filter(|a| among(a)).filter_map(|&a| Some((a, sign * mean(values, a)?)));
        means.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(arm, _)| arm)
    };
    let best = |among: fn(&Arm) -> bool| highest(among, 1.0).filter(|_| complete(among));
    if experiment == Experiment::Fig5 {
        let subsets: fn(&Arm) -> bool = |a| matches!(a, Arm::SynSubset(_));
        let nearest = highest(subsets, -1.0).filter(|_| complete(subsets));
        return vec![
            ratio("AsynDgan's distance at most 1.2 x SynAll's", values, Arm::AsynDgan, Some(Arm::SynAll), |r| r <= 1.2),
            ratio("every SynSubset's distance at least 3 x AsynDgan's", values, Arm::AsynDgan, nearest, |r| r <= 1.0 / 3.0),
            overlap(values, &by_metric["wasserstein_1_predicted"]),
        ];
    }
    let other = best(|a| *a != Arm::RealAll);
    let subset = best(|a| matches!(a, Arm::RealSubset(_)));
    let named = |what: &str, arm: Option<Arm>| arm.map_or_else(|| what.to_owned(), |a| format!("{what} (the best: {a})"));
    vec![
        difference(named("RealAll best of all arms", other), values, Arm::RealAll, other, |d| d > 0.0),
        difference(named("AsynDgan above every RealSubset", subset), values, Arm::AsynDgan, subset, |d| d > 0.0),
        difference(format!("AsynDgan within {ABOUT} Dice of SynAll"), values, Arm::AsynDgan, Some(Arm::SynAll), |d| d.abs() <= ABOUT),
    ]
}

/// Of sites with the same conditions and different data the generator learns the barycentre, not the mixture.
fn overlap(to_mixture: &Values, to_barycentre: &Values) -> Claim {
    let distances = mean(to_barycentre, Arm::AsynDganOverlap).zip(mean(to_mixture, Arm::AsynDganOverlap));
    let difference = distances.map(|(barycentre, mixture)| barycentre - mixture);
    let claim = "where conditions overlap, nearer to the barycentre than to the mixture".to_owned();
    Claim { claim, holds: difference.map(|d| d < 0.0), difference, interval: None }
}

/// Mean of an arm's defined values, if it has any.
fn mean(values: &Values, arm: Arm) -> Option<f64> {
    let defined: Vec<f64> = values.get(&arm)?.iter().copied().flatten().collect();
    (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
}

fn difference(claim: String, values: &Values, arm: Arm, other: Option<Arm>, holds: impl Fn(f64) -> bool) -> Claim {
    let pairs: Vec<(f64, f64)> = match (values.get(&arm), other.and_then(|o| values.get(&o))) {
        (Some(a), Some(b)) => a.iter().zip(b).filter_map(|(a, b)| Some(((*a)?, (*b)?))).collect(),
        _ => Vec::new(),
    };
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    let found = bootstrap_difference(&a, &b, RESAMPLES, &mut stream(0, Role::Bootstrap, 0, 0)).ok();
    Claim {
        claim,
        holds: found.map(|(d, _)| holds(d)),
        difference: found.map(|(d, _)| d),
        interval: found.filter(|_| a.len() > 1).map(|(_, i)| [i.low, i.high]),
    }
}

fn ratio(claim: &str, values: &Values, arm: Arm, other: Option<Arm>, holds: impl Fn(f64) -> bool) -> Claim {
    let difference = difference(claim.into(), values, arm, other, |_| true);
    let ratio = mean(values, arm).zip(other.and_then(|other| mean(values, other))).map(|(a, b)| a / b);
    Claim { holds: ratio.map(holds), ..difference }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(rows: &[(Arm, [f64; 3])]) -> Values {
        rows.iter().map(|(arm, v)| (*arm, v.iter().copied().map(Some).collect())).collect()
    }

    fn held(rows: &[(Arm, [f64; 3])]) -> Vec<Option<bool>> {
        let all = Experiment::Table2.arms(1);
        claims(Experiment::Table2, &[("dice", values(rows))].into(), &all).iter().map(|c| c.holds).collect()
    }

    const ROWS: [(Arm, [f64; 3]); 4] = [
        (Arm::RealAll, [0.9, 0.8, 0.9]),
        (Arm::RealSubset(1), [0.7, 0.6, 0.7]),
        (Arm::SynAll, [0.8, 0.7, 0.8]),
        (Arm::AsynDgan, [0.8, 0.7, 0.79]),
    ];

    #[test]
    fn claims_can_fail() {
        assert_eq!(held(&ROWS), [Some(true); 3]);
        let worse = [(Arm::RealAll, [0.5; 3]), (Arm::RealSubset(1), [0.7; 3]), (Arm::SynAll, [0.8; 3]), (Arm::AsynDgan, [0.6; 3])];
        assert_eq!(held(&worse), [Some(false); 3]);
    }

    #[test]
    fn a_claim_about_rows_that_were_left_out_is_not_measurable() {
        assert_eq!(held(&[ROWS[0], ROWS[2], ROWS[3]]), [None, None, Some(true)]);
        assert_eq!(held(&[ROWS[0], ROWS[1], ROWS[3]]), [None, Some(true), None]);
    }

    #[test]
    fn a_claim_without_values_is_not_measurable() {
        let all = Experiment::Table1.arms(1);
        let none: Values = all.iter().map(|&arm| (arm, vec![None])).collect();
        assert!(claims(Experiment::Table1, &[("dice", none)].into(), &all).iter().all(|c| c.holds.is_none()));
    }

    #[test]
    fn the_toys_claims_can_fail() {
        let all = Experiment::Fig5.arms(1);
        let toy = |distances: [f64; 4], overlap_predicted: f64| {
            let to_mixture: Values = all.iter().copied().zip(distances.map(|d| vec![Some(d)])).collect();
            let mut predicted = to_mixture.clone();
            predicted.insert(Arm::AsynDganOverlap, vec![Some(overlap_predicted)]);
            let by_metric = [("wasserstein_1", to_mixture), ("wasserstein_1_predicted", predicted)].into();
            claims(Experiment::Fig5, &by_metric, &all).iter().map(|c| c.holds).collect::<Vec<_>>()
        };
        // In the order of the arms: SynAll, SynSubset-1, AsynDgan, and the overlapping one.
        assert_eq!(toy([0.03, 2.0, 0.03, 0.3], 0.1), [Some(true); 3]);
        assert_eq!(toy([0.03, 0.1, 0.05, 0.1], 0.3), [Some(false); 3]);
    }
}

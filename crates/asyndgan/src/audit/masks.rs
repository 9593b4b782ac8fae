//! What masks give away that leave a site: as they are, deformed, or recombined.

use std::collections::BTreeSet;

use anyhow::Result;
use asyndgan_paper::MembershipRecord;
use asyndgan_privacy::MembershipTest;
use asyndgan_protocol::{ConditionPolicy, Role, stream};
use asyndgan_task::Task;
use ndarray::Array2;

use super::{subjects::Subject, tested};
use crate::recombine::released;

/// What is done to masks.
const WAYS: [(&str, ConditionPolicy); 3] = [
    ("as they are", ConditionPolicy::All),
    ("deformed", ConditionPolicy::Deformed),
    ("recombined and deformed", ConditionPolicy::Recombined),
];

/// The attacker has all masks that left the sites, and a patient's masks, and looks for the most similar one.
pub(crate) fn masks(task: &Task, members: &[Subject], others: &[Subject], seed: u64) -> Result<Vec<MembershipRecord>> {
    let sites: BTreeSet<Option<u32>> = members.iter().map(|s| s.site).collect();
    let mut shared = [Vec::new(), Vec::new(), Vec::new()];
    for (number, &site) in (0..).zip(&sites) {
        let patients: Vec<(String, &Subject)> =
            members.iter().enumerate().filter(|(_, s)| s.site == site).map(|(k, s)| (k.to_string(), s)).collect();
        let own: Vec<Array2<u8>> = patients.iter().flat_map(|(_, s)| s.cases.iter().map(|case| case.condition.clone())).collect();
        let names: Vec<&str> = patients.iter().flat_map(|(name, s)| s.cases.iter().map(move |_| name.as_str())).collect();
        let mut rng = stream(seed, Role::Recombination, number, 1);
        for (way, masks) in WAYS.iter().zip(&mut shared) {
            // A site with a single patient cannot recombine, and so takes no part.
            if way.1 != ConditionPolicy::Recombined || patients.len() > 1 {
                masks.extend(released(way.1, task, &own, &names, &mut rng)?);
            }
        }
    }
    let ways = WAYS.iter().map(|way| way.0).zip(shared);
    let record = |(way, shared): (&str, Vec<Array2<u8>>)| {
        let test = search(members, others, &shared)?;
        Some(tested(format!("masks that leave {way}"), test))
    };
    Ok(ways.filter_map(record).collect())
}

fn search(members: &[Subject], others: &[Subject], shared: &[Array2<u8>]) -> Option<MembershipTest> {
    let score = |subject: &Subject| {
        let best = |mask: &Array2<u8>| shared.iter().map(|other| overlap(mask, other)).fold(0.0, f64::max);
        subject.cases.iter().map(|case| best(&case.condition)).sum::<f64>() / subject.cases.len() as f64
    };
    let scores = |subjects: &[Subject]| subjects.iter().map(score).collect::<Vec<f64>>();
    if shared.is_empty() { None } else { MembershipTest::of_scores(&scores(members), &scores(others)) }
}

/// The share of marked pixels that are marked alike.
fn overlap(a: &Array2<u8>, b: &Array2<u8>) -> f64 {
    let (mut alike, mut marked) = (0_u32, 0_u32);
    for (&x, &y) in a.iter().zip(b) {
        marked += u32::from(x > 0 || y > 0);
        alike += u32::from(x > 0 && x == y);
    }
    if marked == 0 { 0.0 } else { f64::from(alike) / f64::from(marked) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::membership::tests::patients;

    #[test]
    fn masks_as_they_are_name_their_patient_and_those_of_others_do_not() {
        let task = asyndgan_paper::Experiment::Table2.task().expect("a task").clone();
        let (members, others) = (patients(20, 0, Some(0)), patients(20, 100, None));
        let found = masks(&task, &members, &others, 1).expect("masks");
        assert!(found[0].auc > 0.99 && found[0].attack.contains("as they are"), "{found:?}");
        assert!(found.iter().all(|record| record.auc <= found[0].auc));
        let strangers: Vec<_> = patients(20, 300, None).into_iter().map(|s| s.cases[0].condition.clone()).collect();
        let test = search(&members, &others, &strangers).expect("scores");
        assert!(test.auc_interval[0] < 0.5 && test.auc_interval[1] > 0.5, "{test:?}");
    }
}

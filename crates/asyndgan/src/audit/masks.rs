//! What masks give away that leave a site, as they are, deformed, recombined, or sampled: that a patient is among them,
//! and an attribute of the patient.

use std::collections::BTreeSet;

use anyhow::Result;
use asyndgan_data::mask::fill_holes;
use asyndgan_metrics::{Correlation, Undefined, spearman};
use asyndgan_paper::{AttributeRecord, MembershipRecord};
use asyndgan_privacy::MembershipTest;
use asyndgan_protocol::{ConditionPolicy, PrivacyBudget, Role, SiteSecret, stream};
use asyndgan_task::{LabelKind, Task};
use asyndgan_training::SampledMasks;
use ndarray::{Array2, Axis};
use rand::Rng as _;

use super::{subjects::Subject, tested};
use crate::shared_masks::release_masks;

/// What is done to masks.
const WAYS: [(&str, ConditionPolicy); 4] = [
    ("as they are", ConditionPolicy::All),
    ("deformed", ConditionPolicy::Deformed),
    ("recombined and deformed", ConditionPolicy::Recombined),
    ("sampled from a model of their shapes (epsilon 2)", ConditionPolicy::Sampled),
];
/// The budget of sampled masks: the default of a site's policy.
const SAMPLED: PrivacyBudget = PrivacyBudget { epsilon: 2.0, delta: 1e-5 };

/// The masks that leave all sites together, under each policy.
pub(crate) struct Released(Vec<(&'static str, Vec<Array2<u8>>)>);

impl Released {
    /// Releases the masks of the members. A site with a single patient cannot recombine, and so takes no part in that.
    pub(crate) fn new(task: &Task, members: &[Subject], seed: u64, left_out: &mut Vec<String>) -> Result<Self> {
        let sites: BTreeSet<Option<u32>> = members.iter().map(|s| s.site).collect();
        let mut shared = WAYS.map(|(name, _)| (name, Vec::new())).to_vec();
        for (number, &site) in (0..).zip(&sites) {
            let of_site: Vec<(u32, &Subject)> = (0..).zip(members).filter(|(_, s)| s.site == site).collect();
            let own: Vec<Array2<u8>> = of_site.iter().flat_map(|(_, s)| s.cases.iter().map(|case| case.condition.clone())).collect();
            let patients: Vec<u32> = of_site.iter().flat_map(|(patient, s)| s.cases.iter().map(move |_| *patient)).collect();
            let mut rng = stream(seed, Role::Recombination, number, 1);
            let mut secret = [0; 32];
            rng.fill_bytes(&mut secret);
            let sampled = SampledMasks::new(SAMPLED, SiteSecret::new(secret));
            for ((_, policy), (_, masks)) in WAYS.iter().zip(&mut shared) {
                let is_possible = match policy {
                    ConditionPolicy::Recombined => of_site.len() > 1,
                    ConditionPolicy::Sampled => task.labels != LabelKind::Instances,
                    _ => true,
                };
                if !is_possible {
                    continue;
                }
                match release_masks(*policy, task, &own, &patients, &sampled, &mut rng) {
                    Ok(made) => masks.extend(made),
                    // Few patients, whose shapes the noise hides.
                    Err(error) if *policy == ConditionPolicy::Sampled => {
                        left_out.push(format!("sampled masks of site {}: {error}", number + 1));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        shared.retain(|(_, masks)| !masks.is_empty());
        Ok(Self(shared))
    }

    /// The attacker has all masks that left the sites, and a patient's masks, and looks for the most similar one.
    pub(crate) fn membership(&self, members: &[Subject], others: &[Subject]) -> Vec<MembershipRecord> {
        let record =
            |(way, shared): &(&str, Vec<Array2<u8>>)| Some(tested(format!("masks that leave {way}"), search(members, others, shared)?));
        self.0.iter().filter_map(record).collect()
    }

    /// The attacker has all masks that left the sites, and knows a part of a patient's mask: the outline, or one half
    /// if masks have no outline. How much is marked in the rest is guessed from the mask whose known part is most
    /// similar.
    pub(crate) fn attributes(
        &self,
        task: &Task,
        members: &[Subject],
        others: &[Subject],
        left_out: &mut Vec<String>,
    ) -> Vec<AttributeRecord> {
        let attribute = if task.outline { "the marked share of the outline" } else { "the marked share of the right half" };
        let known = if task.outline { "the patient's outline" } else { "the left half of the patient's mask" };
        let mut record = |(way, shared): &(&str, Vec<Array2<u8>>)| {
            let [of_members, of_others] = match [members, others].map(|subjects| guessed(task, subjects, shared)) {
                [Ok(of_members), Ok(of_others)] => [of_members, of_others],
                [Err(why), _] | [_, Err(why)] => {
                    left_out.push(format!("guessing an attribute from masks that leave {way}: {why}"));
                    return None;
                }
            };
            let interval = |of: Correlation| [of.interval.low, of.interval.high];
            Some(AttributeRecord {
                attack: format!("masks that leave {way}, and {known}"),
                attribute: attribute.to_owned(),
                counts: [members.len(), others.len()],
                correlation: of_members.value,
                interval: interval(of_members),
                of_others: of_others.value,
                of_others_interval: interval(of_others),
            })
        };
        self.0.iter().filter_map(&mut record).collect()
    }
}

/// How far guesses of the attribute agree with the truth, over patients.
fn guessed(task: &Task, subjects: &[Subject], shared: &[Array2<u8>]) -> Result<Correlation, Undefined> {
    let visible: Vec<(Array2<u8>, f64)> = shared.iter().filter_map(|mask| split(task, mask)).collect();
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let of = |subject: &Subject| {
        let cases: Vec<(Array2<u8>, f64)> = subject.cases.iter().filter_map(|case| split(task, &case.condition)).collect();
        if cases.is_empty() {
            return None;
        }
        let guess = |known: &Array2<u8>| {
            let similar = visible.iter().map(|(other, share)| (overlap(known, other), *share));
            similar.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |(_, share)| share)
        };
        Some((mean(cases.iter().map(|(known, _)| guess(known)).collect()), mean(cases.iter().map(|case| case.1).collect())))
    };
    let (guesses, truths): (Vec<f64>, Vec<f64>) = subjects.iter().filter_map(of).unzip();
    spearman(&guesses, &truths)
}

/// The part of a mask that the attacker knows, and the share of the rest that is marked. `None` if the outline is open,
/// because it leaves the image: then the known part would show the classes inside.
fn split(task: &Task, mask: &Array2<u8>) -> Option<(Array2<u8>, f64)> {
    let count = |mask: &Array2<u8>, is: &dyn Fn(u8) -> bool| mask.iter().filter(|&&code| is(code)).count() as f64;
    if task.outline {
        let known = fill_holes(mask.mapv(|code| code > 0).view()).mapv(u8::from);
        let share = count(mask, &|code| task.is_class(code)) / count(&known, &|code| code > 0).max(1.0);
        let marked = count(mask, &|code| code > 0);
        return (count(&known, &|code| code > 0) > marked || marked == 0.0).then_some((known, share));
    }
    let (left, right) = mask.view().split_at(Axis(1), mask.ncols() / 2);
    let (left, right) = (left.to_owned(), right.to_owned());
    let share = count(&right, &|code| task.is_class(code)) / right.len().max(1) as f64;
    Some((left, share))
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
        let found = Released::new(&task, &members, 1, &mut Vec::new()).expect("masks").membership(&members, &others);
        assert!(found[0].auc > 0.99 && found[0].attack.contains("as they are"), "{found:?}");
        assert!(found.iter().all(|record| record.auc <= found[0].auc));
        let strangers: Vec<_> = patients(20, 300, None).into_iter().map(|s| s.cases[0].condition.clone()).collect();
        let test = search(&members, &others, &strangers).expect("scores");
        assert!(test.auc_interval[0] < 0.5 && test.auc_interval[1] > 0.5, "{test:?}");
    }

    #[test]
    fn masks_as_they_are_give_an_attribute_away_and_those_of_others_do_not() {
        let task = asyndgan_paper::Experiment::Table2.task().expect("a task").clone();
        let (members, others) = (patients(40, 0, Some(0)), patients(40, 100, None));
        let found =
            Released::new(&task, &members, 1, &mut Vec::new()).expect("masks").attributes(&task, &members, &others, &mut Vec::new());
        assert!(found[0].is_better_than_for_others() && found[0].attack.contains("as they are"), "{found:?}");
        assert!(!found[2].is_better_than_for_others() && found[2].attack.contains("recombined"), "{found:?}");
    }

    #[test]
    fn the_known_part_does_not_show_the_attribute() {
        let tissue = asyndgan_paper::Experiment::Table2.task().expect("a task").clone();
        let (known, share) = split(&tissue, &ndarray::arr2(&[[1, 0, 1, 0], [1, 0, 1, 1]])).expect("two halves");
        assert_eq!((known, share), (ndarray::arr2(&[[1, 0], [1, 0]]), 0.75));
        let brain = asyndgan_paper::Experiment::Table1.task().expect("a task").clone();
        let outline = brain.outline_code().expect("an outline");
        // A lesion inside of the outline, which is a line, and background in both.
        let ring = Array2::from_shape_fn((7, 7), |(r, c)| match (r.abs_diff(3).max(c.abs_diff(3)), r, c) {
            (3, ..) => 0,
            (2, ..) => outline,
            (_, 3, 3) => 1,
            _ => 0,
        });
        let filled = Array2::from_shape_fn((7, 7), |(r, c)| u8::from(r.abs_diff(3).max(c.abs_diff(3)) < 3));
        assert_eq!(split(&brain, &ring), Some((filled.clone(), 1.0 / 25.0)));
        // Whether there is a lesion does not change what is known.
        assert_eq!(split(&brain, &ring.mapv(|code| if code == 1 { 0 } else { code })), Some((filled, 0.0)));
        // An outline that leaves the image is open.
        let (_, open) = ring.view().split_at(Axis(0), 3);
        assert_eq!(split(&brain, &open.to_owned()), None);
    }
}

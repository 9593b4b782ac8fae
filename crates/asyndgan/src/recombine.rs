//! The masks that may leave a site: as they are, deformed, recombined from several patients, or sampled.

use anyhow::{Result, ensure};
use asyndgan_data::{deform_condition, transplant};
use asyndgan_protocol::{ConditionPolicy, Stream};
use asyndgan_task::Task;
use asyndgan_training::{Pairs, SampledMasks};
use ndarray::Array2;
use rand::{RngExt, seq::IndexedRandom as _};
use sha2::{Digest as _, Sha256};
use tch::Tensor;

use crate::tensors::planes;

/// The label maps that leave a site under a policy; `None` for those of the pairs. The stream must be secret.
///
/// # Errors
/// If masks are to be recombined or sampled, and the patient of a case is unknown; if there is only one patient whose
/// masks are to be recombined; or if the budget does not allow sampled masks.
pub(crate) fn shared_masks(
    policy: ConditionPolicy,
    task: &Task,
    pairs: &Pairs,
    sampled: &SampledMasks,
    rng: &mut Stream,
) -> Result<Option<Tensor>> {
    if policy == ConditionPolicy::All {
        return Ok(None);
    }
    ensure!(
        policy == ConditionPolicy::Deformed || pairs.unknown_patients() == 0,
        "the data do not name the patient of every case, so its masks cannot be {}: name patients and run asyndgan data prepare again, or \
         set conditions = \"deformed\"",
        if policy == ConditionPolicy::Sampled { "sampled" } else { "recombined" }
    );
    let codes = pairs.label_maps();
    let masks = released(policy, task, &planes(codes), &pairs.patients(), sampled, rng)?;
    let flat: Vec<u8> = masks.into_iter().flatten().collect();
    Ok(Some(Tensor::from_slice(&flat).view(&codes.size()[..])))
}

/// Masks as they leave a site under a policy. Recombined ones are deformed as well: else the outline, which is that of
/// one patient, would be enough to recognise the patient.
pub(crate) fn released(
    policy: ConditionPolicy,
    task: &Task,
    own: &[Array2<u8>],
    patients: &[u32],
    sampled: &SampledMasks,
    rng: &mut Stream,
) -> Result<Vec<Array2<u8>>> {
    let masks = match policy {
        ConditionPolicy::All => return Ok(own.to_vec()),
        ConditionPolicy::Sampled => return Ok(sampled.sample(task, own, patients, rng)?),
        ConditionPolicy::Deformed => own.to_vec(),
        ConditionPolicy::Recombined => recombinations(task, own, patients, 1, rng)?.concat(),
    };
    Ok(masks.iter().map(|mask| deform_condition(task, mask.view(), rng)).collect())
}

/// Returns as many conditions as given, several times, none of which belongs to a single patient. Conditions with an
/// outline keep it and get the classes of another patient. Others are assembled from quarters of different patients,
/// and one quarter of every condition is never released. Where patches of one tile overlap, a neighbouring patch may
/// contain the withheld quarter.
///
/// The stream must be secret: anyone who can reproduce it knows which part came from which patient. The quarters that
/// are never released are the same each time, also if other cases are added or removed.
pub(crate) fn recombinations<P: PartialEq>(
    task: &Task,
    own: &[Array2<u8>],
    patients: &[P],
    times: u32,
    rng: &mut Stream,
) -> Result<Vec<Vec<Array2<u8>>>> {
    assert_eq!(own.len(), patients.len(), "a patient for every case");
    ensure!(
        patients.iter().any(|p| *p != patients[0]),
        "masks of a single patient cannot be recombined: deform them (conditions = \"deformed\"), or do not take part"
    );
    // From the mask itself: other cases, which come or go, do not change it.
    let key: [u8; 32] = rng.random();
    let withheld: Vec<usize> = own.iter().map(|mask| withheld(&key, mask)).collect();
    let mut one = |i: usize| {
        let others: Vec<usize> = (0..own.len()).filter(|&j| patients[j] != patients[i]).collect();
        if task.outline { inside_outline(task, own, i, &others, rng) } else { quarters(own, i, &others, &withheld, rng) }
    };
    Ok((0..times).map(|_| (0..own.len()).map(&mut one).collect()).collect())
}

/// The quarter of a mask that is never released, with a secret key.
fn withheld(key: &[u8; 32], mask: &Array2<u8>) -> usize {
    let mut hash = Sha256::new();
    hash.update(key);
    mask.iter().for_each(|code| hash.update([*code]));
    usize::from(hash.finalize()[0] % 4)
}

fn inside_outline(task: &Task, own: &[Array2<u8>], i: usize, others: &[usize], rng: &mut Stream) -> Array2<u8> {
    let mut with = |pixels_min| transplant(task, own[i].view(), own[*others.choose(rng)?].view(), pixels_min);
    // Some classes lie outside of some outlines: a few tries, then any part that is inside.
    (0..20).find_map(|_| with(task.marked_pixels_min)).or_else(|| with(0)).unwrap_or_else(|| Array2::zeros(own[i].dim()))
}

fn quarters(own: &[Array2<u8>], i: usize, others: &[usize], withheld: &[usize], rng: &mut Stream) -> Array2<u8> {
    let (rows, columns) = own[i].dim();
    // One quarter is its own, so that no mask is all of one other patient.
    let keeps = (withheld[i] + rng.random_range(1..4)) % 4;
    let mut source = |quarter: usize| {
        if quarter == keeps {
            return Some(i);
        }
        let free: Vec<usize> = others.iter().copied().filter(|&j| withheld[j] != quarter).collect();
        free.choose(rng).copied()
    };
    let quarters = [0, 1, 2, 3].map(&mut source);
    Array2::from_shape_fn((rows, columns), |(r, c)| {
        let quarter = 2 * usize::from(r >= rows / 2) + usize::from(c >= columns / 2);
        // Where no other patient lets this quarter out, there is nothing.
        quarters[quarter].map_or(0, |j| own[j][[r, c]])
    })
}

#[cfg(test)]
mod tests {
    use asyndgan_protocol::{PrivacyBudget, Role, SiteSecret, stream};

    use super::*;

    fn nuclei() -> Task {
        asyndgan_paper::Experiment::Table2.task().expect("a task").clone()
    }

    #[test]
    fn no_mask_leaves_whole() {
        for patients in [&["a", "b", "b"][..], &["a", "a", "b", "b"], &["a", "a", "a", "b", "b", "b", "c", "c", "c"]] {
            for seed in 0..300 {
                // Each case is made of one code alone, so that every pixel shows where it came from.
                let of = |code: u8| patients.get(usize::from(code.wrapping_sub(11)));
                let cases: Vec<u8> = (11..).take(patients.len()).flat_map(|case| [case; 64]).collect();
                let codes = Tensor::from_slice(&cases).view([patients.len() as i64, 1, 8, 8]);
                let mut rng = stream(seed, Role::Transplant, 0, 0);
                let made = recombinations(&nuclei(), &planes(&codes), patients, 5, &mut rng).expect("several patients").concat();
                let corners = [[0, 0], [0, 7], [7, 0], [7, 7]];
                for case in 0..patients.len() {
                    let out = corners.iter().filter(|&&at| made.iter().any(|m| m[at] == case as u8 + 11)).count();
                    assert!(out < 4, "all of case {case} of {patients:?} left under seed {seed}");
                }
                // Nor is any one a single patient's.
                for m in &made {
                    let sources = corners.map(|at| of(m[at]));
                    assert!(sources.iter().any(|s| *s != sources[0]), "{sources:?} under seed {seed}");
                }
            }
        }
    }

    #[test]
    fn one_patient_alone_is_refused() {
        let own = vec![Array2::from_elem((8, 8), 1); 2];
        let mut rng = stream(0, Role::Transplant, 0, 0);
        let sampled = SampledMasks::new(PrivacyBudget { epsilon: 2.0, delta: 1e-5 }, SiteSecret::new([0; 32]));
        let mut of = |policy| released(policy, &nuclei(), &own, &[4, 4], &sampled, &mut rng);
        assert!(of(ConditionPolicy::Recombined).is_err());
        assert_eq!(of(ConditionPolicy::All).expect("as they are"), own);
        let refused = of(ConditionPolicy::Sampled).expect_err("many small objects").to_string();
        assert!(refused.contains("many small objects"), "{refused}");
    }
}

use asyndgan_task::Task;
use ndarray::Array2;
use rand::{Rng, RngExt as _, seq::IndexedRandom as _};
use sha2::{Digest as _, Sha256};

use crate::{Error, transplant};

/// Returns as many conditions as given, several times, none of which belongs to a single patient. `patients` has the
/// patient of each condition.
///
/// Conditions with an outline keep it and get the classes of another patient. Others are assembled from quarters of
/// different patients, and one quarter of every condition is never released. Where patches of one tile overlap, a
/// neighbouring patch may contain the withheld quarter.
///
/// The generator must be secret: anyone who can reproduce it knows which part came from which patient. The quarters
/// that are never released are the same each time, also if other cases are added or removed.
///
/// # Shapes
/// All conditions have the same shape `[rows, columns]`, with the codes of the task.
///
/// # Errors
/// [`Error::OnePatient`].
///
/// # Panics
/// If there is not one patient for each condition.
pub fn recombine<P: PartialEq>(
    task: &Task,
    own: &[Array2<u8>],
    patients: &[P],
    times: u32,
    rng: &mut impl Rng,
) -> Result<Vec<Vec<Array2<u8>>>, Error> {
    assert_eq!(own.len(), patients.len(), "a patient for every case");
    if patients.iter().all(|p| *p == patients[0]) {
        return Err(Error::OnePatient);
    }
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

fn inside_outline(task: &Task, own: &[Array2<u8>], i: usize, others: &[usize], rng: &mut impl Rng) -> Array2<u8> {
    let mut with = |pixels_min| transplant(task, own[i].view(), own[*others.choose(rng)?].view(), pixels_min);
    // Some classes lie outside of some outlines: a few tries, then any part that is inside.
    (0..20).find_map(|_| with(task.marked_pixels_min)).or_else(|| with(0)).unwrap_or_else(|| Array2::zeros(own[i].dim()))
}

fn quarters(own: &[Array2<u8>], i: usize, others: &[usize], withheld: &[usize], rng: &mut impl Rng) -> Array2<u8> {
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
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn nuclei() -> Task {
        let text = r#"
            name = "nuclei"
            images = "pictures"
            labels = "instances"
            channels = [{ name = "grey", normalisation = "rgb" }]
            classes = [{ name = "nucleus" }]
        "#;
        Task::parse(text).expect("a task")
    }

    #[test]
    fn no_mask_leaves_whole() {
        for patients in [&["a", "b", "b"][..], &["a", "a", "b", "b"], &["a", "a", "a", "b", "b", "b", "c", "c", "c"]] {
            for seed in 0..300 {
                // Each case is made of one code alone, so that every pixel shows where it came from.
                let of = |code: u8| patients.get(usize::from(code.wrapping_sub(11)));
                let cases: Vec<Array2<u8>> = (11..).take(patients.len()).map(|case| Array2::from_elem((8, 8), case)).collect();
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let made = recombine(&nuclei(), &cases, patients, 5, &mut rng).expect("several patients").concat();
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
    fn masks_of_one_patient_are_refused() {
        let own = vec![Array2::from_elem((8, 8), 1); 2];
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        assert!(matches!(recombine(&nuclei(), &own, &[4, 4], 1, &mut rng), Err(Error::OnePatient)));
        assert!(matches!(recombine::<u32>(&nuclei(), &[], &[], 1, &mut rng), Err(Error::OnePatient)));
    }
}

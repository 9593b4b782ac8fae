//! Which cases a round shows, and how they are cropped and flipped: functions of (seed, site, round) alone, so that a run that
//! goes on after a stop draws what it would have drawn.

use std::collections::BTreeSet;

use rand::{Rng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use crate::{Role, Stream, stream};

/// Crop and flips of one pair; server and site apply the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Augmentation {
    /// First row of the crop.
    pub top: u32,
    /// First column of the crop.
    pub left: u32,
    /// Mirror left and right.
    pub flip_columns: bool,
    /// Mirror up and down.
    pub flip_rows: bool,
    /// Exchange rows and columns, before mirroring: with it, mirroring reaches all quarter turns.
    pub transpose: bool,
}

/// In which ways an image may be turned over and still be one of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Symmetry {
    /// In none.
    None,
    /// Mirrored.
    Flips,
    /// Mirrored and by quarter turns: tissue has no upside.
    Turns,
}

/// The cases of one site's batch: consecutive places in an endless row of shuffled epochs, so every case is drawn equally often.
///
/// # Panics
/// If the site has no cases.
pub fn draw_cases(seed: u64, site: u32, round: u64, batch: u32, cases: u32) -> Vec<u32> {
    assert!(cases > 0, "a site without cases");
    let mut epoch_order = (u64::MAX, Vec::new());
    (0..u64::from(batch))
        .map(|k| {
            let place = round * u64::from(batch) + k;
            let (epoch, within) = (place / u64::from(cases), place % u64::from(cases));
            if epoch_order.0 != epoch {
                let mut order: Vec<u32> = (0..cases).collect();
                order.shuffle(&mut stream(seed, Role::Cases, site, epoch));
                epoch_order = (epoch, order);
            }
            epoch_order.1[within as usize]
        })
        .collect()
}

/// The real cases of one batch, of at least `patients_min` different patients: each case is as likely as any other, but for that rule.
///
/// `patients` has the patient of each case, as any number. Rounds are drawn independently of each other, so nobody can conclude from
/// earlier rounds what a later one shows. With fewer patients or cases than asked for, all there are take part.
///
/// # Panics
/// If there are no cases.
pub fn draw_real_cases(rng: &mut Stream, batch: u32, patients: &[u32], patients_min: u32) -> Vec<u32> {
    assert!(!patients.is_empty(), "a site without cases");
    let batch = batch as usize;
    let mut order: Vec<u32> = (0..patients.len() as u32).collect();
    order.shuffle(rng);
    let (mut drawn, mut others, mut seen) = (Vec::with_capacity(batch), Vec::new(), BTreeSet::new());
    for case in order {
        if drawn.len() < batch.min(patients_min as usize) && seen.insert(patients[case as usize]) {
            drawn.push(case);
        } else {
            others.push(case);
        }
    }
    drawn.extend(others);
    let mut cases: Vec<u32> = drawn.iter().copied().cycle().take(batch).collect();
    // What comes first is no different from the rest.
    cases.shuffle(rng);
    cases
}

/// Crops and flips of one site's batch: `margin` is how many rows and columns the stored pairs have beyond the crop.
pub fn draw_augmentations(seed: u64, site: u32, round: u64, batch: u32, margin: [u32; 2], symmetry: Symmetry) -> Vec<Augmentation> {
    draw_augmentations_from(&mut stream(seed, Role::Augmentation, site, round), batch, margin, symmetry)
}

/// As [`draw_augmentations`], from a stream.
pub(crate) fn draw_augmentations_from(rng: &mut Stream, batch: u32, margin: [u32; 2], symmetry: Symmetry) -> Vec<Augmentation> {
    (0..batch)
        .map(|_| Augmentation {
            top: rng.random_range(0..=margin[0]),
            left: rng.random_range(0..=margin[1]),
            flip_columns: symmetry != Symmetry::None && rng.random(),
            flip_rows: symmetry != Symmetry::None && rng.random(),
            transpose: symmetry == Symmetry::Turns && rng.random(),
        })
        .collect()
}

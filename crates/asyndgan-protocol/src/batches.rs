//! Which cases a round shows, and how they are cropped and flipped. All draws are functions of (seed, site, round)
//! only, so a resumed run draws the same as an uninterrupted one.

use std::collections::BTreeSet;

use rand::{RngExt, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use crate::{Role, RunDescription, SiteSummary, Stream, stream};

/// Crop and flips of one pair; server and site apply the same ones.
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
    /// Transpose rows and columns before mirroring. Together with mirroring this covers all quarter turns.
    pub transpose: bool,
}

/// Transformations under which an image stays plausible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Symmetry {
    /// None.
    None,
    /// Mirroring.
    Flips,
    /// Mirroring and quarter turns, for tissue, which has no preferred orientation.
    Turns,
}

/// The cases of one site's batch: consecutive positions in an endless sequence of shuffled epochs, so every case is
/// drawn equally often.
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

/// The real cases of one batch, from at least `patients_min` different patients. Apart from that rule, all cases are
/// equally likely.
///
/// `patients` holds an arbitrary patient number for each case. Rounds are drawn independently, so earlier rounds do not
/// reveal what a later one shows. If there are fewer patients or cases than requested, all of them are used.
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

/// Crops and flips of one site's batch. `margin` is the number of rows and columns of the stored pairs beyond the crop.
pub fn draw_augmentations(seed: u64, site: u32, round: u64, batch: u32, margin: [u32; 2], symmetry: Symmetry) -> Vec<Augmentation> {
    draw_augmentations_from(&mut stream(seed, Role::Augmentation, site, round), batch, margin, symmetry)
}

/// Crops and flips of `count` images of a site, from a stream of the site.
pub fn draw_augmentations_of(run: &RunDescription, summary: &SiteSummary, count: u32, rng: &mut Stream) -> Vec<Augmentation> {
    draw_augmentations_from(rng, count, run.margin(summary), run.symmetry)
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

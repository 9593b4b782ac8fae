//! Splits touching nuclei at narrow necks.

use asyndgan_metrics::squared_distance_transform;
use ndarray::{Array2, ArrayView2};

/// A neck separates two nuclei if it is narrower than the smaller of them by this much on either side, in pixels of the
/// segmenter's grid.
const NECK: f32 = 0.375;

/// Labels the connected parts of a mask from 1. A part is split where the distance of its pixels to the background has
/// a saddle that is at least `NECK` below the peaks on both sides. The grid of the mask is finer than the segmenter's
/// by `factor`.
///
/// Pixels are processed from the deepest to the shallowest. A pixel that touches no earlier one is a new peak; others
/// belong to the peak of their deepest neighbour. Two peaks that meet at a pixel less than that below one of them are
/// merged.
///
/// # Reference
/// Watershed by persistence: Chazal et al., Journal of the ACM 60(6), 2013.
pub(crate) fn watershed_split(mask: ArrayView2<bool>, factor: usize) -> Array2<u32> {
    let neck = NECK * factor as f32;
    let depth = depth(mask);
    let (rows, columns) = mask.dim();
    let mut order: Vec<(usize, usize)> = mask.indexed_iter().filter(|(_, marked)| **marked).map(|(at, _)| at).collect();
    // The sort is stable: equally deep pixels stay in reading order.
    order.sort_by(|a, b| depth[*b].total_cmp(&depth[*a]));
    // A basin's peak, and the basin that it has joined: itself while it stands.
    let mut basins: Vec<(f32, usize)> = Vec::new();
    let mut basin_of = Array2::<usize>::from_elem(mask.dim(), usize::MAX);
    // Labelled neighbours, and the basins that they belong to by now.
    let mut around: Vec<((usize, usize), usize)> = Vec::with_capacity(8);
    for at in order {
        around.clear();
        for r in at.0.saturating_sub(1)..(at.0 + 2).min(rows) {
            for c in at.1.saturating_sub(1)..(at.1 + 2).min(columns) {
                if basin_of[[r, c]] != usize::MAX {
                    around.push(((r, c), standing(&mut basins, basin_of[[r, c]])));
                }
            }
        }
        let Some(&(_, uphill)) = around.iter().max_by(|a, b| depth[a.0].total_cmp(&depth[b.0])) else {
            basin_of[at] = basins.len();
            basins.push((depth[at], basins.len()));
            continue;
        };
        basin_of[at] = uphill;
        for (_, other) in &around {
            let [a, b] = [uphill, *other].map(|basin| standing(&mut basins, basin));
            let (low, high) = if basins[a].0 < basins[b].0 { (a, b) } else { (b, a) };
            if basins[low].0 - depth[at] < neck {
                basins[low].1 = high;
            }
        }
    }
    let mut labels = vec![0; basins.len()];
    let mut count = 0;
    Array2::from_shape_fn(mask.dim(), |at| {
        if basin_of[at] == usize::MAX {
            return 0;
        }
        let label = &mut labels[standing(&mut basins, basin_of[at])];
        if *label == 0 {
            count += 1;
            *label = count;
        }
        *label
    })
}

/// The basin that a basin belongs to by now.
fn standing(basins: &mut [(f32, usize)], basin: usize) -> usize {
    let mut at = basin;
    while basins[at].1 != at {
        basins[at].1 = basins[basins[at].1].1;
        at = basins[at].1;
    }
    at
}

/// How far a pixel is from the nearest unmarked one, slightly smoothed: distances on a grid have small peaks of their
/// own.
fn depth(mask: ArrayView2<bool>) -> Array2<f32> {
    let (rows, columns) = mask.dim();
    let unmarked = mask.mapv(|marked| !marked);
    // Without any unmarked pixel all are equally deep.
    let mut depth = squared_distance_transform(unmarked.view(), &[1.0; 2]).mapv(|square| square.sqrt().min(1e6) as f32);
    for _ in 0..2 {
        // Binomial, along columns and along rows; the border counts once more.
        let old = depth.clone();
        depth = Array2::from_shape_fn((rows, columns), |(r, c)| {
            (old[[r.saturating_sub(1), c]] + 2.0 * old[[r, c]] + old[[(r + 1).min(rows - 1), c]]) / 4.0
        });
        let old = depth.clone();
        depth = Array2::from_shape_fn((rows, columns), |(r, c)| {
            (old[[r, c.saturating_sub(1)]] + 2.0 * old[[r, c]] + old[[r, (c + 1).min(columns - 1)]]) / 4.0
        });
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Discs of radius 8.
    fn discs(centres: &[(f32, f32)]) -> Array2<bool> {
        let within = |(r, c): (usize, usize), (y, x): (f32, f32)| (r as f32 - y).hypot(c as f32 - x) <= 8.0;
        Array2::from_shape_fn((40, 60), |at| centres.iter().any(|centre| within(at, *centre)))
    }

    fn count(labels: &Array2<u32>) -> u32 {
        labels.iter().copied().max().unwrap_or(0)
    }

    #[test]
    fn two_discs_that_touch_come_apart_between_them() {
        let mask = discs(&[(20.0, 15.0), (20.0, 29.0)]);
        let labels = watershed_split(mask.view(), 2);
        assert_eq!(count(&labels), 2);
        assert!(labels.indexed_iter().all(|(at, label)| (*label > 0) == mask[at]), "no pixel is lost or added");
        assert!(labels[[20, 15]] != labels[[20, 29]]);
        let area = |of: u32| labels.iter().filter(|l| **l == of).count();
        assert!(area(1).abs_diff(area(2)) < 25, "{} {}", area(1), area(2));
    }

    #[test]
    fn a_disc_an_oval_and_a_mask_without_background_stay_whole() {
        assert_eq!(count(&watershed_split(discs(&[(20.0, 15.0)]).view(), 2)), 1);
        assert_eq!(count(&watershed_split(discs(&[(20.0, 15.0), (20.0, 18.0), (20.0, 21.0)]).view(), 2)), 1);
        assert_eq!(count(&watershed_split(Array2::from_elem((5, 7), true).view(), 2)), 1);
        assert_eq!(count(&watershed_split(Array2::from_elem((5, 7), false).view(), 2)), 0);
    }

    #[test]
    fn parts_that_do_not_touch_have_labels_of_their_own() {
        assert_eq!(count(&watershed_split(discs(&[(12.0, 15.0), (25.0, 40.0)]).view(), 2)), 2);
    }
}

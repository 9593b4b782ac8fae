//! Mask operations: outlines, hole filling, erosion, dilation, and separation of touching nuclei.

use std::collections::VecDeque;

use ndarray::{Array2, ArrayView2};

fn neighbours(at: (usize, usize), (height, width): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    let (r, c) = at;
    let up = (r > 0).then(|| (r - 1, c));
    let left = (c > 0).then(|| (r, c - 1));
    let down = (r + 1 < height).then_some((r + 1, c));
    let right = (c + 1 < width).then_some((r, c + 1));
    [up, left, down, right].into_iter().flatten()
}

/// Fills holes: background that is not connected to the border (4-connectivity) becomes marked.
pub fn fill_holes(mask: ArrayView2<bool>) -> Array2<bool> {
    let dim = mask.dim();
    let mut outside = Array2::from_elem(dim, false);
    let border = |(r, c): (usize, usize)| r == 0 || c == 0 || r + 1 == dim.0 || c + 1 == dim.1;
    let mut open: VecDeque<_> = mask.indexed_iter().filter(|(at, m)| border(*at) && !**m).map(|(at, _)| at).collect();
    for &at in &open {
        outside[at] = true;
    }
    while let Some(at) = open.pop_front() {
        for next in neighbours(at, dim) {
            if !mask[next] && !outside[next] {
                outside[next] = true;
                open.push_back(next);
            }
        }
    }
    outside.mapv_into(|o| !o)
}

/// The outermost marked pixels: those with an unmarked edge neighbour.
pub fn contour(mask: ArrayView2<bool>) -> Array2<bool> {
    let inside = erode(mask);
    Array2::from_shape_fn(mask.dim(), |at| mask[at] && !inside[at])
}

/// Marked pixels whose edge neighbours are all marked. Pixels beyond the border count as marked, so that the edge of a
/// crop is not a boundary.
pub fn erode(mask: ArrayView2<bool>) -> Array2<bool> {
    Array2::from_shape_fn(mask.dim(), |at| mask[at] && neighbours(at, mask.dim()).all(|n| mask[n]))
}

/// Grows every label into background within `radius` pixels (Euclidean); the nearest label wins, then the smaller.
pub fn dilate_labels(labels: ArrayView2<u32>, radius: usize) -> Array2<u32> {
    let (height, width) = labels.dim();
    let reach = radius as isize;
    let mut offsets: Vec<(isize, isize)> =
        (-reach..=reach).flat_map(|r| (-reach..=reach).map(move |c| (r, c))).filter(|(r, c)| r * r + c * c <= reach * reach).collect();
    offsets.sort_by_key(|(r, c)| r * r + c * c);
    Array2::from_shape_fn((height, width), |(r, c)| {
        let mut best: Option<(isize, u32)> = None;
        for &(dr, dc) in &offsets {
            let away = dr * dr + dc * dc;
            if best.is_some_and(|(d, _)| away > d) {
                break;
            }
            let at = (r.checked_add_signed(dr), c.checked_add_signed(dc));
            let (Some(y), Some(x)) = at else { continue };
            let label = labels.get((y, x)).copied().unwrap_or(0);
            if label > 0 && best.is_none_or(|(_, l)| label < l) {
                best = Some((away, label));
            }
        }
        best.map_or(0, |(_, label)| label)
    })
}

/// The mask of all instances, with a one-pixel gap wherever two of them touch.
pub fn separate_touching(instances: ArrayView2<u32>) -> Array2<bool> {
    let other = |at: (usize, usize), own: u32| instances.get(at).is_some_and(|&l| l > 0 && l != own);
    Array2::from_shape_fn(instances.dim(), |(r, c)| {
        let own = instances[[r, c]];
        own > 0 && !other((r + 1, c), own) && !other((r, c + 1), own)
    })
}

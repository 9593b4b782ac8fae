use ndarray::{Array2, ArrayView2};

use crate::{mask, prepare::BRAIN_OUTLINE};

/// Puts one slice's tumour into another slice's brain outline; none if fewer than `pixels_min` of its pixels are
/// inside.
///
/// The result is a condition without an image, for synthesis only; it is never part of a real pair.
///
/// # Shapes
/// Both conditions have the same shape `[rows, columns]`, with codes as produced by [`crate::prepare`].
///
/// # Reference
/// Section 4.1, synthetic set of the brain experiment.
pub fn transplant(outline: ArrayView2<u8>, tumour: ArrayView2<u8>, pixels_min: usize) -> Option<Array2<u8>> {
    let brain = mask::filled(outline.mapv(|code| code > 0).view());
    let mut condition = outline.mapv(|code| if code == BRAIN_OUTLINE { code } else { 0 });
    let mut inside = 0;
    for (at, &code) in tumour.indexed_iter() {
        if code > 0 && code != BRAIN_OUTLINE && brain[at] {
            condition[at] = code;
            inside += 1;
        }
    }
    (inside >= pixels_min).then_some(condition)
}

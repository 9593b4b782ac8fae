use asyndgan_task::{IGNORED, Task, UNMARKED};
use ndarray::{Array2, ArrayView2};

use crate::preparation::{background_code, foreground};

/// Puts one slice's classes into another slice's outline; none if fewer than `pixels_min` of their pixels are inside.
///
/// The result is a condition without an image, for synthesis only; it is never part of a real pair. Pixels of the
/// outline's slice that were not annotated stay so.
///
/// # Shapes
/// Both conditions have the same shape `[rows, columns]`, with the codes of the task.
///
/// # Reference
/// Section 4.1, synthetic set of the brain experiment.
pub fn transplant(task: &Task, outline: ArrayView2<u8>, classes: ArrayView2<u8>, pixels_min: usize) -> Option<Array2<u8>> {
    let code = task.outline_code()?;
    let foreground = foreground(task, outline);
    let fill = background_code(outline, foreground.view());
    let mut condition = Array2::from_shape_fn(outline.dim(), |at| match outline[at] {
        found if found == code || found == IGNORED || found == UNMARKED => found,
        _ if foreground[at] => fill,
        _ => 0,
    });
    let mut inside = 0;
    for (at, &class) in classes.indexed_iter() {
        if task.is_class(class) && foreground[at] {
            condition[at] = class;
            inside += 1;
        }
    }
    (inside >= pixels_min).then_some(condition)
}

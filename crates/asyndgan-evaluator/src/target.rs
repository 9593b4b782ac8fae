use asyndgan_data::mask;
use asyndgan_task::{IGNORED, LabelKind, Task, UNMARKED};
use ndarray::{Array2, ArrayView2};

/// Number of classes of a segmenter, background included. Instances have an inside and a boundary class, so that
/// touching ones are separated.
pub fn segmenter_classes(task: &Task) -> i64 {
    match task.labels {
        LabelKind::Classes => 1 + task.targets().len() as i64,
        LabelKind::Instances => 3,
    }
}

/// The segmenter's target for a condition; the same for real and synthetic images.
///
/// # Shapes
/// `[rows, columns]` of condition codes to class numbers of the same shape; [`IGNORED`] and [`UNMARKED`] stay.
pub fn target(task: &Task, condition: ArrayView2<u8>) -> Array2<u8> {
    match task.labels {
        LabelKind::Classes => {
            let table = target_of_code(task);
            condition.mapv(|code| table[usize::from(code)])
        }
        LabelKind::Instances => {
            let marked = condition.mapv(|code| code == 1);
            let inside = mask::erode(marked.view());
            Array2::from_shape_fn(marked.dim(), |at| match condition[at] {
                code @ (IGNORED | UNMARKED) => code,
                _ if inside[at] => 1,
                _ => 2 * u8::from(marked[at]),
            })
        }
    }
}

/// The class numbers that a pixel of the code [`UNMARKED`] may have: background, and those of the classes that its site
/// does not mark. None where it is not known what the site does not mark, as for synthetic images; then the pixel does
/// not count.
pub(crate) fn possible_targets(task: &Task, absent_classes: &[usize]) -> Vec<bool> {
    let mut possible = vec![false; segmenter_classes(task) as usize];
    if absent_classes.is_empty() {
        return possible;
    }
    possible[0] = true;
    match task.labels {
        LabelKind::Classes => {
            for (number, target) in (1..).zip(task.targets()) {
                possible[number] = target.classes.iter().any(|class| absent_classes.contains(class));
            }
        }
        // The only class is absent.
        LabelKind::Instances => possible.fill(true),
    }
    possible
}

/// The class number of every condition code. The outline is background.
fn target_of_code(task: &Task) -> [u8; 256] {
    let mut table = [0; 256];
    for (number, target) in (1..).zip(task.targets()) {
        for class in target.classes {
            table[class + 1] = number;
        }
    }
    for code in [IGNORED, UNMARKED] {
        table[usize::from(code)] = code;
    }
    table
}

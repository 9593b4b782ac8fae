use ndarray::{Array2, ArrayView2};

/// Which pixels touch each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connectivity {
    /// Those that share an edge.
    Four,
    /// Those that share an edge or a corner.
    Eight,
}

/// Numbers the connected components of a mask from 1, in reading order; 0 is background.
///
/// # Shapes
/// The label map has the mask's shape.
///
/// # Example
/// ```
/// use asyndgan_metrics::{Connectivity, components};
/// let mask = ndarray::arr2(&[[true, false], [false, true]]);
/// assert_eq!(components(mask.view(), Connectivity::Four).1, 2);
/// assert_eq!(components(mask.view(), Connectivity::Eight).1, 1);
/// ```
pub fn components(mask: ArrayView2<bool>, connectivity: Connectivity) -> (Array2<u32>, u32) {
    let (height, width) = mask.dim();
    let mut labels = Array2::<u32>::zeros(mask.dim());
    let mut count = 0;
    let mut open = Vec::new();
    for ((row, column), &marked) in mask.indexed_iter() {
        if !marked || labels[[row, column]] != 0 {
            continue;
        }
        count += 1;
        labels[[row, column]] = count;
        open.push((row, column));
        while let Some((row, column)) = open.pop() {
            for r in row.saturating_sub(1)..(row + 2).min(height) {
                for c in column.saturating_sub(1)..(column + 2).min(width) {
                    let touches = connectivity == Connectivity::Eight || r == row || c == column;
                    if touches && mask[[r, c]] && labels[[r, c]] == 0 {
                        labels[[r, c]] = count;
                        open.push((r, c));
                    }
                }
            }
        }
    }
    (labels, count)
}

use ndarray::{Array, ArrayView, Dimension};

/// Which neighbours of an element count as connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connectivity {
    /// Those that share a face: 4 neighbours in 2D, 6 in 3D.
    Faces,
    /// Those that share a face or an edge: 8 neighbours in 2D, 18 in 3D.
    Edges,
    /// Those that share a face, an edge or a corner: 8 neighbours in 2D, 26 in 3D.
    Corners,
}

/// Labels the connected components of a mask from 1, in row-major order; 0 is background. Returns the label map and the
/// number of components.
///
/// # Shapes
/// The label map has the shape of the mask, with one to three axes.
///
/// # Panics
/// If there are more than three axes.
///
/// # Reference
/// `scipy.ndimage.label` with `generate_binary_structure` of connectivity 1, 2 or 3.
///
/// # Example
/// ```
/// use asyndgan_metrics::{Connectivity, connected_components};
/// let mask = ndarray::arr2(&[[true, false], [false, true]]);
/// assert_eq!(connected_components(mask.view(), Connectivity::Faces).1, 2);
/// assert_eq!(connected_components(mask.view(), Connectivity::Corners).1, 1);
/// ```
pub fn connected_components<D: Dimension>(mask: ArrayView<bool, D>, connectivity: Connectivity) -> (Array<u32, D>, u32) {
    assert!(mask.ndim() <= 3, "one to three axes are supported, got {}", mask.ndim());
    let mask = mask.as_standard_layout();
    let mut dim = [1; 3];
    dim[3 - mask.ndim()..].copy_from_slice(mask.shape());
    let mut labels = Array::zeros(mask.raw_dim());
    let count = label(
        mask.as_slice().expect("standard layout is in memory order"),
        labels.as_slice_mut().expect("new arrays are in memory order"),
        dim,
        connectivity,
    );
    (labels, count)
}

/// Earlier neighbours give an element its provisional label; those that meet are joined, and all are numbered at the
/// end.
fn label(mask: &[bool], labels: &mut [u32], [_, rows, columns]: [usize; 3], connectivity: Connectivity) -> u32 {
    let reach = match connectivity {
        Connectivity::Faces => 1,
        Connectivity::Edges => 2,
        Connectivity::Corners => 3,
    };
    let mut before: Vec<[isize; 3]> = Vec::new();
    for dz in -1..=0_isize {
        for dy in -1..=1_isize {
            for dx in -1..=1_isize {
                let earlier = (dz, dy, dx) < (0, 0, 0);
                if earlier && dz.abs() + dy.abs() + dx.abs() <= reach {
                    before.push([dz, dy, dx]);
                }
            }
        }
    }
    // The parent of each provisional label; 0 is background.
    let mut parents = vec![0_u32];
    for (i, _) in mask.iter().enumerate().filter(|(_, m)| **m) {
        let at = [i / (rows * columns), i / columns % rows, i % columns];
        let mut own = 0;
        for step in &before {
            let place: [Option<usize>; 3] = std::array::from_fn(|k| at[k].checked_add_signed(step[k]));
            let [Some(z), Some(y), Some(x)] = place else { continue };
            if y >= rows || x >= columns {
                continue;
            }
            let other = labels[(z * rows + y) * columns + x];
            if other > 0 {
                own = if own == 0 { root(&mut parents, other) } else { join(&mut parents, own, other) };
            }
        }
        if own == 0 {
            own = parents.len() as u32;
            parents.push(own);
        }
        labels[i] = own;
    }
    let mut numbers = vec![0; parents.len()];
    let mut count = 0;
    for label in labels.iter_mut().filter(|l| **l > 0) {
        let root = root(&mut parents, *label) as usize;
        if numbers[root] == 0 {
            count += 1;
            numbers[root] = count;
        }
        *label = numbers[root];
    }
    count
}

fn root(parents: &mut [u32], mut label: u32) -> u32 {
    while parents[label as usize] != label {
        // Halves the way for the next one.
        parents[label as usize] = parents[parents[label as usize] as usize];
        label = parents[label as usize];
    }
    label
}

fn join(parents: &mut [u32], a: u32, b: u32) -> u32 {
    let (a, b) = (root(parents, a), root(parents, b));
    let first = a.min(b);
    parents[a.max(b) as usize] = first;
    first
}

use ndarray::{Array3, Axis, Slice};

use crate::{Affine, Orientation};

/// A three-dimensional image, or its labels, with its place in the patient.
///
/// # Shapes
/// `[slices, rows, columns]`: NIfTI's k, j, i, so that the fastest-varying index of the file is the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume<T = f32> {
    /// Intensities or labels.
    pub voxels: Array3<T>,
    /// Where voxel (i, j, k) lies.
    pub affine: Affine,
}

impl<T: Clone> Volume<T> {
    /// Distance of neighbouring voxels along `[slices, rows, columns]`.
    pub fn spacing_mm(&self) -> [f64; 3] {
        self.affine.spacing_mm()
    }

    /// The same volume with its axes swapped and turned around until they run as asked; nothing is interpolated, every voxel stays
    /// where it is in the patient.
    ///
    /// # Panics
    /// If the letters are no orientation.
    #[must_use]
    pub fn oriented(self, wanted: Orientation) -> Self {
        let has = self.affine.orientation().axes().expect("an affine has one axis of each pair");
        let wanted = wanted.axes().expect("one letter of each of LR, PA and IS");
        // For each wanted axis: the axis of the file that runs along it, and whether to turn it around.
        let from: [(usize, bool); 3] = wanted.map(|(world, against)| {
            let axis = has.iter().position(|h| h.0 == world).expect("each world axis once");
            (axis, has[axis].1 != against)
        });
        let mut matrix = [[0.0; 4]; 3];
        let mut view = self.voxels.view();
        let far = |axis: usize| self.voxels.len_of(Axis(2 - axis)) as f64 - 1.0;
        for (row, out) in matrix.iter_mut().enumerate() {
            out[3] = self.affine.0[row][3];
            for (to, &(axis, turned)) in from.iter().enumerate() {
                let step = self.affine.0[row][axis];
                out[to] = if turned { -step } else { step };
                out[3] += if turned { step * far(axis) } else { 0.0 };
            }
        }
        for &(axis, turned) in &from {
            if turned {
                view.slice_axis_inplace(Axis(2 - axis), Slice::new(0, None, -1));
            }
        }
        // Axis a of i, j, k is axis 2 - a of the array.
        let voxels = view.permuted_axes([2 - from[2].0, 2 - from[1].0, 2 - from[0].0]).as_standard_layout().into_owned();
        Self { voxels, affine: Affine(matrix) }
    }
}

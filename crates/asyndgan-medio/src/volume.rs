use nalgebra::Matrix3;
use ndarray::{Array3, Axis, Slice};

use std::path::Path;

use crate::{Affine, Distance, Error, Orientation};

/// A three-dimensional image, or its labels, with its position in the patient.
///
/// # Shapes
/// `[slices, rows, columns]`: NIfTI's k, j, i, so that the fastest-varying index of the file is the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume<T = f32> {
    /// Intensities or labels.
    pub voxels: Array3<T>,
    /// The position of voxel (i, j, k).
    pub affine: Affine,
}

/// The positions of a volume's voxels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// The position of voxel (i, j, k).
    pub affine: Affine,
    /// Slices, rows and columns.
    pub shape: (usize, usize, usize),
}

impl<T: Clone> Volume<T> {
    /// The positions of its voxels.
    pub fn grid(&self) -> Grid {
        Grid { affine: self.affine, shape: self.voxels.dim() }
    }

    /// Voxel spacing in millimetres along `[slices, rows, columns]`.
    pub fn spacing_mm(&self) -> [f64; 3] {
        self.affine.spacing_mm()
    }

    /// The same volume with its axes permuted and flipped to the wanted orientation. Nothing is interpolated; every
    /// voxel keeps its position in the patient.
    ///
    /// # Panics
    /// If the letters are not a valid orientation.
    #[must_use]
    pub fn oriented(self, wanted: Orientation) -> Self {
        let has = self.affine.orientation().axes().expect("an affine has one axis of each pair");
        let wanted = wanted.axes().expect("one letter of each of LR, PA and IS");
        // For each wanted axis: the axis of the file that runs along it, and whether to turn it around.
        let from: [(usize, bool); 3] = wanted.map(|(world, against)| {
            let axis = has.iter().position(|h| h.0 == world).expect("each world axis once");
            (axis, has[axis].1 != against)
        });
        self.reordered(from)
    }

    /// The same volume on a grid that has the same voxels, possibly with a different axis order: axes are permuted and
    /// flipped to match the grid. Nothing is interpolated.
    ///
    /// # Errors
    /// [`GridMismatch`] if no axis order matches every voxel with one of the grid's to within 5 % of a voxel.
    pub fn on_grid(self, grid: &Grid) -> Result<Self, GridMismatch> {
        let order = grid.order_of(&self.grid())?;
        Ok(Self { affine: grid.affine, ..self.reordered(order) })
    }

    /// With other axes: for each new one the old axis, and whether it is turned around.
    fn reordered(self, from: [(usize, bool); 3]) -> Self {
        if from == [(0, false), (1, false), (2, false)] && self.voxels.is_standard_layout() {
            return self;
        }
        let affine = self.grid().reordered(from).affine;
        let mut view = self.voxels.view();
        for &(axis, turned) in &from {
            if turned {
                view.slice_axis_inplace(Axis(2 - axis), Slice::new(0, None, -1));
            }
        }
        // Axis a of i, j, k is axis 2 - a of the array.
        let voxels = view.permuted_axes([2 - from[2].0, 2 - from[1].0, 2 - from[0].0]).as_standard_layout().into_owned();
        Self { voxels, affine }
    }
}

/// For each of i, j and k: the axis that it is taken from, and whether it is turned around.
pub(crate) type Order = [(usize, bool); 3];

impl Grid {
    /// How the axes of another grid must be swapped and turned around to be this one.
    ///
    /// # Errors
    /// [`GridMismatch`] when no order brings every voxel to within 5 % of a voxel.
    pub(crate) fn order_of(&self, other: &Self) -> Result<Order, GridMismatch> {
        let order = self.order_along(&other.affine).unwrap_or([(0, false), (1, false), (2, false)]);
        let found = other.reordered(order);
        if found.shape != self.shape {
            return Err(GridMismatch::Shape { found: found.shape });
        }
        let distance = self.affine.distance(&found.affine, self.shape);
        if distance.is_same_grid() { Ok(order) } else { Err(GridMismatch::Elsewhere(distance)) }
    }

    /// For each own axis the other's that runs along it; none unless each runs along one.
    pub(crate) fn order_along(&self, other: &Affine) -> Option<Order> {
        let linear = |a: &Affine| Matrix3::from_fn(|row, axis| a.0[row][axis]);
        let steps = linear(&self.affine).try_inverse()? * linear(other);
        let mut order = [None; 3];
        for axis in 0..3 {
            let (along, step) = (0..3).map(|own| (own, steps[(own, axis)])).max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))?;
            if order[along].replace((axis, step < 0.0)).is_some() {
                return None;
            }
        }
        let [i, j, k] = order;
        Some([i?, j?, k?])
    }

    pub(crate) fn reordered(&self, from: Order) -> Self {
        // Columns, rows, slices: along i, j and k.
        let size = [self.shape.2, self.shape.1, self.shape.0];
        let mut matrix = [[0.0; 4]; 3];
        for (row, out) in matrix.iter_mut().enumerate() {
            out[3] = self.affine.0[row][3];
            for (to, &(axis, turned)) in from.iter().enumerate() {
                let step = self.affine.0[row][axis];
                out[to] = if turned { -step } else { step };
                out[3] += if turned { step * (size[axis] as f64 - 1.0) } else { 0.0 };
            }
        }
        let [i, j, k] = from.map(|(axis, _)| size[axis]);
        Self { affine: Affine(matrix), shape: (k, j, i) }
    }
}

/// The reason why a volume is not on a grid.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum GridMismatch {
    /// It has a different number of slices, rows or columns.
    Shape {
        /// Its slices, rows and columns, in the grid's order if its axes are parallel to the grid's.
        found: (usize, usize, usize),
    },
    /// Its voxels are at different positions.
    Elsewhere(Distance),
}

/// A volume whose voxels are all finite.
pub(crate) fn finite(path: &Path, volume: Volume) -> Result<Volume, Error> {
    let (all, odd) = (volume.voxels.len(), volume.voxels.iter().filter(|v| !v.is_finite()).count());
    if odd == 0 {
        return Ok(volume);
    }
    let fact = format!(
        "{odd} of its {all} voxels are NaN or infinite; where they are background, set them to 0, for example with numpy.nan_to_num"
    );
    Err(Error::unsupported(path, fact))
}

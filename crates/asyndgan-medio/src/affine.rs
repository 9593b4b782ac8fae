use std::fmt;

use nalgebra::{Matrix3, Vector3};

/// Maps voxel indices (i, j, k), fastest-varying first, to patient coordinates in millimetres (x to the right, y to the
/// front, z up: RAS+).
///
/// # Units
/// Millimetres; the fourth column is the position of voxel (0, 0, 0).
///
/// # Reference
/// The sform matrix of NIfTI-1, or `nibabel.load(...).affine`, without the constant last row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine(pub [[f64; 4]; 3]);

/// The anatomical directions of the axes i, j and k: for each axis the letter towards which it runs, one of each pair
/// `LR`, `PA` and `IS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orientation(pub [char; 3]);

impl Orientation {
    /// To the right, to the front, up: the axes of [`Affine`]'s millimetres.
    pub const RAS: Self = Self(['R', 'A', 'S']);
    /// To the left, to the back, up: a slice's first row is the patient's front and its first column the patient's
    /// right side, as in radiological display and in BraTS files.
    pub const LPS: Self = Self(['L', 'P', 'S']);

    /// For each of i, j and k: the world axis (0 x, 1 y, 2 z), and whether the axis runs against it. None if the
    /// letters are not a valid orientation.
    pub(crate) fn axes(self) -> Option<[(usize, bool); 3]> {
        let axis = |c| ["RL", "AP", "SI"].iter().position(|pair| pair.contains(c));
        let of = |c| axis(c).map(|a| (a, "LPI".contains(c)));
        let [i, j, k] = self.0.map(of);
        let axes = [i?, j?, k?];
        let distinct = axes[0].0 != axes[1].0 && axes[1].0 != axes[2].0 && axes[0].0 != axes[2].0;
        distinct.then_some(axes)
    }
}

impl fmt::Display for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|c| write!(f, "{c}"))
    }
}

impl Affine {
    /// Axis-parallel voxels in RAS+ order with voxel (0, 0, 0) at the origin.
    ///
    /// # Units
    /// Millimetres along i, j, k.
    pub fn scaling([i, j, k]: [f64; 3]) -> Self {
        Self([[i, 0.0, 0.0, 0.0], [0.0, j, 0.0, 0.0], [0.0, 0.0, k, 0.0]])
    }

    /// The affine for a rotation by the unit quaternion (a, b, c, d) with the given b, c and d.
    ///
    /// # Reference
    /// NIfTI-1 standard, method 2; `flip` is its qfac of -1.
    pub(crate) fn of_quaternion([b, c, d]: [f64; 3], [si, sj, sk]: [f64; 3], flip: bool, offset: [f64; 3]) -> Self {
        let squares = b * b + c * c + d * d;
        let (a, b, c, d) = if squares > 1.0 {
            let length = squares.sqrt();
            (0.0, b / length, c / length, d / length)
        } else {
            ((1.0 - squares).sqrt(), b, c, d)
        };
        let sk = if flip { -sk } else { sk };
        Self([
            [(a * a + b * b - c * c - d * d) * si, 2.0 * (b * c - a * d) * sj, 2.0 * (b * d + a * c) * sk, offset[0]],
            [2.0 * (b * c + a * d) * si, (a * a + c * c - b * b - d * d) * sj, 2.0 * (c * d - a * b) * sk, offset[1]],
            [2.0 * (b * d - a * c) * si, 2.0 * (c * d + a * b) * sj, (a * a + d * d - c * c - b * b) * sk, offset[2]],
        ])
    }

    /// Position of a voxel in millimetres.
    pub fn apply(&self, ijk: [f64; 3]) -> [f64; 3] {
        self.0.map(|row| row[0] * ijk[0] + row[1] * ijk[1] + row[2] * ijk[2] + row[3])
    }

    /// Voxel spacing along the axes of an array `[slices, rows, columns]`, that is along k, j, i.
    pub fn spacing_mm(&self) -> [f64; 3] {
        [2, 1, 0].map(|axis| self.step(axis).iter().map(|v| v * v).sum::<f64>().sqrt())
    }

    /// The step in millimetres from one voxel to the next along i (0), j (1) or k (2).
    pub fn step(&self, axis: usize) -> [f64; 3] {
        self.0.map(|row| row[axis])
    }

    /// The closest anatomical orientation: the assignment of axes with the largest sum of cosines.
    pub fn orientation(&self) -> Orientation {
        const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let [k, j, i] = self.spacing_mm();
        let cosine = |axis: usize, world: usize| self.0[world][axis] / [i, j, k][axis].max(f64::MIN_POSITIVE);
        let total = |order: &[usize; 3]| (0..3).map(|axis| cosine(axis, order[axis]).abs()).sum::<f64>();
        let best = ORDERS.into_iter().reduce(|a, b| if total(&b) > total(&a) { b } else { a }).unwrap_or(ORDERS[0]);
        Orientation(std::array::from_fn(|axis| {
            let [towards, against] = [['R', 'L'], ['A', 'P'], ['S', 'I']][best[axis]];
            if cosine(axis, best[axis]) < 0.0 { against } else { towards }
        }))
    }

    /// Whether the affine is valid: finite, with steps of positive length that are linearly independent.
    pub(crate) fn is_usable(&self) -> bool {
        let m = &self.0;
        let minor = |r: [usize; 2], c: [usize; 2]| m[r[0]][c[0]] * m[r[1]][c[1]] - m[r[0]][c[1]] * m[r[1]][c[0]];
        let volume = m[0][0] * minor([1, 2], [1, 2]) - m[0][1] * minor([1, 2], [0, 2]) + m[0][2] * minor([1, 2], [0, 1]);
        let lengths: f64 = self.spacing_mm().iter().product();
        m.iter().flatten().all(|v| v.is_finite()) && lengths > 0.0 && (volume / lengths).abs() > 1e-3
    }

    /// The distance between the positions that two affines give the same voxel of a grid, at the corner where they
    /// differ most.
    ///
    /// # Shapes
    /// Slices, rows and columns of the grid.
    pub fn distance(&self, other: &Self, shape: (usize, usize, usize)) -> Distance {
        let far = [shape.2, shape.1, shape.0].map(|n| n.saturating_sub(1) as f64);
        let linear = Matrix3::from_fn(|row, axis| self.0[row][axis]);
        let to_voxels = linear.try_inverse().unwrap_or_else(|| Matrix3::repeat(f64::INFINITY));
        let apart = |bits: u8| {
            let corner = std::array::from_fn(|axis| if bits >> axis & 1 == 1 { far[axis] } else { 0.0 });
            let (a, b) = (Vector3::from(self.apply(corner)), Vector3::from(other.apply(corner)));
            let finite = |v: f64| if v.is_finite() { v } else { f64::INFINITY };
            Distance { mm: finite((a - b).norm()), voxels: finite((to_voxels * (a - b)).norm()) }
        };
        (0..8)
            .map(apart)
            .fold(Distance { mm: 0.0, voxels: 0.0 }, |most, one| Distance { mm: most.mm.max(one.mm), voxels: most.voxels.max(one.voxels) })
    }

    /// Whether two affines agree to within 5 % of a voxel for every voxel of a grid.
    pub fn agrees_with(&self, other: &Self, shape: (usize, usize, usize)) -> bool {
        self.distance(other, shape).is_same_grid()
    }
}

/// The distance between expected and actual voxel positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// In millimetres.
    pub mm: f64,
    /// In voxels.
    pub voxels: f64,
}

/// Grids are one if no corner is further apart, in voxels: headers are rounded.
const SAME_GRID_VOXELS: f64 = 0.05;

impl Distance {
    /// Whether both grids are the same to within 5 % of a voxel.
    pub fn is_same_grid(&self) -> bool {
        self.voxels <= SAME_GRID_VOXELS
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} mm ({:.2} voxels)", self.mm, self.voxels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orientation_is_read_off_the_steps() {
        let lps = Affine([[-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 239.0], [0.0, 0.0, 2.5, 0.0]]);
        assert_eq!((lps.orientation(), lps.spacing_mm()), (Orientation::LPS, [2.5, 1.0, 1.0]));
        let sagittal = Affine([[0.0, 0.0, 1.2, 0.0], [0.9, 0.1, 0.0, 0.0], [-0.1, 0.9, 0.0, 0.0]]);
        assert_eq!(sagittal.orientation().to_string(), "ASR");
    }

    #[test]
    fn the_identity_quaternion_is_a_scaling() {
        let scaled = Affine::scaling([1.0, 2.0, 3.0]);
        assert_eq!(Affine::of_quaternion([0.0; 3], [1.0, 2.0, 3.0], false, [0.0; 3]), scaled);
        assert!(scaled.is_usable() && !Affine::scaling([1.0, 0.0, 3.0]).is_usable());
    }

    #[test]
    fn letters_that_share_an_axis_are_no_orientation() {
        assert!(Orientation(['L', 'R', 'S']).axes().is_none());
        assert_eq!(Orientation::LPS.axes(), Some([(0, true), (1, true), (2, false)]));
    }
}

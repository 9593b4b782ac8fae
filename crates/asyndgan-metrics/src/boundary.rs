//! The surface of a mask, row by row, within a box. Nothing is stored: recomputing it costs one byte comparison per
//! element.

/// A mask in memory order, viewed with three axes, and the box that is inspected.
#[derive(Debug, Clone)]
pub(crate) struct Boundary<'a> {
    mask: &'a [bool],
    dim: [usize; 3],
    /// How many of the last axes the mask itself has; along the others there are no neighbours.
    axes: usize,
    /// First and one past the last index of the box, by axis.
    low: [usize; 3],
    high: [usize; 3],
}

impl<'a> Boundary<'a> {
    /// Starts with the smallest box that contains all marked elements.
    pub(crate) fn new(mask: &'a [bool], shape: &[usize]) -> Self {
        assert!(shape.len() <= 3, "one to three axes are supported, got {}", shape.len());
        let mut dim = [1; 3];
        dim[3 - shape.len()..].copy_from_slice(shape);
        let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
        for (r, row) in mask.chunks_exact(dim[2].max(1)).enumerate() {
            // Without a branch inside, the compiler looks at many at once.
            if row.iter().fold(false, |any, &m| any | m) {
                let first = row.iter().position(|&m| m).unwrap_or(0);
                let last = row.iter().rposition(|&m| m).unwrap_or(0);
                for (axis, (from, to)) in [(r / dim[1], r / dim[1]), (r % dim[1], r % dim[1]), (first, last)].into_iter().enumerate() {
                    low[axis] = low[axis].min(from);
                    high[axis] = high[axis].max(to + 1);
                }
            }
        }
        Self { mask, dim, axes: shape.len(), low, high }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.high[2] == 0
    }

    /// Extends both to the box that contains both.
    pub(crate) fn share_box(&mut self, other: &mut Self) {
        for axis in 0..3 {
            self.low[axis] = self.low[axis].min(other.low[axis]);
            self.high[axis] = self.high[axis].max(other.high[axis]);
        }
        (other.low, other.high) = (self.low, self.high);
    }

    /// Sides of the box.
    pub(crate) fn size(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.high[axis] - self.low[axis])
    }

    /// A row of the box; none beyond it, where nothing is marked.
    fn row(&self, z: Option<usize>, y: Option<usize>) -> Option<&'a [bool]> {
        let (z, y) = (z? + self.low[0], y? + self.low[1]);
        let start = (z * self.dim[1] + y) * self.dim[2];
        (z < self.high[0] && y < self.high[1]).then(|| &self.mask[start + self.low[2]..start + self.high[2]])
    }

    /// Marks the elements of a row of the box that are on the surface; returns whether there is any.
    pub(crate) fn surface_row(&self, z: usize, y: usize, out: &mut [bool]) -> bool {
        let row = self.row(Some(z), Some(y)).expect("a row of the box");
        if !row.iter().fold(false, |any, &m| any | m) {
            out.fill(false);
            return false;
        }
        let (up, down) = (self.row(Some(z), y.checked_sub(1)), self.row(Some(z), Some(y + 1)));
        let (front, back) = (self.row(z.checked_sub(1), Some(y)), self.row(Some(z + 1), Some(y)));
        let across = match self.axes {
            1 => Some([row; 4]),
            2 => up.zip(down).map(|(u, d)| [u, d, row, row]),
            _ => up.zip(down).zip(front.zip(back)).map(|((u, d), (f, b))| [u, d, f, b]),
        };
        out.copy_from_slice(row);
        let n = row.len();
        if let Some([a, b, c, d]) = across.filter(|_| n > 2) {
            let (left, right) = (&row[..n - 2], &row[2..]);
            let around = a[1..].iter().zip(&b[1..]).zip(c[1..].iter().zip(&d[1..])).zip(left.iter().zip(right));
            for (out, (((a, b), (c, d)), (left, right))) in out[1..n - 1].iter_mut().zip(around) {
                *out &= !(a & b & c & d & left & right);
            }
        }
        out.iter().fold(false, |any, &m| any | m)
    }
}

use ndarray::{Array2, Array3, Array4, ArrayView, ArrayViewMut, Axis, Dimension, Slice};

/// A volume or picture in memory, before preparation.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    /// Name of the case in the data set.
    pub id: String,
    /// Stored intensities, `[channels, slices, rows, columns]`; a picture has one slice.
    pub images: Array4<f32>,
    /// Numbers of the mask, `[slices, rows, columns]`.
    pub labels: Array3<u32>,
    /// Spacing in millimetres along slices, rows and columns; 1 for pictures.
    pub spacing_mm: [f64; 3],
}

/// An image with its condition, ready for training.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The volume or picture, and the position within it.
    pub id: String,
    /// Intensities in [-1, 1], `[channels, rows, columns]`.
    pub image: Array3<f32>,
    /// Label map of the condition, `[rows, columns]`, 0 is background.
    pub condition: Array2<u8>,
}

/// A held-out volume or picture: the input of the segmenter, and the ground truth on the original grid.
#[derive(Debug, Clone, PartialEq)]
pub struct TestCase {
    /// Name of the case in the data set.
    pub id: String,
    /// Intensities in [-1, 1], `[slices, channels, rows, columns]`.
    pub images: Array4<f32>,
    /// The part of the rows and columns of `images` that shows the original grid; the rest is padding.
    pub content: Placement,
    /// Numbers of the mask on the original grid, `[slices, original rows, original columns]`.
    pub truth: Array3<u32>,
    /// Voxel spacing of the ground truth in millimetres along its axes.
    pub spacing_mm: [f64; 3],
}

impl TestCase {
    /// Sets channels to 0, as a segmenter saw them that was trained without them.
    ///
    /// # Panics
    /// If there is no such channel.
    pub fn leave_out_channels(&mut self, channels: &[usize]) {
        for &channel in channels {
            self.images.index_axis_mut(Axis(1), channel).fill(0.0);
        }
    }
}

/// A rectangle in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Rows above it.
    pub top: usize,
    /// Columns to its left.
    pub left: usize,
    /// Its rows.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
}

impl Placement {
    /// The whole of an image.
    pub fn whole(rows: usize, columns: usize) -> Self {
        Self { top: 0, left: 0, rows, columns }
    }

    /// This part of an array whose last two axes are rows and columns.
    ///
    /// # Panics
    /// If it is not inside the array.
    pub fn view_of<A, D: Dimension>(self, array: ArrayView<'_, A, D>) -> ArrayView<'_, A, D> {
        let mut part = array;
        for (axis, range) in self.ranges(part.ndim()) {
            part.slice_axis_inplace(axis, range);
        }
        part
    }

    /// This part of an array, to write to.
    ///
    /// # Panics
    /// If it is not inside the array.
    pub fn view_mut_of<A, D: Dimension>(self, array: ArrayViewMut<'_, A, D>) -> ArrayViewMut<'_, A, D> {
        let mut part = array;
        for (axis, range) in self.ranges(part.ndim()) {
            part.slice_axis_inplace(axis, range);
        }
        part
    }

    fn ranges(self, axes: usize) -> [(Axis, Slice); 2] {
        let Self { top, left, rows, columns } = self;
        [(Axis(axes - 2), Slice::from(top..top + rows)), (Axis(axes - 1), Slice::from(left..left + columns))]
    }

    /// The largest centred rectangle in a square of `size` with the physical aspect ratio of a slice.
    ///
    /// # Panics
    /// If the slice is empty.
    pub fn in_square(rows: usize, columns: usize, spacing_mm: [f64; 2], size: usize) -> Self {
        assert!(rows > 0 && columns > 0, "a slice without pixels");
        let extent = [rows as f64 * spacing_mm[0], columns as f64 * spacing_mm[1]];
        let longest = extent[0].max(extent[1]);
        let [rows, columns] = extent.map(|e| ((size as f64 * e / longest).round() as usize).clamp(1, size));
        Self { top: (size - rows) / 2, left: (size - columns) / 2, rows, columns }
    }
}

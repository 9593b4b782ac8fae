use ndarray::{Array2, Array3, ArrayView, ArrayView3, Axis, Dimension, Slice};

/// Square windows that cover a picture: their positions, and how to merge results for the windows into one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    size: usize,
    rows: usize,
    columns: usize,
    starts: Vec<(usize, usize)>,
}

impl Windows {
    /// The smallest number of evenly spaced windows that cover the picture.
    ///
    /// # Panics
    /// If a window does not fit.
    pub fn covering(rows: usize, columns: usize, size: usize) -> Self {
        Self::with_stride_max(rows, columns, size, size)
    }

    /// Evenly spaced windows that cover the picture, at most `apart` pixels apart.
    ///
    /// # Panics
    /// If a window does not fit, or `apart` is 0.
    pub fn with_stride_max(rows: usize, columns: usize, size: usize, apart: usize) -> Self {
        let starts = |length: usize| -> Vec<usize> {
            assert!(size <= length && apart > 0, "a window of {size} every {apart} does not fit {length}");
            let steps = (length - size).div_ceil(apart);
            (0..=steps).map(|i| i * (length - size) / steps.max(1)).collect()
        };
        let lefts = starts(columns);
        let starts = starts(rows).into_iter().flat_map(|top| lefts.iter().map(move |&left| (top, left))).collect();
        Self { size, rows, columns, starts }
    }

    /// Row and column of each window's first pixel.
    pub fn starts(&self) -> &[(usize, usize)] {
        &self.starts
    }

    /// Merges the windows into one picture; overlapping pixels are averaged.
    ///
    /// # Shapes
    /// Each window `[channels, size, size]`, in the order of [`Windows::starts`]; the picture `[channels, rows,
    /// columns]`.
    ///
    /// # Panics
    /// If the number of windows or their shape does not match.
    pub fn merge<'a>(&self, windows: impl IntoIterator<Item = ArrayView3<'a, f32>>) -> Array3<f32> {
        let mut windows = windows.into_iter().peekable();
        let channels = windows.peek().map_or(0, |w| w.len_of(Axis(0)));
        let mut sum = Array3::<f32>::zeros((channels, self.rows, self.columns));
        let mut seen = Array2::<f32>::zeros((self.rows, self.columns));
        let mut merged = 0;
        for (&(top, left), window) in self.starts.iter().zip(windows.by_ref()) {
            let range = |start: usize| Slice::from(start..start + self.size);
            let mut place = sum.slice_axis_mut(Axis(1), range(top));
            let mut place = place.slice_axis_mut(Axis(2), range(left));
            place += &window;
            let mut place = seen.slice_axis_mut(Axis(0), range(top));
            let mut place = place.slice_axis_mut(Axis(1), range(left));
            place += 1.0;
            merged += 1;
        }
        assert!(merged == self.starts.len() && windows.next().is_none(), "a window for every start");
        sum / seen.insert_axis(Axis(0))
    }
}

/// A square window of an array whose last two axes are rows and columns.
///
/// # Panics
/// If the window is not inside the array.
pub fn window<A, D: Dimension>(array: ArrayView<'_, A, D>, top: usize, left: usize, size: usize) -> ArrayView<'_, A, D> {
    let n = array.ndim();
    let mut window = array;
    window.slice_axis_inplace(Axis(n - 2), Slice::from(top..top + size));
    window.slice_axis_inplace(Axis(n - 1), Slice::from(left..left + size));
    window
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_windows_of_286_cover_a_side_of_1000() {
        let windows = Windows::covering(1000, 1000, 286);
        assert_eq!((windows.starts().len(), windows.starts()[1], windows.starts()[15]), (16, (0, 238), (714, 714)));
    }
}

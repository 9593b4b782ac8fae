use ndarray::{ArrayView, Axis, Dimension, Slice};

/// Row and column of the first pixel of each of the evenly spaced square windows that cover a picture, with at most
/// `apart` pixels from one to the next.
///
/// # Panics
/// If a window does not fit, or `apart` is 0.
///
/// # Example
/// ```
/// use asyndgan_data::window_starts;
/// assert_eq!(window_starts([10, 6], 6, 6), [(0, 0), (4, 0)]);
/// ```
pub fn window_starts([rows, columns]: [usize; 2], size: usize, apart: usize) -> Vec<(usize, usize)> {
    let starts = |length: usize| -> Vec<usize> {
        assert!(size <= length && apart > 0, "a window of {size} every {apart} does not fit {length}");
        let steps = (length - size).div_ceil(apart);
        (0..=steps).map(|i| i * (length - size) / steps.max(1)).collect()
    };
    let lefts = starts(columns);
    starts(rows).into_iter().flat_map(|top| lefts.iter().map(move |&left| (top, left))).collect()
}

/// As few square windows as cover the picture: see [`window_starts`].
///
/// # Panics
/// If a window does not fit.
pub fn covering_windows(rows: usize, columns: usize, size: usize) -> Vec<(usize, usize)> {
    window_starts([rows, columns], size, size)
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
        let starts = covering_windows(1000, 1000, 286);
        assert_eq!((starts.len(), starts[1], starts[15]), (16, (0, 238), (714, 714)));
    }
}

//! The order of the axes of a volume.

use asyndgan_task::SliceAxis;
use ndarray::Array3;

/// Brings a volume `[z, y, x]` to the order slices, rows, columns of an axis.
pub fn to_slice_order<T: Clone>(axis: SliceAxis, volume: Array3<T>) -> Array3<T> {
    let permuted = volume.permuted_axes(axis.order());
    permuted.as_standard_layout().into_owned()
}

/// Brings a volume of slices, rows and columns back to `[z, y, x]`.
pub fn from_slice_order<T: Clone>(axis: SliceAxis, volume: Array3<T>) -> Array3<T> {
    volume.permuted_axes(axis.inverse_order()).as_standard_layout().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_brought_back() {
        let volume = Array3::from_shape_fn((2, 3, 4), |(z, y, x)| 100 * z + 10 * y + x);
        for (axis, dim) in [(SliceAxis::Axial, (2, 3, 4)), (SliceAxis::Coronal, (3, 2, 4)), (SliceAxis::Sagittal, (4, 2, 3))] {
            let turned = to_slice_order(axis, volume.clone());
            assert_eq!(turned.dim(), dim);
            assert_eq!(from_slice_order(axis, turned), volume);
        }
    }
}

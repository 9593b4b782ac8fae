//! Tensors as arrays.

use ndarray::{Array2, Array3};
use tch::Tensor;

/// Codes `[images, 1, rows, columns]` as one array per image.
pub(crate) fn planes(codes: &Tensor) -> Vec<Array2<u8>> {
    let size = codes.size();
    let mut values = vec![0_u8; codes.numel()];
    codes.copy_data(&mut values, codes.numel());
    let shape = (size[2] as usize, size[3] as usize);
    values.chunks_exact(shape.0 * shape.1).map(|v| Array2::from_shape_vec(shape, v.to_vec()).expect("a plane")).collect()
}

/// An image `[channels, rows, columns]`.
pub(crate) fn image(tensor: &Tensor) -> Array3<f32> {
    let size = tensor.size();
    let mut values = vec![0.0; tensor.numel()];
    tensor.contiguous().copy_data(&mut values, tensor.numel());
    Array3::from_shape_vec((size[0] as usize, size[1] as usize, size[2] as usize), values).expect("an image")
}

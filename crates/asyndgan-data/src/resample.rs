use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis, stack};

/// Resamples an image by bilinear interpolation (pixel centres aligned, edges clamped), averaging first when it
/// shrinks.
///
/// # Shapes
/// `[channels, rows, columns]` to `[channels, height, width]`.
///
/// # Panics
/// If the image has no channel.
pub fn resize_bilinear(image: ArrayView3<f32>, height: usize, width: usize) -> Array3<f32> {
    let planes: Vec<_> = image.axis_iter(Axis(0)).map(|plane| axis(axis(plane, height).t(), width).reversed_axes()).collect();
    stack(Axis(0), &planes.iter().map(|array| array.view()).collect::<Vec<_>>()).expect("planes of one shape")
}

/// One axis: every output row is a triangle-weighted mean of the input rows around its centre.
fn axis(plane: ArrayView2<f32>, rows: usize) -> Array2<f32> {
    let (from, columns) = plane.dim();
    if from == rows {
        return plane.to_owned();
    }
    let scale = from as f64 / rows as f64;
    let reach = scale.max(1.0);
    let mut out = Array2::zeros((rows, columns));
    for (r, mut row) in out.axis_iter_mut(Axis(0)).enumerate() {
        let centre = (r as f64 + 0.5) * scale - 0.5;
        let (first, last) = ((centre - reach).ceil() as isize, (centre + reach).floor() as isize);
        let mut total = 0.0;
        for k in first..=last {
            let weight = (1.0 - (k as f64 - centre).abs() / reach).max(0.0) as f32;
            row.scaled_add(weight, &plane.row(k.clamp(0, from as isize - 1) as usize));
            total += weight;
        }
        row /= total;
    }
    out
}

/// Resamples labels: every output element takes the nearest input element.
///
/// # Shapes
/// `[rows, columns]` to `[height, width]`.
pub fn resize_nearest<T: Copy>(labels: ArrayView2<T>, height: usize, width: usize) -> Array2<T> {
    let (rows, columns) = labels.dim();
    Array2::from_shape_fn((height, width), |(r, c)| labels[[(2 * r + 1) * rows / (2 * height), (2 * c + 1) * columns / (2 * width)]])
}

use asyndgan_data::{TestCase, Windows, mask, resize_bilinear, window};
use asyndgan_models::Segmenter;
use asyndgan_task::{LabelKind, Task};
use ndarray::{Array2, Array3, ArrayView3, Axis};
use tch::{Device, Kind, Tensor};

use crate::{segmenter_classes, touching::watershed_split};

/// Windows that go through the segmenter at once.
const TOGETHER: usize = 32;
/// An instance smaller than this is dropped.
const INSTANCE_PIXELS_MIN: usize = 20;
/// Instances grow by this many pixels: the boundary class was taken off.
const INSTANCE_GROWTH: usize = 2;

/// Segments a held-out case, on the grid of the truth: the label of each pixel's class, or numbers of instances.
/// Classes that the task's regions do not distinguish have the label of the first of them.
///
/// The class probabilities of overlapping windows are averaged, resampled to the grid of the truth, and then turned
/// into labels.
///
/// # Shapes
/// `[slices, original rows, original columns]`.
///
/// # Panics
/// If the case is smaller than a window.
///
/// # Reference
/// Section 4.2.
pub fn predict(segmenter: &Segmenter, task: &Task, case: &TestCase, window: usize, device: Device) -> Array3<u32> {
    let (_, rows, columns) = case.truth.dim();
    let slices: Vec<Array2<u32>> = case
        .images
        .axis_iter(Axis(0))
        .map(|image| {
            let probability = probabilities(segmenter, image, window, segmenter_classes(task), device);
            let probability = resize_bilinear(case.content.view_of(probability.view()), rows, columns);
            decide(task, probability.view())
        })
        .collect();
    ndarray::stack(Axis(0), &slices.iter().map(|array| array.view()).collect::<Vec<_>>()).expect("slices of one shape")
}

fn decide(task: &Task, probability: ArrayView3<f32>) -> Array2<u32> {
    match task.labels {
        LabelKind::Classes => {
            let labels: Vec<u32> = std::iter::once(0).chain(task.targets().iter().map(|t| task.label_of(t.classes[0]))).collect();
            let likeliest = |p: ndarray::ArrayView1<f32>| (0..p.len()).reduce(|best, k| if p[k] > p[best] { k } else { best });
            let classes: Vec<u32> = probability.lanes(Axis(0)).into_iter().map(|p| labels[likeliest(p).unwrap_or(0)]).collect();
            let (_, rows, columns) = probability.dim();
            Array2::from_shape_vec((rows, columns), classes).expect("a class for every pixel")
        }
        LabelKind::Instances => {
            let class = |k: usize| probability.index_axis(Axis(0), k);
            let (inside, outside, boundary) = (class(1), class(0), class(2));
            let found = Array2::from_shape_fn(inside.dim(), |at| inside[at] > outside[at].max(boundary[at]));
            let mut labels = watershed_split(found.view());
            let mut size = vec![0; labels.iter().copied().max().unwrap_or(0) as usize + 1];
            labels.iter().for_each(|&l| size[l as usize] += 1);
            labels.mapv_inplace(|l| if size[l as usize] < INSTANCE_PIXELS_MIN { 0 } else { l });
            mask::dilate_labels(labels.view(), INSTANCE_GROWTH)
        }
    }
}

/// Class probabilities by overlapping windows, half a window apart, averaged.
fn probabilities(segmenter: &Segmenter, image: ArrayView3<f32>, size: usize, classes: i64, device: Device) -> Array3<f32> {
    let (channels, rows, columns) = image.dim();
    let windows = Windows::with_stride_max(rows, columns, size, size / 2);
    let mut found = Vec::new();
    for places in windows.starts().chunks(TOGETHER) {
        let values: Vec<f32> =
            places.iter().flat_map(|&(top, left)| window(image, top, left, size).iter().copied().collect::<Vec<_>>()).collect();
        let side = size as i64;
        let input = Tensor::from_slice(&values).view([places.len() as i64, channels as i64, side, side]).to_device(device);
        let output = segmenter.forward_eval(&input).softmax(1, Kind::Float).to_device(Device::Cpu).contiguous();
        let mut values = vec![0.0; output.numel()];
        output.copy_data(&mut values, output.numel());
        let output = ndarray::Array4::from_shape_vec((places.len(), classes as usize, size, size), values).expect("as many values");
        found.push(output);
    }
    windows.merge(found.iter().flat_map(|batch| batch.axis_iter(Axis(0))))
}

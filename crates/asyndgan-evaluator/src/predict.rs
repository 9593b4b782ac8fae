use asyndgan_data::{TestCase, mask, window_starts};
use asyndgan_models::Segmenter;
use asyndgan_task::{LabelKind, Task};
use ndarray::{Array2, Array3, ArrayView2, ArrayView4, Axis, Slice, Zip};
use tch::{Device, Kind, Tensor};

use crate::touching::watershed_split;

/// Pixels of the windows that go through the segmenter at once on a CPU, unless one window has more.
const CPU_PIXELS_TOGETHER: usize = 1 << 17;
/// The same on a GPU.
const GPU_PIXELS_TOGETHER: usize = 1 << 21;
/// An instance smaller than this is dropped: pixels of the segmenter's grid.
const INSTANCE_PIXELS_MIN: usize = 5;
/// Instances grow by this many pixels of the segmenter's grid, because the target has a boundary class of this width.
const INSTANCE_GROWTH: usize = 1;

/// Segments a held-out case, on the grid of the truth: the label of each pixel's class, or numbers of instances.
/// Classes that the task's regions do not distinguish have the label of the first of them.
///
/// The class probabilities of overlapping windows are averaged, and resampled to the grid of the truth; a pixel has the
/// class with the largest. `window` is the side of the crops that the segmenter was trained on; larger windows are less
/// accurate.
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
    let (slices, _, rows, columns) = case.images.dim();
    let starts = window_starts([rows, columns], window, (window / 2).max(1));
    let pixels = if device == Device::Cpu { CPU_PIXELS_TOGETHER } else { GPU_PIXELS_TOGETHER };
    let windows_together = (pixels / (window * window)).max(1);
    let together = (windows_together / starts.len()).max(1);
    let mut found = Array3::zeros(case.truth.dim());
    let mut places = found.axis_iter_mut(Axis(0));
    for first in (0..slices).step_by(together) {
        let images = case.images.slice_axis(Axis(0), Slice::from(first..slices.min(first + together)));
        let of_windows = |windows: &Tensor| segmenter.forward_eval(windows).softmax(1, Kind::Float);
        let probability = in_windows(&tensor(images).to_device(device), &starts, window as i64, windows_together, of_windows);
        for (image, mut place) in (0..images.len_of(Axis(0)) as i64).zip(places.by_ref()) {
            let shown = of_content(&probability.narrow(0, image, 1), case);
            let classes = likeliest(&shown, place.dim());
            let factor = (place.dim().0 as f64 / case.content.rows as f64).round().max(1.0) as usize;
            place.assign(&decide(task, classes.view(), factor));
        }
    }
    found
}

fn tensor(images: ArrayView4<f32>) -> Tensor {
    let size: Vec<i64> = images.shape().iter().map(|&n| n as i64).collect();
    Tensor::from_slice(images.as_standard_layout().as_slice().expect("standard layout")).view(&size[..])
}

/// The part of the rows and columns that shows the original grid.
fn of_content(probability: &Tensor, case: &TestCase) -> Tensor {
    let of = |n: usize| n as i64;
    probability.narrow(2, of(case.content.top), of(case.content.rows)).narrow(3, of(case.content.left), of(case.content.columns))
}

/// Applies a function to square windows, at most `together` at once. Its results are as large, and are averaged where
/// windows overlap.
///
/// # Shapes
/// `[images, channels, rows, columns]`.
fn in_windows(images: &Tensor, starts: &[(usize, usize)], side: i64, together: usize, of: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let (count, _, rows, columns) = images.size4().expect("images");
    let within = |whole: &Tensor, (top, left): (usize, usize)| whole.narrow(2, top as i64, side).narrow(3, left as i64, side);
    let options = (Kind::Float, images.device());
    let (mut sum, seen) = (None, Tensor::zeros([1, 1, rows, columns], options));
    for starts in starts.chunks((together / count as usize).max(1)) {
        let windows: Vec<Tensor> = starts.iter().map(|&start| within(images, start)).collect();
        let parts = of(&Tensor::cat(&windows, 0));
        let sum = sum.get_or_insert_with(|| Tensor::zeros([count, parts.size()[1], rows, columns], options));
        for (&start, part) in starts.iter().zip(parts.split(count, 0)) {
            let _ = within(sum, start).g_add_(&part);
            let _ = within(&seen, start).g_add_scalar_(1);
        }
    }
    let mut mean = sum.expect("at least one window");
    let _ = mean.g_div_(&seen);
    mean
}

/// The class with the largest probability on a grid of the given rows and columns.
///
/// # Shapes
/// `[1, classes, rows, columns]` to the grid.
fn likeliest(probability: &Tensor, (rows, columns): (usize, usize)) -> Array2<u8> {
    // Bilinear; averages where the grid is coarser.
    let resampled = probability.internal_upsample_bilinear2d_aa([rows as i64, columns as i64], false, None, None);
    let mut values = vec![0.0_f32; resampled.numel()];
    resampled.to_device(Device::Cpu).contiguous().copy_data(&mut values, resampled.numel());
    let planes = Array3::from_shape_vec((values.len() / (rows * columns), rows, columns), values).expect("a plane for every class");
    let mut classes = Array2::zeros((rows, columns));
    let mut largest = planes.index_axis(Axis(0), 0).to_owned();
    for (class, plane) in (1..).zip(planes.axis_iter(Axis(0)).skip(1)) {
        Zip::from(&mut classes).and(&mut largest).and(plane).for_each(|found, largest, &value| {
            if value > *largest {
                (*found, *largest) = (class, value);
            }
        });
    }
    classes
}

/// Labels of a slice whose grid is finer than the segmenter's by `factor`.
fn decide(task: &Task, classes: ArrayView2<u8>, factor: usize) -> Array2<u32> {
    match task.labels {
        LabelKind::Classes => {
            let labels: Vec<u32> = std::iter::once(0).chain(task.targets().iter().map(|t| task.label_of(t.classes[0]))).collect();
            classes.mapv(|class| labels[usize::from(class)])
        }
        LabelKind::Instances => {
            let mut labels = watershed_split(classes.mapv(|class| class == 1).view(), factor);
            let mut size = vec![0; labels.iter().copied().max().unwrap_or(0) as usize + 1];
            labels.iter().for_each(|&l| size[l as usize] += 1);
            labels.mapv_inplace(|l| if size[l as usize] < INSTANCE_PIXELS_MIN * factor * factor { 0 } else { l });
            mask::dilate_labels(labels.view(), INSTANCE_GROWTH * factor)
        }
    }
}

#[cfg(test)]
mod tests {
    use asyndgan_data::Placement;
    use asyndgan_models::SegmenterConfig;
    use ndarray::Array4;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::target;

    #[test]
    fn windows_merge_into_their_picture() {
        for (count, rows, columns, together) in [(1, 8, 8, 1), (3, 8, 40, 4), (40, 19, 9, 8), (1, 90, 80, 50)] {
            let size = [count, 3, rows, columns];
            let pictures = (Tensor::arange(size.iter().product::<i64>(), (Kind::Float, Device::Cpu)) * 0.37).sin().view(size);
            let starts = window_starts([rows as usize, columns as usize], 8, 4);
            let merged = in_windows(&pictures, &starts, 8, together, Tensor::shallow_clone);
            assert!((merged - pictures).abs().max().double_value(&[]) < 1e-6, "{size:?}");
        }
    }

    #[test]
    fn the_likeliest_class_is_found_on_a_finer_and_on_a_coarser_grid() {
        // Class 2 on the left half, class 1 on the right one.
        let left = Tensor::from_slice(&[1.0_f32, 1.0, 0.0, 0.0]).view([1, 1, 1, 4]).repeat([1, 1, 4, 1]);
        let probability = Tensor::cat(&[left.zeros_like() + 0.1, 1.0 - &left, left], 1);
        for (rows, columns) in [(4, 4), (2, 2), (8, 8), (2, 8)] {
            let expected = Array2::from_shape_fn((rows, columns), |(_, c)| if c < columns / 2 { 2 } else { 1 });
            assert_eq!(likeliest(&probability, (rows, columns)), expected);
        }
        // A coarser pixel is the mean: three of four parts are of class 1.
        let one = Tensor::from_slice(&[0.0_f32, 1.0, 1.0, 1.0]).view([1, 1, 2, 2]);
        assert_eq!(likeliest(&Tensor::cat(&[1.0 - &one, one], 1), (1, 1)), ndarray::arr2(&[[1]]));
    }

    fn nuclei() -> Task {
        let task = r#"
            name = "nuclei"
            images = "pictures"
            labels = "instances"
            channels = [{ name = "grey", normalisation = "rgb" }]
            classes = [{ name = "nucleus" }]
        "#;
        Task::parse(task).expect("a task")
    }

    #[test]
    fn a_perfect_segmenter_finds_discs_at_their_size_at_every_downsampling() {
        let condition = Array2::from_shape_fn((40, 40), |(r, c)| u8::from((r as f32 - 19.5).hypot(c as f32 - 19.5) <= 9.0));
        let classes = target(&nuclei(), condition.view());
        for factor in [1, 2, 3, 4, 8] {
            let finer = |of: &Array2<u8>| Array2::from_shape_fn((40 * factor, 40 * factor), |(r, c)| of[[r / factor, c / factor]]);
            let found = decide(&nuclei(), finer(&classes).view(), factor);
            let truth = finer(&condition).mapv(u32::from);
            let both = found.iter().zip(&truth).filter(|(a, b)| **a == 1 && **b == 1).count();
            let dice = 2.0 * both as f64 / (found.iter().chain(&truth).filter(|label| **label > 0).count()) as f64;
            assert!(dice > 0.95, "downsampling by {factor}: {dice}");
        }
    }

    #[test]
    fn an_instance_is_the_inside_class_grown_and_small_ones_are_dropped() {
        let square = |(r, c): (usize, usize), at: usize, side: usize| (at..at + side).contains(&r) && (at..at + side).contains(&c);
        // A square of 5 x 5 with its boundary, and one of 4 x 4.
        let classes = Array2::from_shape_fn((24, 24), |at| match at {
            at if square(at, 5, 5) || square(at, 17, 4) => 1,
            at if square(at, 4, 7) => 2,
            _ => 0,
        });
        let found = decide(&nuclei(), classes.view(), 2);
        assert_eq!(found.iter().filter(|&&label| label == 1).count(), found.iter().filter(|&&label| label > 0).count());
        assert_eq!([found[[3, 7]], found[[7, 7]], found[[7, 11]], found[[2, 7]], found[[18, 18]]], [1, 1, 1, 0, 0]);
    }

    #[test]
    fn a_case_is_segmented_on_the_grid_of_its_truth() {
        let task = r#"
            name = "organs"
            images = "volumes"
            channels = [{ name = "ct", normalisation = "z_score" }]
            classes = [{ name = "liver", labels = [7] }]
        "#;
        let task = Task::parse(task).expect("a task");
        let network = SegmenterConfig::new(1, 2).with(|network| {
            network.width = 4;
            network.depth = 2;
        });
        let segmenter = Segmenter::new(&network, Device::Cpu, &mut ChaCha8Rng::seed_from_u64(0));
        // More slices than go through the segmenter at once, with sides that are no multiples of the window.
        let images = Array4::from_shape_fn((60, 1, 30, 26), |(z, _, y, x)| ((z * 7 + y * x) as f32 * 0.1).sin());
        let case = |content, truth| TestCase { id: "a".into(), images: images.clone(), content, truth, spacing_mm: [1.0; 3] };
        let same = case(Placement::whole(30, 26), Array3::zeros((60, 30, 26)));
        let found = predict(&segmenter, &task, &same, 16, Device::Cpu);
        let part = Placement { top: 3, left: 2, rows: 20, columns: 10 };
        let of_part = predict(&segmenter, &task, &case(part, Array3::zeros((60, 20, 10))), 16, Device::Cpu);
        assert_eq!(of_part, part.view_of(found.view()));
        assert!(found.iter().all(|&label| label == 0 || label == 7) && found.iter().any(|&label| label == 7));
        // Every slice is segmented for itself.
        for (z, slice) in found.axis_iter(Axis(0)).enumerate() {
            let alone = TestCase {
                images: images.slice_axis(Axis(0), Slice::from(z..=z)).to_owned(),
                truth: Array3::zeros((1, 30, 26)),
                ..same.clone()
            };
            assert_eq!(predict(&segmenter, &task, &alone, 16, Device::Cpu).index_axis(Axis(0), 0), slice);
        }
        let finer = predict(&segmenter, &task, &case(Placement::whole(30, 26), Array3::zeros((60, 60, 52))), 16, Device::Cpu);
        assert_eq!(finer.dim(), (60, 60, 52));
    }
}

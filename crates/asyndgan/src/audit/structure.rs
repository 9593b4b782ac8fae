//! How similar two images are in what they show, apart from brightness and contrast.

use std::borrow::Borrow;

use asyndgan_data::window;
use ndarray::{Array2, Array3, ArrayView3, Axis};

/// Blocks of a side at which many images are compared.
pub(crate) const BLOCKS: usize = 16;

/// Images as rows of numbers: each channel averaged over blocks, without its mean, scaled to norm 1. The product of two
/// rows is the mean correlation of their channels.
pub(crate) struct Structures(Array2<f32>);

impl Structures {
    /// The structures of images at a side of so many blocks.
    pub(crate) fn new(images: impl IntoIterator<Item = impl Borrow<Array3<f32>>>, blocks: usize) -> Self {
        let rows: Vec<Vec<f32>> = images.into_iter().map(|image| structure(image.borrow().view(), blocks)).collect();
        let width = rows.first().map_or(0, Vec::len);
        let flat: Vec<f32> = rows.iter().flatten().copied().collect();
        Self(Array2::from_shape_vec((rows.len(), width), flat).expect("images of one shape"))
    }

    /// The highest similarity of each of these images to any of the others, and which that is; no value without others.
    pub(crate) fn nearest(&self, others: &Self) -> Vec<Option<(f32, usize)>> {
        if others.0.nrows() == 0 {
            return vec![None; self.0.nrows()];
        }
        let mut nearest = Vec::with_capacity(self.0.nrows());
        for part in self.0.axis_chunks_iter(Axis(0), 256) {
            let products = part.dot(&others.0.t());
            for row in products.rows() {
                nearest.push(row.iter().copied().zip(0..).max_by(|a, b| a.0.total_cmp(&b.0)));
            }
        }
        nearest
    }
}

fn structure(image: ArrayView3<f32>, blocks: usize) -> Vec<f32> {
    let (channels, rows, columns) = image.dim();
    let mut values = Vec::with_capacity(channels * blocks * blocks);
    for plane in image.outer_iter() {
        let bounds = |k: usize, side: usize| k * side / blocks..((k + 1) * side / blocks).max(k * side / blocks + 1);
        let mean = |r: usize, c: usize| {
            let (mut sum, mut count) = (0.0, 0.0);
            for row in bounds(r, rows) {
                for column in bounds(c, columns) {
                    sum += plane[[row.min(rows - 1), column.min(columns - 1)]];
                    count += 1.0;
                }
            }
            sum / count
        };
        let mut blocks: Vec<f32> = (0..blocks * blocks).map(|k| mean(k / blocks, k % blocks)).collect();
        let centre = blocks.iter().sum::<f32>() / blocks.len() as f32;
        for value in &mut blocks {
            *value -= centre;
        }
        let norm = blocks.iter().map(|value| value * value).sum::<f32>().sqrt();
        // A channel that shows nothing is similar to nothing.
        let scale = if norm > 1e-6 { 1.0 / (norm * (channels as f32).sqrt()) } else { 0.0 };
        values.extend(blocks.iter().map(|value| value * scale));
    }
    values
}

/// The views of an image in which a copy of it may appear: crops at a stride of one of [`BLOCKS`] blocks, each mirrored
/// in four ways. A copy at any other place is half a block away from one of them, at most.
pub(crate) fn appearances(image: &Array3<f32>, crop: usize) -> impl Iterator<Item = Array3<f32>> {
    let (_, rows, columns) = image.dim();
    let stride = (crop / BLOCKS).max(1);
    let places = move |margin: usize| (0..margin).step_by(stride).chain([margin]);
    let mirrored = [(false, false), (false, true), (true, false), (true, true)];
    let all = places(rows - crop).flat_map(move |top| places(columns - crop).map(move |left| (top, left)));
    all.flat_map(move |place| mirrored.map(|mirror| (place, mirror))).map(move |((top, left), (flip_rows, flip_columns))| {
        let mut view = window(image.view(), top, left, crop);
        if flip_rows {
            view.invert_axis(Axis(1));
        }
        if flip_columns {
            view.invert_axis(Axis(2));
        }
        view.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(phase: f32) -> Array3<f32> {
        Array3::from_shape_fn((2, 24, 24), |(k, r, c)| ((r as f32 * 0.7 + phase).sin() * (c as f32 * (0.4 + phase / 9.0)).cos()) + k as f32)
    }

    #[test]
    fn brightness_and_contrast_do_not_matter_and_structure_does() {
        let (one, other) = (image(0.3), image(2.1));
        let changed = one.mapv(|v| 0.4 * v - 0.2);
        let of = |image: &Array3<f32>| Structures::new([image], 12);
        let similarity = |a: &Array3<f32>, b: &Array3<f32>| of(a).nearest(&of(b))[0].expect("a value").0;
        assert!(similarity(&one, &changed) > 0.9999 && similarity(&one, &other) < 0.9);
    }

    #[test]
    fn a_shifted_and_mirrored_copy_is_found() {
        let large = image(0.3);
        for (top, left) in [(4, 2), (3, 1), (0, 4)] {
            let mut copy = window(large.view(), top, left, 20).to_owned();
            copy.invert_axis(Axis(2));
            let nearest = Structures::new([&copy], 10).nearest(&Structures::new(appearances(&large, 20), 10))[0].expect("a value");
            assert!(nearest.0 > 0.9999, "{nearest:?}");
        }
    }

    #[test]
    fn copies_at_any_place_are_more_similar_than_other_images() {
        let texture = |seed: f32| {
            let wave = |r: f32, c: f32| (r * 0.31 + seed).sin() + (c * 0.27 + 2.0 * seed).cos() + ((r + c) * 0.17 * seed).sin();
            Array3::from_shape_fn((1, 143, 143), |(_, r, c)| wave(r as f32, c as f32))
        };
        let (source, other) = (texture(1.3), texture(2.9));
        let views = Structures::new(appearances(&source, 64), BLOCKS);
        for (top, left) in [(17, 62), (2, 33), (78, 5), (41, 41)] {
            let similarity = |image: &Array3<f32>| {
                let crop = window(image.view(), top, left, 64).to_owned();
                Structures::new([&crop], BLOCKS).nearest(&views)[0].expect("a value").0
            };
            assert!(similarity(&source) > 0.93 && similarity(&other) < 0.85, "{} {}", similarity(&source), similarity(&other));
        }
    }
}

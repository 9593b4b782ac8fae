use std::path::Path;

use anyhow::{Result, anyhow};
use asyndgan_data::resize_nearest;
use asyndgan_medio::write_private_rgb;
use asyndgan_task::Task;
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis};
use plotters::{
    prelude::{BitMapBackend, IntoDrawingArea},
    style::{BLACK, IntoFont, TextStyle},
};

/// Pixels of a picture's side, and of the space around it.
const SIDE: usize = 160;
const GAP: usize = 6;
const HEADING: usize = 26;

/// A grid of pictures under headings.
pub(crate) struct Canvas {
    pixels: Array3<u8>,
    headings: Vec<String>,
}

impl Canvas {
    pub(crate) fn new(headings: Vec<String>, rows: usize) -> Self {
        let (height, width) = (HEADING + rows * (SIDE + GAP) + GAP, headings.len() * (SIDE + GAP) + GAP);
        Self { pixels: Array3::from_elem((3, height, width), 255), headings }
    }

    /// Puts a picture of three planes in 0..=255 into a row and column of the grid.
    pub(crate) fn put(&mut self, row: usize, column: usize, rgb: ArrayView3<u8>) {
        let (top, left) = (HEADING + row * (SIDE + GAP), GAP + column * (SIDE + GAP));
        for (k, plane) in rgb.axis_iter(Axis(0)).enumerate() {
            for ((r, c), &v) in resize_nearest(plane, SIDE, SIDE).indexed_iter() {
                self.pixels[[k, top + r, left + c]] = v;
            }
        }
    }

    /// Puts pictures side by side.
    pub(crate) fn put_all(&mut self, row: usize, column: usize, pictures: &[Array3<u8>]) {
        for (k, picture) in pictures.iter().enumerate() {
            self.put(row, column + k, picture.view());
        }
    }

    /// Writes the pictures as a PNG that only its owner can read: they may show patients.
    pub(crate) fn save(self, path: &Path) -> Result<()> {
        super::with_font()?;
        let (_, height, width) = self.pixels.dim();
        let mut buffer: Vec<u8> = self.pixels.permuted_axes([1, 2, 0]).iter().copied().collect();
        {
            let area = BitMapBackend::with_buffer(&mut buffer, (width as u32, height as u32)).into_drawing_area();
            let style = TextStyle::from(("sans-serif", 15).into_font()).color(&BLACK);
            for (column, heading) in self.headings.iter().enumerate() {
                let at = ((GAP + column * (SIDE + GAP)) as i32, 5);
                area.draw_text(heading, &style, at).map_err(|e| anyhow!("cannot draw {}: {e}", path.display()))?;
            }
            area.present().map_err(|e| anyhow!("cannot draw {}: {e}", path.display()))?;
        }
        let drawn = Array3::from_shape_vec((height, width, 3), buffer)?;
        Ok(write_private_rgb(path, drawn.permuted_axes([2, 0, 1]).view())?)
    }
}

/// Pictures of an image in [-1, 1]: one of a coloured image, otherwise a grey one for each channel.
pub(crate) fn of_image(task: &Task, image: ArrayView3<f32>) -> Vec<Array3<u8>> {
    let (channels, rows, columns) = image.dim();
    let level = |v: f32| ((v + 1.0) * 127.5).clamp(0.0, 255.0) as u8;
    if task.is_coloured() {
        return vec![image.mapv(level)];
    }
    (0..channels).map(|k| Array3::from_shape_fn((3, rows, columns), |(_, r, c)| level(image[[k, r, c]]))).collect()
}

/// Headings of the pictures of an image.
pub(crate) fn headings_of(task: &Task, image: &str) -> Vec<String> {
    if task.is_coloured() || task.channels.len() == 1 {
        return vec![image.to_owned()];
    }
    task.channels.iter().map(|channel| format!("{image} {}", channel.name)).collect()
}

/// Labels, each in its own colour on black.
pub(crate) fn of_labels(labels: ArrayView2<u32>) -> Array3<u8> {
    let (rows, columns) = labels.dim();
    let colour = |label: u32, k: usize| match label {
        0 => 0,
        1 => [255, 214, 90][k],
        // Well-spread hues: multiples of a large odd number.
        l => (l.wrapping_mul(2_654_435_761) >> (8 * k)) as u8 | 64,
    };
    Array3::from_shape_fn((3, rows, columns), |(k, r, c)| colour(labels[[r, c]], k))
}

/// Label maps of conditions.
pub(crate) fn of_codes(codes: &Array2<u8>) -> Array3<u8> {
    of_labels(codes.mapv(u32::from).view())
}

//! Volumes, which are cut into slices.

use asyndgan_task::IGNORED;
use ndarray::{Array2, Array3, Array4, ArrayView2, ArrayView4, Axis};

use super::Preparation;
use crate::{
    Case, Placement, Study, TestCase, mask,
    normalise::{is_foreground, normalise},
    resize_bilinear, resize_nearest,
};

impl Preparation<'_> {
    pub(super) fn slices(&self, study: &Study) -> Vec<Case> {
        let scaled = self.scaled(study.images.view());
        let mut cases = Vec::new();
        for (z, plane) in study.labels.outer_iter().enumerate() {
            if !self.is_marked_enough(plane) {
                continue;
            }
            let codes = plane.mapv(|label| self.task.condition_code_of(label).unwrap_or(IGNORED));
            let inside = self.outline_channel().filter(|_| self.task.outline).map(|k| {
                let normalisation = self.task.channels[k].normalisation;
                study.images.index_axis(Axis(0), k).index_axis(Axis(0), z).mapv(|v| is_foreground(normalisation, v))
            });
            let condition = self.slice_condition(codes.view(), inside.as_ref().map(|array| array.view()), study.spacing_mm);
            // A structure of few pixels may vanish when the slice shrinks: such a slice has no condition to learn from.
            if self.shows_class(&condition) {
                cases.push(Case { id: format!("{}#{z}", study.id), image: self.slice_image(&scaled, z, study.spacing_mm), condition });
            }
        }
        cases
    }

    /// Every channel of a volume in [-1, 1].
    pub(super) fn scaled(&self, images: ArrayView4<f32>) -> Array4<f32> {
        let mut scaled = Array4::zeros(images.raw_dim());
        for (k, channel) in self.present_channels() {
            scaled.index_axis_mut(Axis(0), k).assign(&normalise(channel.normalisation, images.index_axis(Axis(0), k)));
        }
        scaled
    }

    pub(super) fn placement(&self, rows: usize, columns: usize, spacing_mm: [f64; 3]) -> Placement {
        Placement::in_square(rows, columns, [spacing_mm[1], spacing_mm[2]], self.size)
    }

    /// One slice of all channels, resized and padded with the lowest intensity.
    pub(super) fn slice_image(&self, scaled: &Array4<f32>, z: usize, spacing_mm: [f64; 3]) -> Array3<f32> {
        let (channels, _, rows, columns) = scaled.dim();
        let content = self.placement(rows, columns, spacing_mm);
        let resized = resize_bilinear(scaled.index_axis(Axis(1), z), content.rows, content.columns);
        let mut image = Array3::from_elem((channels, self.size, self.size), -1.0);
        content.view_mut_of(image.view_mut()).assign(&resized);
        image
    }

    pub(super) fn volume(&self, id: &str, images: ArrayView4<f32>, spacing_mm: [f64; 3], slices: std::ops::Range<usize>) -> TestCase {
        let scaled = self.scaled(images);
        let (channels, _, rows, columns) = scaled.dim();
        let mut prepared = Array4::zeros((slices.len(), channels, self.size, self.size));
        for (mut image, z) in prepared.outer_iter_mut().zip(slices.clone()) {
            image.assign(&self.slice_image(&scaled, z, spacing_mm));
        }
        let truth = Array3::zeros((slices.len(), rows, columns));
        TestCase { id: id.into(), images: prepared, content: self.placement(rows, columns, spacing_mm), truth, spacing_mm }
    }

    /// Classes at the size of the networks, with the outline of what is inside on the original grid: a line would not
    /// survive the resizing.
    pub(super) fn slice_condition(&self, codes: ArrayView2<u8>, inside: Option<ArrayView2<bool>>, spacing_mm: [f64; 3]) -> Array2<u8> {
        let (rows, columns) = codes.dim();
        let content = self.placement(rows, columns, spacing_mm);
        let mut resized = resize_nearest(codes, content.rows, content.columns);
        if let (Some(inside), Some(code)) = (inside, self.task.outline_code()) {
            let outline = mask::contour(mask::fill_holes(resize_nearest(inside, content.rows, content.columns).view()).view());
            resized.zip_mut_with(&outline, |found, &on| {
                if *found == 0 && on {
                    *found = code;
                }
            });
        }
        let mut condition = Array2::zeros((self.size, self.size));
        content.view_mut_of(condition.view_mut()).assign(&resized);
        condition
    }
}

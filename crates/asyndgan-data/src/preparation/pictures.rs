//! Pictures, which are cut into patches.

use asyndgan_task::{IGNORED, LabelKind};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis, Slice};

use super::Preparation;
use crate::{Case, StainReference, Study, covering_windows, mask, normalise::normalise, reinhard, resize_bilinear, resize_nearest, window};

impl Preparation<'_> {
    pub(super) fn patches(&self, study: &Study) -> Vec<Case> {
        let image = self.picture(study.images.index_axis(Axis(1), 0));
        let (_, rows, columns) = image.dim();
        let condition = self.picture_condition(study.labels.index_axis(Axis(0), 0));
        let starts = covering_windows(rows, columns, self.size);
        let case = |&(top, left): &(usize, usize)| Case {
            id: format!("{}#{top},{left}", study.id),
            image: window(image.view(), top, left, self.size).to_owned(),
            condition: window(condition.view(), top, left, self.size).to_owned(),
        };
        starts.iter().map(case).filter(|case| case.condition.iter().any(|&code| code != IGNORED)).collect()
    }

    pub(super) fn picture(&self, image: ArrayView3<f32>) -> Array3<f32> {
        let (channels, rows, columns) = image.dim();
        let (height, width) = (rows / self.downsampling, columns / self.downsampling);
        let resized = if self.task.is_stained() {
            resize_bilinear(reinhard(image, &StainReference::HAEMATOXYLIN_EOSIN).view(), height, width)
        } else {
            resize_bilinear(image, height, width)
        };
        let mut scaled = Array3::zeros((channels, height, width));
        for (k, channel) in self.task.channels.iter().enumerate() {
            let plane = resized.slice_axis(Axis(0), Slice::from(k..=k));
            scaled.slice_axis_mut(Axis(0), Slice::from(k..=k)).assign(&normalise(channel.normalisation, plane));
        }
        scaled
    }

    /// The codes of a picture's mask, downsampled; instances are separated where they touch.
    pub(super) fn picture_condition(&self, labels: ArrayView2<u32>) -> Array2<u8> {
        let (rows, columns) = labels.dim();
        let labels = resize_nearest(labels, rows / self.downsampling, columns / self.downsampling);
        let codes = labels.mapv(|label| self.task.condition_code_of(label).unwrap_or(IGNORED));
        if self.task.labels == LabelKind::Classes {
            return codes;
        }
        let apart = mask::separate_touching(labels.view());
        Array2::from_shape_fn(codes.dim(), |at| if codes[at] == IGNORED { IGNORED } else { u8::from(apart[at]) })
    }
}

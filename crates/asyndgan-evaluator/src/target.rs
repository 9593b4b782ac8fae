use asyndgan_medio::{mask, prepare};
use ndarray::{Array2, ArrayView2};

/// The segmentation task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Whole tumour versus background.
    Tumour,
    /// Nuclei: background, inside, boundary.
    Nuclei,
}

impl Task {
    /// Number of classes, background included.
    pub fn classes(self) -> i64 {
        match self {
            Task::Tumour => 2,
            Task::Nuclei => 3,
        }
    }

    /// The segmenter's target for a condition; the same for real and synthetic images.
    ///
    /// # Shapes
    /// `[rows, columns]` of condition codes to class numbers of the same shape.
    pub fn target(self, condition: ArrayView2<u8>) -> Array2<u8> {
        match self {
            Task::Tumour => condition.mapv(|code| u8::from(code > 0 && code != prepare::BRAIN_OUTLINE)),
            Task::Nuclei => {
                let nuclei = condition.mapv(|code| code > 0);
                let inside = mask::eroded(nuclei.view());
                Array2::from_shape_fn(nuclei.dim(), |at| if inside[at] { 1 } else { 2 * u8::from(nuclei[at]) })
            }
        }
    }
}

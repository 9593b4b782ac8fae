//! The inputs of training and scoring.

use ndarray::{Array2, Array3, Array4};

/// One patient's brain: a T2 volume with tumour labels.
#[derive(Debug, Clone)]
pub struct Brain {
    /// The patient's name in the data set.
    pub id: String,
    /// Intensities, `[slices, rows, columns]`.
    pub t2: Array3<f32>,
    /// Tumour labels of the same shape: 0 none, 1 necrotic core, 2 oedema, 3 enhancing (4 in BraTS until 2021), and
    /// [`IGNORED`](crate::prepare::IGNORED) for voxels without annotation.
    pub labels: Array3<u8>,
    /// Voxel spacing in millimetres along those axes.
    pub spacing_mm: [f64; 3],
}

/// One stained tissue tile with its nuclei.
#[derive(Debug, Clone)]
pub struct Tile {
    /// The tile's name in the data set.
    pub id: String,
    /// Red, green, blue in 0..=255, `[3, rows, columns]`.
    pub rgb: Array3<f32>,
    /// Instance labels, `[rows, columns]`, 0 is background.
    pub instances: Array2<u32>,
}

/// An image with its condition, ready for training.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The patient or tile, and the position within it.
    pub id: String,
    /// Intensities in [-1, 1], `[channels, rows, columns]`.
    pub image: Array3<f32>,
    /// Condition codes, `[rows, columns]`, 0 is background.
    pub condition: Array2<u8>,
}

/// A held-out volume or tile: the input of the segmenter, and the ground truth on the original grid.
#[derive(Debug, Clone, PartialEq)]
pub struct TestCase {
    /// The patient's or tile's name.
    pub id: String,
    /// Intensities in [-1, 1], `[slices, channels, rows, columns]`.
    pub images: Array4<f32>,
    /// Labels on the original grid, `[slices, original rows, original columns]`: tumour labels or instances.
    pub truth: Array3<u32>,
    /// Voxel spacing of the ground truth in millimetres along its axes.
    pub spacing_mm: [f64; 3],
}

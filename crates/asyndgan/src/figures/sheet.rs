use std::path::Path;

use anyhow::Result;
use ndarray::{Array2, Array3};

use super::canvas::{Canvas, of_labels};

/// Cases on a contact sheet.
pub(crate) const SHEET_ROWS: usize = 12;

/// Draws pictures, each next to its labels.
pub(crate) fn contact_sheet(cases: &[(Array3<u8>, Option<Array2<u32>>)], path: &Path) -> Result<()> {
    let pairs = cases.len().div_ceil(3);
    let headings = ["image", "labels"].repeat(cases.len().min(3)).into_iter().map(str::to_owned).collect();
    let mut canvas = Canvas::new(headings, pairs);
    for (i, (rgb, labels)) in cases.iter().enumerate() {
        canvas.put(i / 3, 2 * (i % 3), rgb.view());
        let labels = labels.as_ref().map_or_else(|| Array3::zeros(rgb.dim()), |l| of_labels(l.view()));
        canvas.put(i / 3, 2 * (i % 3) + 1, labels.view());
    }
    canvas.save(path)
}

use std::path::Path;

use anyhow::Result;
use asyndgan_medio::Subject;
use ndarray::Array3;

use super::canvas::{Canvas, of_labels};

/// Cases on a contact sheet.
pub(crate) const SHEET_ROWS: usize = 12;

/// Draws named cases, each beside its labels: of a volume the slice that shows most of what is labelled.
pub(crate) fn contact_sheet(cases: &[(String, Subject)], path: &Path) -> Result<()> {
    let pairs = cases.len().div_ceil(3);
    let headings = ["image", "labels"].repeat(cases.len().min(3)).into_iter().map(str::to_owned).collect();
    let mut canvas = Canvas::new(headings, pairs);
    for (i, (_, subject)) in cases.iter().enumerate() {
        let (rgb, labels) = subject.middle();
        canvas.put(i / 3, 2 * (i % 3), rgb.view());
        let labels = labels.map_or_else(|| Array3::zeros(rgb.dim()), |l| of_labels(l.view()));
        canvas.put(i / 3, 2 * (i % 3) + 1, labels.view());
    }
    canvas.save(path)
}

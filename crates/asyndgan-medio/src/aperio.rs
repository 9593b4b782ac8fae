use std::path::Path;

use ndarray::Array2;

use crate::Error;

/// Annotation files beyond this are refused.
const BYTES_MAX: u64 = 256 << 20;

/// Reads the regions of an Aperio `ImageScope` annotation as instance labels, numbered from 1 in file order.
///
/// X is the column, Y the row; a pixel belongs to a region when its centre lies inside (even-odd rule); where regions overlap
/// the later one wins; regions that cover no pixel centre take no label.
///
/// # Shapes
/// `[rows, columns]` of the picture that was annotated, 0 is background.
///
/// # Units
/// Vertices are in pixels of that picture.
///
/// # Errors
/// [`Error::Io`], or [`Error::Unreadable`] for broken XML or a vertex that is not a finite number.
pub fn read_annotations(path: &Path, rows: usize, columns: usize) -> Result<Array2<u32>, Error> {
    let length = std::fs::metadata(path).map_err(Error::io(path))?.len();
    if length > BYTES_MAX {
        return Err(Error::unreadable(path, format!("it has {length} bytes, at most {BYTES_MAX} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let document = roxmltree::Document::parse(&text).map_err(|e| Error::unreadable(path, e))?;
    let mut labels = Array2::zeros((rows, columns));
    let mut next = 1;
    for region in document.descendants().filter(|n| n.has_tag_name("Region")) {
        let vertices = region.descendants().filter(|n| n.has_tag_name("Vertex"));
        let number = |node: roxmltree::Node, name| node.attribute(name).and_then(|v| v.parse::<f64>().ok()).filter(|v| v.is_finite());
        let polygon = vertices.map(|v| Some((number(v, "X")?, number(v, "Y")?))).collect::<Option<Vec<_>>>();
        let polygon = polygon.ok_or_else(|| Error::unreadable(path, "a vertex lacks a finite X or Y"))?;
        if fill(&mut labels, &polygon, next) {
            next += 1;
        }
    }
    if document.descendants().all(|n| !n.has_tag_name("Region")) {
        return Err(Error::unreadable(path, "it holds no Region"));
    }
    Ok(labels)
}

/// Fills a polygon by scan lines through pixel centres; says whether it covered any.
fn fill(labels: &mut Array2<u32>, polygon: &[(f64, f64)], label: u32) -> bool {
    let (rows, columns) = labels.dim();
    let (low, high) = polygon.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (_, y)| (l.min(*y), h.max(*y)));
    let mut covered = false;
    for row in low.floor().max(0.0) as usize..(high.ceil().max(0.0) as usize).min(rows) {
        let y = row as f64 + 0.5;
        let mut crossings: Vec<f64> = polygon
            .iter()
            .zip(polygon.iter().cycle().skip(1))
            .filter(|((_, a), (_, b))| (*a <= y) != (*b <= y))
            .map(|((ax, ay), (bx, by))| ax + (y - ay) / (by - ay) * (bx - ax))
            .collect();
        crossings.sort_by(f64::total_cmp);
        for pair in crossings.chunks_exact(2) {
            let from = (pair[0] - 0.5).ceil().max(0.0) as usize;
            let to = (pair[1] - 0.5).ceil().max(0.0) as usize;
            for column in from..to.min(columns) {
                labels[[row, column]] = label;
                covered = true;
            }
        }
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x_is_the_column_and_later_regions_win() {
        let mut labels = Array2::zeros((4, 6));
        assert!(fill(&mut labels, &[(1.0, 0.0), (5.0, 0.0), (5.0, 2.0), (1.0, 2.0)], 1));
        assert!(fill(&mut labels, &[(4.0, 1.0), (6.0, 1.0), (6.0, 9.0), (4.0, 9.0)], 2));
        assert!(!fill(&mut labels, &[(0.1, 0.1), (0.2, 0.1), (0.2, 0.2)], 3));
        let expected = ndarray::arr2(&[[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 2, 2], [0, 0, 0, 0, 2, 2], [0, 0, 0, 0, 2, 2]]);
        assert_eq!(labels, expected);
    }
}

//! Regions as polygons, and polygons as pixels.

use std::path::Path;

use ndarray::Array2;

use super::xml::{Region, Shape};
use crate::Error;

/// Maximum number of crossings between the edges of one region and pixel rows. Each needs 16 bytes of memory.
const CROSSINGS_MAX: usize = 1 << 24;
/// Edges that an ellipse is drawn with.
const ELLIPSE_EDGES: usize = 720;

impl Region {
    /// The polygon that it draws.
    pub(super) fn outline(&self, path: &Path, rows: usize) -> Result<Vec<(f64, f64)>, Error> {
        let polygon = match (self.shape, &self.vertices[..]) {
            (Shape::NoArea, _) => Vec::new(),
            (Shape::Rectangle, &[(ax, ay), (bx, by)]) => vec![(ax, ay), (bx, ay), (bx, by), (ax, by)],
            (Shape::Ellipse, &[(ax, ay), (bx, by)]) => ellipse((ax, ay), (bx, ay), (bx, by)),
            (Shape::Ellipse, &[a, b, c, _]) => ellipse(a, b, c),
            (_, vertices) => vertices.to_vec(),
        };
        if crossings(&polygon, rows) > CROSSINGS_MAX {
            let fact = format!("region {} has edges that cross more than {CROSSINGS_MAX} rows in total; draw it again", self.number);
            return Err(Error::unsupported(path, fact));
        }
        Ok(polygon)
    }

    /// The smallest and largest X and Y.
    pub(super) fn bounds(&self) -> [f64; 4] {
        let bounds = |b: [f64; 4], (x, y): &(f64, f64)| [b[0].min(*x), b[1].max(*x), b[2].min(*y), b[3].max(*y)];
        let (x, y) = self.vertices.first().copied().unwrap_or_default();
        self.vertices.iter().fold([x, x, y, y], bounds)
    }
}

/// The ellipse that touches the sides of a parallelogram with three of its corners in order.
fn ellipse(a: (f64, f64), b: (f64, f64), c: (f64, f64)) -> Vec<(f64, f64)> {
    let (centre, u, v) = (
        (f64::midpoint(a.0, c.0), f64::midpoint(a.1, c.1)),
        ((b.0 - a.0) / 2.0, (b.1 - a.1) / 2.0),
        ((c.0 - b.0) / 2.0, (c.1 - b.1) / 2.0),
    );
    let at = |k: usize| {
        let (sin, cos) = (std::f64::consts::TAU * k as f64 / ELLIPSE_EDGES as f64).sin_cos();
        (centre.0 + cos * u.0 + sin * v.0, centre.1 + cos * u.1 + sin * v.1)
    };
    (0..ELLIPSE_EDGES).map(at).collect()
}

/// Renumbers labels so that labels without pixels leave no gap. Returns how many labels are left.
pub(super) fn close_gaps(labels: &mut Array2<u32>, drawn: u32) -> u32 {
    let mut number = vec![0; drawn as usize + 1];
    labels.iter().for_each(|&l| number[l as usize] = 1);
    number[0] = 0;
    let mut next = 0;
    for n in &mut number {
        if *n > 0 {
            next += 1;
            *n = next;
        }
    }
    if next < drawn {
        labels.mapv_inplace(|l| number[l as usize]);
    }
    next
}

/// How often a polygon's edges cross a row's middle, at most.
fn crossings(polygon: &[(f64, f64)], rows: usize) -> usize {
    let row = |y: f64| y.clamp(0.0, rows as f64) as usize;
    polygon.iter().zip(polygon.iter().cycle().skip(1)).map(|(a, b)| row(a.1).abs_diff(row(b.1)) + 1).sum()
}

/// Fills a polygon by scan lines through pixel centres. Returns how many pixels it covers, and how many of them it
/// overwrote.
pub(super) fn fill(labels: &mut Array2<u32>, polygon: &[(f64, f64)], label: u32) -> (usize, usize) {
    let (rows, columns) = labels.dim();
    let (mut covered, mut taken) = (0, 0);
    if polygon.len() < 3 {
        return (0, 0);
    }
    // Every edge once, by the rows that it crosses: no row looks at all edges.
    let (low, high) = polygon.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (_, y)| (l.min(*y), h.max(*y)));
    let first = low.floor().max(0.0) as usize;
    let last = (high.ceil().max(0.0) as usize).min(rows);
    let mut crossings: Vec<(usize, f64)> = Vec::new();
    for (&(ax, ay), &(bx, by)) in polygon.iter().zip(polygon.iter().cycle().skip(1)) {
        let (top, bottom) = (ay.min(by), ay.max(by));
        // Rows whose centre y satisfies top <= y < bottom.
        let from = ((top - 0.5).ceil().max(0.0) as usize).max(first);
        let to = ((bottom - 0.5).ceil().max(0.0) as usize).min(last);
        crossings.extend((from..to).map(|row| (row, ax + (row as f64 + 0.5 - ay) / (by - ay) * (bx - ax))));
    }
    crossings.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    for pair in crossings.chunks_exact(2) {
        let from = (pair[0].1 - 0.5).ceil().max(0.0) as usize;
        let to = (pair[1].1 - 0.5).ceil().max(0.0) as usize;
        for column in from..to.min(columns) {
            let pixel = &mut labels[[pair[0].0, column]];
            taken += usize::from(*pixel > 0);
            *pixel = label;
            covered += 1;
        }
    }
    (covered, taken)
}

//! Exact distances from one surface to another.
//!
//! Along rows, how many steps the nearest element of the other surface is away; in every plane, by the lower envelope of parabolas, the
//! steps along rows and columns to the nearest in the plane; then, for the elements of the first surface alone, outwards over the
//! planes until none can be nearer. Steps are whole numbers, so that they take little room and distances are exact.

use crate::boundary::Boundary;

/// A number of steps along an axis.
trait Steps: Copy {
    /// Stands for "nothing there".
    const FAR: usize;
    fn of(steps: usize) -> Self;
    fn get(self) -> usize;
}

macro_rules! steps {
    ($of:ty) => {
        impl Steps for $of {
            const FAR: usize = <$of>::MAX as usize;
            fn of(steps: usize) -> Self {
                steps as $of
            }
            fn get(self) -> usize {
                self as usize
            }
        }
    };
}

steps!(u8);
steps!(u16);
steps!(u32);

/// The distance from each element of `from`'s surface to the nearest of `to`'s, in reading order.
pub(crate) fn distances(from: &Boundary, to: &Boundary, spacing_mm: [f64; 3]) -> Vec<f64> {
    let [_, rows, columns] = to.size();
    match rows.max(columns) {
        0..255 => measure::<u8>(from, to, spacing_mm),
        255..65_535 => measure::<u16>(from, to, spacing_mm),
        _ => measure::<u32>(from, to, spacing_mm),
    }
}

fn measure<S: Steps>(from: &Boundary, to: &Boundary, [thick, high, wide]: [f64; 3]) -> Vec<f64> {
    let [planes, rows, columns] = to.size();
    let squares = |n: usize, step: f64| (0..n).map(|k| (k as f64 * step).powi(2)).collect::<Vec<f64>>();
    let (down, across) = (squares(rows, high), squares(columns, wide));
    let mut steps = vec![(S::of(S::FAR), S::of(S::FAR)); planes * rows * columns];
    let mut line = vec![false; columns];
    let mut envelope = Envelope::new(rows, high);
    let mut filled = Vec::with_capacity(planes);
    for (z, plane) in steps.chunks_exact_mut(rows * columns).enumerate() {
        let mut any = false;
        for (y, row) in plane.chunks_exact_mut(columns).enumerate() {
            if to.surface_row(z, y, &mut line) {
                along_row(&line, row);
                any = true;
            }
        }
        if any {
            for x in 0..columns {
                envelope.along_column(plane, columns, x, &across);
            }
        }
        filled.push(any);
    }
    let mut found = Vec::new();
    for z in 0..planes {
        for y in 0..rows {
            if !from.surface_row(z, y, &mut line) {
                continue;
            }
            for (x, _) in line.iter().enumerate().filter(|(_, on)| **on) {
                let in_plane = |z: usize| {
                    let (a, b) = steps[(z * rows + y) * columns + x];
                    across[a.get()] + down[b.get()]
                };
                let mut best = if filled[z] { in_plane(z) } else { f64::INFINITY };
                for away in 1..planes {
                    let beyond = (away as f64 * thick).powi(2);
                    if beyond >= best {
                        break;
                    }
                    for z in [z.checked_sub(away), Some(z + away)].into_iter().flatten() {
                        if z < planes && filled[z] {
                            best = best.min(beyond + in_plane(z));
                        }
                    }
                }
                found.push(best.sqrt());
            }
        }
    }
    found
}

/// Steps along a row to its nearest element that is on the surface.
fn along_row<S: Steps>(line: &[bool], row: &mut [(S, S)]) {
    let mut away = S::FAR;
    for (on, steps) in line.iter().zip(&mut *row) {
        away = if *on { 0 } else { (away + 1).min(S::FAR) };
        steps.0 = S::of(away);
    }
    let mut away = S::FAR;
    for (on, steps) in line.iter().zip(row).rev() {
        away = if *on { 0 } else { (away + 1).min(S::FAR) };
        steps.0 = S::of(away.min(steps.0.get()));
    }
}

/// The lower envelope of a column's parabolas.
///
/// # Reference
/// Felzenszwalb and Huttenlocher, Theory of Computing 8, 2012.
struct Envelope {
    /// For each parabola: its row, its height, its steps along the row, and where it takes over from the one before.
    parabolas: Vec<(usize, f64, usize, f64)>,
    per_square: f64,
    halves: Vec<f64>,
}

impl Envelope {
    fn new(rows: usize, step: f64) -> Self {
        let halves = (0..rows).map(|k| 0.5 / k as f64).collect();
        Self { parabolas: Vec::with_capacity(rows), per_square: 1.0 / (step * step), halves }
    }

    /// Replaces the steps of column `x` by those to the nearest element of the plane.
    fn along_column<S: Steps>(&mut self, plane: &mut [(S, S)], columns: usize, x: usize, across: &[f64]) {
        self.parabolas.clear();
        for (y, (steps, _)) in plane[x..].iter().step_by(columns).enumerate() {
            let steps = steps.get();
            if steps == S::FAR {
                continue;
            }
            let height = across[steps] * self.per_square + (y * y) as f64;
            let mut start = f64::NEG_INFINITY;
            while let Some(&(p, other, _, from)) = self.parabolas.last() {
                start = (height - other) * self.halves[y - p];
                if start > from {
                    break;
                }
                self.parabolas.pop();
                start = f64::NEG_INFINITY;
            }
            self.parabolas.push((y, height, steps, start));
        }
        let mut k = 0;
        for (y, place) in plane[x..].iter_mut().step_by(columns).enumerate() {
            while self.parabolas.get(k + 1).is_some_and(|next| next.3 < y as f64) {
                k += 1;
            }
            if let Some(&(p, _, steps, _)) = self.parabolas.get(k) {
                *place = (S::of(steps), S::of(y.abs_diff(p)));
            }
        }
    }
}

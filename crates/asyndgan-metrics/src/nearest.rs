//! Exact distances from one surface to another.
//!
//! First, every element gets the number of steps along its row to the nearest element of the other surface. Then, for
//! every element of the first surface, the search goes outwards over the rows of its plane and over the planes, until
//! no element can be nearer. Surfaces are usually close to each other, so the search is short. If a plane has been
//! searched for long, the distances of all its elements are computed at once, by the lower envelope of parabolas. In
//! the worst case, every element inspects every plane once. Steps are integers, which saves memory.

use crate::boundary::Boundary;

/// A number of steps along an axis.
trait Steps: Copy {
    /// Stands for "nothing there".
    const FAR: usize;
    fn from_steps(steps: usize) -> Self;
    fn get(self) -> usize;
}

macro_rules! steps {
    ($of:ty) => {
        impl Steps for $of {
            const FAR: usize = <$of>::MAX as usize;
            fn from_steps(steps: usize) -> Self {
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
    let mut line = vec![false; columns];
    let mut there = Planes::<S>::new(to, high, wide, &mut line);
    let filled: Vec<usize> = (0..planes).filter(|&z| there.states[z] != State::Empty).collect();
    let mut found = Vec::new();
    for z in 0..planes {
        for y in 0..rows {
            if !from.surface_row(z, y, &mut line) {
                continue;
            }
            for (x, _) in line.iter().enumerate().filter(|(_, on)| **on) {
                let mut best = there.nearest(z, y, x, f64::INFINITY);
                // Outwards on both sides, over planes that hold anything.
                let first = filled.partition_point(|&other| other < z);
                for part in [&mut filled[..first].iter().rev() as &mut dyn Iterator<Item = &usize>, &mut filled[first..].iter()] {
                    for &other in part.filter(|&&other| other != z) {
                        let beyond = (z.abs_diff(other) as f64 * thick).powi(2);
                        if beyond >= best {
                            break;
                        }
                        let limit = best - beyond;
                        let nearer = there.nearest(other, y, x, limit);
                        if nearer < limit {
                            best = best.min(beyond + nearer);
                        }
                    }
                }
                found.push(best.sqrt());
            }
        }
    }
    found
}

/// Looking up an element may cost so many looks at rows before its plane is worked out.
const LOOKS: usize = 8;

/// A surface's planes: where the nearest element is, as far as that is known yet.
struct Planes<S> {
    rows: usize,
    columns: usize,
    /// For each element the steps along its row, and, once its plane is worked out, along columns and row to the
    /// nearest in the plane.
    steps: Vec<(S, S)>,
    states: Vec<State>,
    /// Squares of so many steps along a row and along a column.
    across: Vec<f64>,
    down: Vec<f64>,
    envelope: Envelope,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Nothing of the surface is in it.
    Empty,
    /// Rows are known, and so many were looked at.
    Rows(usize),
    /// Every element's nearest is known.
    Known,
}

impl<S: Steps> Planes<S> {
    fn new(to: &Boundary, high: f64, wide: f64, line: &mut [bool]) -> Self {
        let [planes, rows, columns] = to.size();
        let squares = |n: usize, step: f64| (0..n).map(|k| (k as f64 * step).powi(2)).collect::<Vec<f64>>();
        let far = S::from_steps(S::FAR);
        let mut steps = vec![(far, far); planes * rows * columns];
        let mut states = vec![State::Empty; planes];
        for (r, row) in steps.chunks_exact_mut(columns).enumerate() {
            if to.surface_row(r / rows, r % rows, line) {
                along_row(line, row);
                states[r / rows] = State::Rows(0);
            }
        }
        Self {
            rows,
            columns,
            steps,
            states,
            across: squares(columns, wide),
            down: squares(rows, high),
            envelope: Envelope::new(rows, high),
        }
    }

    /// The square of the distance to the nearest element in a plane, if it is below `limit`.
    fn nearest(&mut self, z: usize, y: usize, x: usize, limit: f64) -> f64 {
        let plane = z * self.rows * self.columns..(z + 1) * self.rows * self.columns;
        let looked = match self.states[z] {
            State::Empty => return f64::INFINITY,
            State::Rows(looked) if looked > LOOKS * plane.len() => {
                for x in 0..self.columns {
                    self.envelope.along_column(&mut self.steps[plane.clone()], self.columns, x, &self.across);
                }
                self.states[z] = State::Known;
                0
            }
            State::Rows(looked) => looked,
            State::Known => 0,
        };
        let plane = &self.steps[plane];
        if self.states[z] == State::Known {
            let (a, b) = plane[y * self.columns + x];
            return self.across[a.get()] + self.down[b.get()];
        }
        let in_row = |y: usize| {
            let steps = plane[y * self.columns + x].0.get();
            if steps == S::FAR { f64::INFINITY } else { self.across[steps] }
        };
        let mut best = in_row(y).min(limit);
        let mut away = 1;
        while away < self.rows && self.down[away] < best {
            if away <= y {
                best = best.min(self.down[away] + in_row(y - away));
            }
            if y + away < self.rows {
                best = best.min(self.down[away] + in_row(y + away));
            }
            away += 1;
        }
        self.states[z] = State::Rows(looked + 2 * away);
        best
    }
}

/// Steps along a row to its nearest element that is on the surface.
fn along_row<S: Steps>(line: &[bool], row: &mut [(S, S)]) {
    let mut away = S::FAR;
    for (on, steps) in line.iter().zip(&mut *row) {
        away = if *on { 0 } else { (away + 1).min(S::FAR) };
        steps.0 = S::from_steps(away);
    }
    let mut away = S::FAR;
    for (on, steps) in line.iter().zip(row).rev() {
        away = if *on { 0 } else { (away + 1).min(S::FAR) };
        steps.0 = S::from_steps(away.min(steps.0.get()));
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
                *place = (S::from_steps(steps), S::from_steps(y.abs_diff(p)));
            }
        }
    }
}

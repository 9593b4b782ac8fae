use ndarray::{Array, ArrayView, ArrayViewMut1, Axis, Dimension};

/// Squared Euclidean distance of every element to the nearest marked one; infinite if no element is marked.
///
/// One linear-time pass per axis: the lower envelope of parabolas.
///
/// # Shapes
/// The result has the mask's shape; `spacing_mm` has one entry per axis.
///
/// # Units
/// Square millimetres.
///
/// # Panics
/// If the number of spacings differs from the number of axes, or a spacing is outside 1e-9 to 1e9.
///
/// # Reference
/// Felzenszwalb and Huttenlocher, Theory of Computing 8, 2012.
///
/// # Example
/// ```
/// let d = asyndgan_metrics::squared_distance_transform(ndarray::arr1(&[true, false, false]).view(), &[2.0]);
/// assert_eq!(d.to_vec(), [0.0, 4.0, 16.0]);
/// ```
pub fn squared_distance_transform<D: Dimension>(mask: ArrayView<bool, D>, spacing_mm: &[f64]) -> Array<f64, D> {
    assert_eq!(spacing_mm.len(), mask.ndim(), "one spacing per axis");
    assert!(spacing_mm.iter().all(|s| (1e-9..=1e9).contains(s)), "spacings must be from 1e-9 to 1e9 mm, got {spacing_mm:?}");
    let mut distance = mask.map(|&m| if m { 0.0 } else { f64::INFINITY });
    let mut scratch = Scratch::default();
    for (axis, &step) in spacing_mm.iter().enumerate() {
        for lane in distance.lanes_mut(Axis(axis)) {
            scratch.transform(lane, step);
        }
    }
    distance
}

#[derive(Default)]
struct Scratch {
    values: Vec<f64>,
    /// Vertices of the parabolas on the lower envelope, and where each takes over from the one before.
    vertices: Vec<usize>,
    starts: Vec<f64>,
}

impl Scratch {
    fn transform(&mut self, mut lane: ArrayViewMut1<f64>, step: f64) {
        self.values.clear();
        self.values.extend(lane.iter());
        self.vertices.clear();
        self.starts.clear();
        let square = step * step;
        for (q, &height) in self.values.iter().enumerate() {
            if height.is_infinite() {
                continue;
            }
            let mut start = f64::NEG_INFINITY;
            while let (Some(&p), Some(&from)) = (self.vertices.last(), self.starts.last()) {
                let rise = (height - self.values[p]) / square + (q * q) as f64 - (p * p) as f64;
                start = rise / (2.0 * (q - p) as f64);
                if start > from {
                    break;
                }
                self.vertices.pop();
                self.starts.pop();
                start = f64::NEG_INFINITY;
            }
            self.vertices.push(q);
            self.starts.push(start);
        }
        if self.vertices.is_empty() {
            return;
        }
        let mut k = 0;
        for (x, to) in lane.iter_mut().enumerate() {
            while k + 1 < self.starts.len() && self.starts[k + 1] < x as f64 {
                k += 1;
            }
            let p = self.vertices[k];
            let away = x.abs_diff(p) as f64;
            *to = away * away * square + self.values[p];
        }
    }
}

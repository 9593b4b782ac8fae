use ndarray::{Array3, ArrayView3};

/// Mean and standard deviation of each axis of the decorrelated l-alpha-beta colour space.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StainReference {
    mean: [f64; 3],
    sd: [f64; 3],
}

impl StainReference {
    /// A common haematoxylin and eosin appearance (about the median of the 30 tiles of Kumar et al.): the same for every site, so that
    /// no site's image is needed as a template.
    pub const HAEMATOXYLIN_EOSIN: Self = Self { mean: [8.5, -0.10, 0.046], sd: [0.61, 0.11, 0.023] };

    /// Measures a picture.
    ///
    /// # Shapes
    /// `[3, rows, columns]`, values in 0..=255.
    pub fn of(rgb: ArrayView3<f32>) -> Self {
        let n = (rgb.len() / 3) as f64;
        let (mut sum, mut squares) = ([0.0; 3], [0.0; 3]);
        for pixel in rgb.lanes(ndarray::Axis(0)) {
            for (k, v) in to_lab([pixel[0], pixel[1], pixel[2]]).into_iter().enumerate() {
                sum[k] += v;
                squares[k] += v * v;
            }
        }
        let mean = sum.map(|s| s / n);
        let sd = std::array::from_fn(|k| (squares[k] / n - mean[k] * mean[k]).max(0.0).sqrt());
        Self { mean, sd }
    }
}

/// Brings a picture's colours to a reference: matches mean and standard deviation in l-alpha-beta space.
///
/// # Shapes
/// `[3, rows, columns]` to the same, values in 0..=255.
///
/// # Reference
/// Reinhard et al., IEEE Computer Graphics and Applications 21(5), 2001.
pub fn reinhard(rgb: ArrayView3<f32>, reference: &StainReference) -> Array3<f32> {
    let own = StainReference::of(rgb);
    let mut out = rgb.to_owned();
    for mut pixel in out.lanes_mut(ndarray::Axis(0)) {
        let lab = to_lab([pixel[0], pixel[1], pixel[2]]);
        let moved = std::array::from_fn(|k| (lab[k] - own.mean[k]) * reference.sd[k] / own.sd[k].max(1e-6) + reference.mean[k]);
        for (k, v) in from_lab(moved).into_iter().enumerate() {
            pixel[k] = v;
        }
    }
    out
}

const LMS: [[f64; 3]; 3] = [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]];
const RGB: [[f64; 3]; 3] = [[4.4679, -3.5873, 0.1193], [-1.2186, 2.3809, -0.1624], [0.0497, -0.2439, 1.2045]];

fn product(m: &[[f64; 3]; 3], v: [f64; 3]) -> [f64; 3] {
    m.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

fn to_lab(rgb: [f32; 3]) -> [f64; 3] {
    let [l, m, s] = product(&LMS, rgb.map(|v| f64::from(v).max(1.0))).map(f64::ln);
    [(l + m + s) / 3_f64.sqrt(), (l + m - 2.0 * s) / 6_f64.sqrt(), (l - m) / 2_f64.sqrt()]
}

fn from_lab([l, a, b]: [f64; 3]) -> [f32; 3] {
    let (l, a, b) = (l / 3_f64.sqrt(), a / 6_f64.sqrt(), b / 2_f64.sqrt());
    product(&RGB, [l + a + b, l + a - b, l - 2.0 * a].map(f64::exp)).map(|v| v.clamp(0.0, 255.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_two_stains_come_out_alike() {
        let tile = |k: f32| Array3::from_shape_fn((3, 16, 16), |(c, y, x)| (60.0 + 9.0 * (y + x * c) as f32 % 120.0) * k);
        let [a, b] = [0.6, 1.2].map(|k| StainReference::of(reinhard(tile(k).view(), &StainReference::HAEMATOXYLIN_EOSIN).view()));
        for k in 0..3 {
            assert!((a.mean[k] - b.mean[k]).abs() < 0.15, "{a:?} {b:?}");
        }
        let bright = reinhard(tile(1.0).view(), &StainReference::HAEMATOXYLIN_EOSIN).mean().unwrap_or(0.0);
        assert!((90.0..220.0).contains(&bright), "{bright}");
    }
}

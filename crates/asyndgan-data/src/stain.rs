use ndarray::{Array3, ArrayView3};
use rand::{Rng, RngExt};

/// Mean and standard deviation of each axis of the decorrelated l-alpha-beta colour space.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StainReference {
    mean: [f64; 3],
    sd: [f64; 3],
}

impl StainReference {
    /// A typical haematoxylin and eosin appearance (approximately the median of the 30 tiles of Kumar et al.). It is
    /// the same for every site, so that no site's image is needed as a template.
    pub const HAEMATOXYLIN_EOSIN: Self = Self { mean: [8.5, -0.10, 0.046], sd: [0.61, 0.11, 0.023] };

    /// Measures a picture.
    ///
    /// # Shapes
    /// `[3, rows, columns]`, values in 0..=255.
    pub fn from_rgb(rgb: ArrayView3<f32>) -> Self {
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

/// Normalises a picture's colours to a reference: matches mean and standard deviation in l-alpha-beta space.
///
/// # Shapes
/// `[3, rows, columns]` to the same, values in 0..=255.
///
/// # Reference
/// Reinhard et al., IEEE Computer Graphics and Applications 21(5), 2001.
pub fn reinhard(rgb: ArrayView3<f32>, reference: &StainReference) -> Array3<f32> {
    let own = StainReference::from_rgb(rgb);
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

/// Absorption of haematoxylin and of eosin (columns) in red, green and blue, and their usual strongest concentrations.
const MACENKO_STAINS: [[f64; 2]; 3] = [[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]];
const MACENKO_CONCENTRATIONS: [f64; 2] = [1.9705, 1.0308];
/// The light that passes where there is no tissue, and the optical density below which a pixel counts as empty.
const MACENKO_LIGHT: f64 = 240.0;
const MACENKO_EMPTY: f64 = 0.15;

/// Normalises a picture's colours to a common haematoxylin and eosin appearance by unmixing its two stains. None if the
/// picture shows too little tissue to determine two stains.
///
/// # Shapes
/// `[3, rows, columns]` to the same, values in 0..=255.
///
/// # Reference
/// Macenko et al., ISBI 2009, with the percentiles (1 and 99) and reference values of common implementations.
pub fn macenko(rgb: ArrayView3<f32>) -> Option<Array3<f32>> {
    let density = |v: f32| -((f64::from(v) + 1.0) / MACENKO_LIGHT).ln();
    let all: Vec<[f64; 3]> = rgb.lanes(ndarray::Axis(0)).into_iter().map(|p| [density(p[0]), density(p[1]), density(p[2])]).collect();
    let tissue: Vec<[f64; 3]> = all.iter().copied().filter(|p| p.iter().all(|d| *d >= MACENKO_EMPTY)).collect();
    if tissue.len() < 100 {
        return None;
    }
    let [first, second] = plane(&tissue);
    let dot = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut angles: Vec<f64> = tissue.iter().map(|p| dot(p, &second).atan2(dot(p, &first))).collect();
    let (low, high) = (percentile(&mut angles, 0.01), percentile(&mut angles, 0.99));
    let towards = |angle: f64| -> [f64; 3] { std::array::from_fn(|k| first[k] * angle.cos() + second[k] * angle.sin()) };
    let (a, b) = (towards(low), towards(high));
    // Haematoxylin absorbs more red than eosin does.
    let (h, e) = if a[0] > b[0] { (a, b) } else { (b, a) };
    // Least squares with two unknowns.
    let (hh, he, ee) = (dot(&h, &h), dot(&h, &e), dot(&e, &e));
    let determinant = hh * ee - he * he;
    if determinant.abs() < 1e-9 {
        return None;
    }
    let unmix = |p: &[f64; 3]| {
        let (ph, pe) = (dot(p, &h), dot(p, &e));
        [(ee * ph - he * pe) / determinant, (hh * pe - he * ph) / determinant]
    };
    let concentrations: Vec<[f64; 2]> = all.iter().map(unmix).collect();
    let strongest = [0, 1].map(|k| percentile(&mut concentrations.iter().map(|c| c[k]).collect::<Vec<_>>(), 0.99));
    if strongest.iter().any(|c| *c <= 0.0) {
        return None;
    }
    let mut out = rgb.to_owned();
    for (mut pixel, c) in out.lanes_mut(ndarray::Axis(0)).into_iter().zip(&concentrations) {
        let scaled = [0, 1].map(|k| c[k] / strongest[k] * MACENKO_CONCENTRATIONS[k]);
        for (k, v) in pixel.iter_mut().enumerate() {
            let density = MACENKO_STAINS[k][0] * scaled[0] + MACENKO_STAINS[k][1] * scaled[1];
            *v = (MACENKO_LIGHT * (-density).exp()).clamp(0.0, 255.0) as f32;
        }
    }
    Some(out)
}

/// Scales the amounts of haematoxylin, eosin and the residual component in a picture by random factors from 1 -
/// `strength` to 1 + `strength`, and shifts each by up to a tenth of `strength`. This simulates differences between
/// laboratories.
///
/// # Shapes
/// `[3, rows, columns]`, values in [-1, 1].
///
/// # Panics
/// If the picture does not have three channels.
///
/// # Reference
/// Tellez et al., IEEE Transactions on Medical Imaging 37(9), 2018; stain vectors of Macenko et al.
pub fn stain_jitter(picture: &mut Array3<f32>, strength: f32, rng: &mut impl Rng) {
    assert_eq!(picture.len_of(ndarray::Axis(0)), 3, "a picture of red, green and blue");
    let column = |k: usize| nalgebra::Vector3::new(MACENKO_STAINS[0][k], MACENKO_STAINS[1][k], MACENKO_STAINS[2][k]);
    let (h, e) = (column(0), column(1));
    let stains = nalgebra::Matrix3::from_columns(&[h, e, h.cross(&e).normalize()]);
    let mut within = |limit: f32| f64::from(rng.random_range(-limit..=limit));
    let factors = nalgebra::Matrix3::from_diagonal(&nalgebra::Vector3::from_fn(|_, _| 1.0 + within(strength)));
    let shift = (stains * nalgebra::Vector3::from_fn(|_, _| within(0.1 * strength))).cast::<f32>();
    let Some(unmixed) = stains.try_inverse() else { return };
    let change = (stains * factors * unmixed).cast::<f32>();
    for mut pixel in picture.lanes_mut(ndarray::Axis(0)) {
        // Light in (0, 1], so that its density is finite.
        let density = nalgebra::Vector3::from_fn(|k, _| -((pixel[k] + 1.0) * 0.5).clamp(1.0 / 255.0, 1.0).ln());
        let changed = change * density + shift;
        for (k, v) in pixel.iter_mut().enumerate() {
            *v = ((-changed[k]).exp().min(1.0)) * 2.0 - 1.0;
        }
    }
}

/// The two directions in which optical densities vary most, pointing into the positive.
fn plane(densities: &[[f64; 3]]) -> [[f64; 3]; 2] {
    let n = densities.len() as f64;
    let mean: [f64; 3] = std::array::from_fn(|k| densities.iter().map(|d| d[k]).sum::<f64>() / n);
    let covariance =
        nalgebra::Matrix3::from_fn(|i, j| densities.iter().map(|d| (d[i] - mean[i]) * (d[j] - mean[j])).sum::<f64>() / (n - 1.0));
    let eigen = covariance.symmetric_eigen();
    let mut order = [0, 1, 2];
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    [order[0], order[1]].map(|k| {
        let v = eigen.eigenvectors.column(k);
        let sign = if v[0] < 0.0 { -1.0 } else { 1.0 };
        [v[0] * sign, v[1] * sign, v[2] * sign]
    })
}

/// Linear interpolation between order statistics, as `NumPy` does.
fn percentile(values: &mut [f64], part: f64) -> f64 {
    let at = part * (values.len() - 1) as f64;
    let (_, low, above) = values.select_nth_unstable_by(at.floor() as usize, f64::total_cmp);
    let low = *low;
    let high = above.iter().copied().fold(f64::INFINITY, f64::min);
    if at.fract() == 0.0 { low } else { low + (high - low) * at.fract() }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn pictures_of_two_stains_come_out_alike() {
        let tile = |k: f32| Array3::from_shape_fn((3, 16, 16), |(c, y, x)| (60.0 + 9.0 * (y + x * c) as f32 % 120.0) * k);
        let [a, b] = [0.6, 1.2].map(|k| StainReference::from_rgb(reinhard(tile(k).view(), &StainReference::HAEMATOXYLIN_EOSIN).view()));
        for k in 0..3 {
            assert!((a.mean[k] - b.mean[k]).abs() < 0.15, "{a:?} {b:?}");
        }
        let bright = reinhard(tile(1.0).view(), &StainReference::HAEMATOXYLIN_EOSIN).mean().unwrap_or(0.0);
        assert!((90.0..220.0).contains(&bright), "{bright}");
    }

    #[test]
    fn jitter_of_no_strength_changes_nothing_and_else_keeps_the_range() {
        let picture = || Array3::from_shape_fn((3, 8, 8), |(c, y, x)| ((c * 64 + y * 8 + x) as f32 / 96.0) - 0.99);
        let jittered = |strength| {
            let mut out = picture();
            stain_jitter(&mut out, strength, &mut rand_chacha::ChaCha8Rng::seed_from_u64(1));
            out
        };
        let apart = |a: &Array3<f32>| a.iter().zip(&picture()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart(&jittered(0.0)) < 1e-4);
        assert!(apart(&jittered(0.3)) > 0.02 && jittered(0.3).iter().all(|v| (-1.0..=1.0).contains(v)));
    }

    #[test]
    fn a_stained_picture_keeps_its_structure_and_an_empty_one_has_no_stains() {
        // Two stains in known amounts under a light and under a dark scanner.
        let tile = |strength: f64| {
            Array3::from_shape_fn((3, 32, 32), |(k, y, x)| {
                let (h, e) = (0.2 + (y % 7) as f64 * 0.2, 0.2 + (x % 5) as f64 * 0.15);
                let density = strength * (MACENKO_STAINS[k][0] * h + MACENKO_STAINS[k][1] * e);
                (MACENKO_LIGHT * (-density).exp() - 1.0) as f32
            })
        };
        let [a, b] = [0.8, 1.3].map(|s| macenko(tile(s).view()).expect("two stains"));
        let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 2.0, "{apart}");
        assert!(macenko(Array3::from_elem((3, 32, 32), 250.0).view()).is_none());
    }
}

//! Artificial patients with exactly known masks: brains with tumours, and stained tissue with touching nuclei.
//!
//! Each site has its own scanner or stain, so that the data of one site are less varied than the data of all sites
//! together.

use std::f32::consts::TAU;

use ndarray::{Array2, Array3, Axis};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};

use crate::Study;

/// The appearance of tissue in a site's MR scanner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scanner {
    /// Exponent applied to intensities in [0, 1].
    pub gamma: f32,
    /// Brightness of a tumour above brain tissue.
    pub tumour: f32,
    /// Standard deviation of the noise.
    pub noise: f32,
    /// Strength of the slow brightness drift across the image, and its direction in radians.
    pub drift: (f32, f32),
    /// Typical tumour radius in millimetres, which differs between sites.
    pub tumour_mm: f32,
}

impl Scanner {
    /// The scanner of a site. The first ten differ in every property; after that they repeat.
    pub fn of_site(site: usize) -> Self {
        let step = |stride: usize| ((site * stride) % 10) as f32 / 9.0;
        Self {
            gamma: 0.65 + 0.9 * step(3),
            tumour: 0.16 + 0.26 * step(7),
            noise: 0.015 + 0.04 * step(9),
            drift: (0.35 * step(1), TAU * step(3)),
            tumour_mm: 14.0 + 20.0 * step(1),
        }
    }
}

/// Rows and columns of a brain phantom, with a spacing of 2.5 mm.
pub const BRAIN_SIDE: usize = 96;
const BRAIN_SLICES: usize = 12;
const BRAIN_SPACING_MM: [f64; 3] = [5.0, 2.5, 2.5];

/// A smooth random field on a grid: a few random waves.
struct Waves(Vec<[f32; 4]>);

impl Waves {
    fn draw(count: usize, frequency: f32, rng: &mut impl Rng) -> Self {
        let mut wave = || {
            [
                rng.random_range(-1.0..1.0) * frequency,
                rng.random_range(-1.0..1.0) * frequency,
                rng.random_range(-1.0..1.0),
                rng.random_range(0.0..TAU),
            ]
        };
        Self((0..count).map(|_| wave()).collect())
    }

    /// The field's value, about in [-1, 1].
    fn at(&self, y: f32, x: f32, z: f32) -> f32 {
        self.0.iter().map(|[a, b, c, phase]| (a * y + b * x + c * z + phase).sin()).sum::<f32>() / (self.0.len() as f32).sqrt()
    }
}

/// A field on a plane's rows and columns: the sine of a sum comes from the sines and cosines of its parts, which are
/// few.
struct Plane {
    /// Sine and cosine of each wave at each row, and at each column.
    rows: Vec<Vec<[f32; 2]>>,
    columns: Vec<Vec<[f32; 2]>>,
    scale: f32,
}

impl Plane {
    fn new(waves: &Waves, side: usize, z: f32) -> Self {
        let both = |angle: f32| [angle.sin(), angle.cos()];
        let at = |part: fn(&[f32; 4], f32, f32) -> f32| {
            (0..side).map(|i| waves.0.iter().map(|wave| both(part(wave, i as f32, z))).collect()).collect()
        };
        let rows = at(|[a, _, c, phase], y, z| a * y + c * z + phase);
        Self { rows, columns: at(|[_, b, ..], x, _| b * x), scale: 1.0 / (waves.0.len() as f32).sqrt() }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        let waves = self.rows[row].iter().zip(&self.columns[column]);
        waves.map(|([sin_y, cos_y], [sin_x, cos_x])| sin_y * cos_x + cos_y * sin_x).sum::<f32>() * self.scale
    }
}

/// An axial T2-like brain with one tumour: core, enhancing rim and oedema. `number` is the patient's number at the site
/// and varies the tumour size.
pub fn brain(id: &str, number: usize, scanner: &Scanner, rng: &mut impl Rng) -> Study {
    let side = BRAIN_SIDE as f32;
    let (height, width) = (rng.random_range(0.40..0.46) * side, rng.random_range(0.31..0.37) * side);
    let folds = Waves::draw(7, 0.45, rng);
    let wobble = Waves::draw(4, 0.22, rng);
    let ventricle = rng.random_range(0.75..1.25_f32);
    // Within a site tumours vary around its typical size.
    let radius = scanner.tumour_mm * (0.8 + 0.1 * (number % 5) as f32) / 2.5;
    let (angle, away) = (rng.random_range(0.0..TAU), rng.random_range(0.15..0.62_f32));
    let centre = (side / 2.0 + away * height * angle.sin(), side / 2.0 + away * width * angle.cos());
    let stretch = rng.random_range(0.8..1.25_f32);
    let mut t2 = Array3::zeros((BRAIN_SLICES, BRAIN_SIDE, BRAIN_SIDE));
    let mut labels = Array3::zeros(t2.dim());
    for ((z, r, c), value) in t2.indexed_iter_mut() {
        let (y, x, height_of_slice) = (r as f32, c as f32, z as f32 - BRAIN_SLICES as f32 / 2.0 + 0.5);
        let shrink = (1.0 - (height_of_slice / 11.0).powi(2)).sqrt();
        let (v, u) = ((y - side / 2.0) / (height * shrink), (x - side / 2.0) / (width * shrink));
        let edge = (v * v + u * u).sqrt();
        if edge > 1.0 {
            continue;
        }
        let cortex = if edge > 0.90 { 0.24 } else { 0.0 };
        let tissue = 0.38 + 0.055 * folds.at(y, x, height_of_slice) + cortex;
        let horn = ((u.abs() - 0.13) / 0.09).powi(2) + (v / (0.36 * ventricle)).powi(2);
        let mut shade = if horn < 1.0 { 0.80 } else { tissue };
        let (dy, dx, dz) = ((y - centre.0) / stretch, (x - centre.1) * stretch, height_of_slice * 2.0);
        let depth = (dy * dy + dx * dx + dz * dz).sqrt() / (radius * (1.0 + 0.16 * wobble.at(y, x, height_of_slice)));
        if depth < 1.0 {
            let (label, brighter) = match depth {
                d if d < 0.38 => (1, 1.35),
                d if d < 0.58 => (3, 0.55),
                _ => (2, 1.0),
            };
            labels[[z, r, c]] = label;
            shade = shade.min(tissue) + scanner.tumour * brighter;
        }
        let drift = 1.0 + scanner.drift.0 * (u * scanner.drift.1.cos() + v * scanner.drift.1.sin());
        let noise: f32 = StandardNormal.sample(rng);
        *value = ((shade * drift).clamp(0.02, 1.0).powf(scanner.gamma) + scanner.noise * noise).clamp(0.01, 1.2) * 1000.0;
    }
    Study { id: id.into(), images: t2.insert_axis(Axis(0)), labels, spacing_mm: BRAIN_SPACING_MM }
}

/// The appearance of a site's stained tissue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stain {
    /// Optical density of nuclei in red, green, blue.
    pub nuclei: [f32; 3],
    /// Optical density of the surrounding tissue.
    pub tissue: [f32; 3],
    /// Typical radius of a nucleus in pixels, and how elongated it is.
    pub nucleus: (f32, f32),
    /// Variation of the surrounding tissue, and contrast of dark fibres.
    pub texture: (f32, f32),
    /// Round objects that are not nuclei (blood cells, pigment, mucin): their optical density, and the share of the
    /// tile that they may cover.
    pub look_alikes: ([f32; 3], f32),
}

impl Stain {
    /// The stain of a site. The first four differ in every property, and all but the last have look-alikes of nuclei;
    /// after that they repeat.
    pub fn of_site(site: usize) -> Self {
        let row = |nuclei, tissue, nucleus, texture, look_alikes| Self { nuclei, tissue, nucleus, texture, look_alikes };
        match site % 4 {
            0 => row([0.78, 0.86, 0.42], [0.14, 0.38, 0.16], (9.0, 1.1), (0.35, 0.0), ([0.10, 0.95, 0.70], 0.08)),
            1 => row([0.55, 0.62, 0.30], [0.22, 0.50, 0.28], (7.0, 1.2), (0.50, 0.6), ([0.70, 1.00, 1.30], 0.05)),
            2 => row([0.95, 1.00, 0.62], [0.30, 0.62, 0.26], (11.0, 1.5), (0.25, 0.3), ([0.62, 0.45, 0.20], 0.08)),
            _ => row([0.66, 0.58, 0.34], [0.10, 0.26, 0.12], (8.0, 1.9), (0.60, 0.9), ([0.10, 0.26, 0.12], 0.0)),
        }
    }
}

/// A stained tissue tile with nuclei, some of them touching.
///
/// # Shapes
/// `side` rows and columns.
pub fn tile(id: &str, side: usize, stain: &Stain, rng: &mut impl Rng) -> Study {
    let instances = ellipses(side, stain.nucleus, 0.24, rng);
    let look_alikes = ellipses(side, (0.8 * stain.nucleus.0, 1.1), stain.look_alikes.1, rng);
    let [slow, fibres, grain] = [(6, 0.06, 0.0), (3, 0.25, 0.0), (8, 0.9, 1.0)]
        .map(|(count, frequency, z)| Plane::new(&Waves::draw(count, frequency, rng), side, z));
    let shade: Vec<f32> = (0..=instances.iter().copied().max().unwrap_or(0)).map(|_| rng.random_range(0.75..1.25)).collect();
    let mut rgb = Array3::zeros((3, side, side));
    for r in 0..side {
        for c in 0..side {
            let label = instances[[r, c]];
            let fibre = stain.texture.1 * (fibres.at(r, c) - 0.9).max(0.0) * 1.6;
            let around = 1.0 + stain.texture.0 * slow.at(r, c);
            let speck = 1.0 + 0.18 * grain.at(r, c);
            let looks_alike = look_alikes[[r, c]] > 0;
            for k in 0..3 {
                let density = match label {
                    0 if looks_alike => stain.look_alikes.0[k] * speck,
                    0 => stain.tissue[k] * around.max(0.1) + stain.nuclei[k] * fibre,
                    label => stain.nuclei[k] * shade[label as usize] * speck,
                };
                let noise: f32 = StandardNormal.sample(rng);
                rgb[[k, r, c]] = (245.0 * (-density.max(0.0)).exp() + 4.0 * noise).clamp(0.0, 255.0);
            }
        }
    }
    Study { id: id.into(), images: rgb.insert_axis(Axis(1)), labels: instances.insert_axis(Axis(0)), spacing_mm: [1.0; 3] }
}

/// Ellipses of a typical radius and elongation, dropped at random on a share of the tile; one that would cover an
/// earlier one only touches it.
fn ellipses(side: usize, (radius, elongation): (f32, f32), share: f32, rng: &mut impl Rng) -> Array2<u32> {
    let mut labels = Array2::zeros((side, side));
    let wanted = (side * side) as f32 * share / (std::f32::consts::PI * radius * radius);
    let mut next = 1;
    for _ in 0..wanted as usize {
        let (y, x) = (rng.random_range(0.0..side as f32), rng.random_range(0.0..side as f32));
        let size = radius * rng.random_range(0.7..1.3_f32);
        let long = rng.random_range(1.0..elongation.max(1.01));
        let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
        let reach = (size * long).ceil();
        let range = |v: f32| (v - reach).max(0.0) as usize..((v + reach) as usize + 1).min(side);
        let inside = |r: usize, c: usize| {
            let (dy, dx) = (r as f32 - y, c as f32 - x);
            let (along, across) = (dx * cos + dy * sin, dy * cos - dx * sin);
            (along / (size * long)).powi(2) + (across / (size / long.sqrt())).powi(2) < 1.0
        };
        let covered: Vec<_> = range(y).flat_map(|r| range(x).map(move |c| (r, c))).filter(|&(r, c)| inside(r, c)).collect();
        let taken = covered.iter().filter(|at| labels[**at] > 0).count();
        if covered.is_empty() || taken * 5 > covered.len() {
            continue;
        }
        for at in covered {
            if labels[at] == 0 {
                labels[at] = next;
            }
        }
        next += 1;
    }
    labels
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn look_alikes_are_beside_nuclei_and_in_no_mask() {
        let stain = Stain::of_site(0);
        let none = Stain { look_alikes: (stain.look_alikes.0, 0.0), ..stain };
        let [with, without] = [stain, none].map(|stain| tile("phantom", 200, &stain, &mut ChaCha8Rng::seed_from_u64(5)));
        assert_eq!(with.labels, without.labels);
        // Blood cells are redder than nuclei and darker than tissue: bright in red, dark in green.
        let red = |tile: &Study| {
            let shown = |&(r, c): &(usize, usize)| tile.images[[0, 0, r, c]] > 190.0 && tile.images[[1, 0, r, c]] < 120.0;
            let labels = tile.labels.index_axis(Axis(0), 0);
            let places = labels.indexed_iter().filter(|(at, _)| shown(at));
            places.fold([0, 0], |[outside, inside], (_, &label)| if label == 0 { [outside + 1, inside] } else { [outside, inside + 1] })
        };
        assert_eq!(red(&without), [0, 0]);
        let [outside, inside] = red(&with);
        assert!(outside > 1000 && inside == 0, "{outside} pixels of blood cells outside nuclei, {inside} inside");
    }
}

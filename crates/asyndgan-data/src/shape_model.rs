//! A statistical model of the shapes of conditions, which can be released with differential privacy.

use std::f64::consts::PI;

use asyndgan_metrics::squared_distance_transform;
use asyndgan_task::Task;
use nalgebra::{DMatrix, DVector};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::{mask, preparation::foreground};

/// Frequencies along each axis; those whose sum is smaller are kept.
const FREQUENCIES: usize = 7;
/// Distances are cut off at this share of the longer side.
const REACH: f64 = 0.125;
/// Largest norm of a shape, and of its difference from the mean: few masks of brains and organs exceed them. A norm of
/// 1 is a shape that fills the image.
const SHAPE_MAX: f64 = 0.4;
const DIFFERENCE_MAX: f64 = 0.08;
/// Steps of the grid of shapes in a length of 1.
const GRID: f64 = (1_u32 << 20) as f64;
/// Tries to sample a condition with as many marked pixels as the task asks for.
const TRIES: usize = 20;

/// The mean and the main modes of the shapes of a site's conditions: of the foreground, if conditions have an outline,
/// and of every class. A shape is the low frequencies of its signed distance map.
///
/// The model can draw large connected shapes, such as organs and lesions. It cannot draw many small objects, such as
/// nuclei.
///
/// # Reference
/// Leventon et al., CVPR 2000: shapes as a Gaussian in the principal components of their signed distance maps. Dwork et
/// al., Analyze Gauss, STOC 2014: principal components with differential privacy.
#[derive(Debug, Clone)]
pub struct ShapeModel {
    task: Task,
    dim: (usize, usize),
    mean: DVector<f64>,
    /// Each mode times its standard deviation, as columns.
    modes: DMatrix<f64>,
}

impl ShapeModel {
    /// A model of one condition for each patient.
    ///
    /// The model depends on the conditions only through two sums over patients: of their shapes, and of the products of
    /// their differences from the mean. `release` receives each sum and the largest norm of what one patient adds to
    /// it, and returns it with noise: for differential privacy, Gaussian noise with a standard deviation of
    /// `noise_multiplier` times that norm. The number of patients is public.
    ///
    /// # Panics
    /// If there is no condition, or the conditions differ in shape.
    ///
    /// # Errors
    /// That of `release`.
    pub fn fit<E>(
        task: &Task,
        conditions: &[ArrayView2<u8>],
        noise_multiplier: f64,
        mut release: impl FnMut(Vec<f64>, f64) -> Result<Vec<f64>, E>,
    ) -> Result<Self, E> {
        let dim = conditions.first().expect("a shape model needs a condition").dim();
        assert!(conditions.iter().all(|condition| condition.dim() == dim), "conditions must have the same shape");
        let (n, basis) = (conditions.len() as f64, Basis::new(dim));
        let shapes: Vec<DVector<f64>> =
            conditions.iter().map(|condition| clipped(shape(task, condition.view(), &basis), SHAPE_MAX)).collect();
        let sum = shapes.iter().fold(DVector::zeros(shapes[0].len()), |sum, shape| sum + shape);
        let mean = (DVector::from_vec(release(sum.data.into(), SHAPE_MAX)?) / n).map(|value| (value * GRID).round() / GRID);
        let length = mean.len();
        let mut products = DMatrix::zeros(length, length);
        for shape in &shapes {
            let difference = clipped(shape - &mean, DIFFERENCE_MAX);
            products.ger(1.0, &difference, &difference, 1.0);
        }
        let of_patient = DIFFERENCE_MAX * DIFFERENCE_MAX;
        // Each entry of the symmetric matrix once.
        let places = || (0..length).flat_map(|column| (0..=column).map(move |row| (row, column)));
        let released = release(places().map(|at| products[at]).collect(), of_patient)?;
        let mut covariance = DMatrix::zeros(length, length);
        for ((row, column), value) in places().zip(released) {
            covariance[(row, column)] = value / n;
            covariance[(column, row)] = value / n;
        }
        // Differences are from the mean with its noise, which therefore looks like a mode of this variance.
        let of_mean = length as f64 * (noise_multiplier * SHAPE_MAX / n).powi(2);
        let modes = modes(covariance, noise_multiplier * of_patient / n, of_mean);
        Ok(Self { task: task.clone(), dim, mean, modes })
    }

    /// The number of modes that noise does not hide.
    pub fn modes(&self) -> usize {
        self.modes.ncols()
    }

    /// Draws a condition.
    ///
    /// # Shapes
    /// `[rows, columns]` of the conditions of [`ShapeModel::fit`], with the codes of the task.
    pub fn sample(&self, rng: &mut impl Rng) -> Array2<u8> {
        let basis = Basis::new(self.dim);
        let is_class = |code: &&u8| self.task.is_class(**code);
        let mut made = self.draw(&basis, rng);
        for _ in 1..TRIES {
            if made.iter().filter(is_class).count() >= self.task.marked_pixels_min {
                break;
            }
            made = self.draw(&basis, rng);
        }
        made
    }

    fn draw(&self, basis: &Basis, rng: &mut impl Rng) -> Array2<u8> {
        let weights = DVector::from_fn(self.modes(), |_, _| StandardNormal.sample(rng));
        let drawn = Array1::from_iter((&self.mean + &self.modes * weights).iter().copied());
        let count = drawn.len() / basis.kept();
        let drawn = drawn / scale(count, self.dim);
        let maps: Vec<Array2<f64>> = drawn.exact_chunks(basis.kept()).into_iter().map(|part| basis.image(part)).collect();
        let (foreground, classes) = if self.task.outline { (maps.first(), &maps[1..]) } else { (None, &maps[..]) };
        let inside = |at: (usize, usize)| foreground.is_none_or(|map| map[at] > 0.5);
        let class_at = |at: (usize, usize)| {
            let found = (1_u8..).zip(classes).map(|(code, map)| (code, map[at]));
            found.filter(|(_, value)| *value > 0.5).max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(code, _)| code)
        };
        let mut made = Array2::from_shape_fn(self.dim, |at| if inside(at) { class_at(at) } else { 0 });
        if let Some(code) = self.task.outline_code() {
            let body = Array2::from_shape_fn(self.dim, inside);
            let outline = mask::contour(mask::fill_holes(body.view()).view());
            made.zip_mut_with(&outline, |found, &on| {
                if on && *found == 0 {
                    *found = code;
                }
            });
        }
        made
    }
}

/// The low frequencies of the distance maps of a condition, one map after the other. Its norm is 1 at most.
fn shape(task: &Task, condition: ArrayView2<u8>, basis: &Basis) -> DVector<f64> {
    let mut maps = Vec::new();
    if task.outline {
        maps.push(foreground(task, condition));
    }
    maps.extend((1..=task.classes.len() as u8).map(|class| condition.mapv(|code| code == class)));
    let scale = scale(maps.len(), condition.dim());
    DVector::from_iterator(maps.len() * basis.kept(), maps.iter().flat_map(|map| basis.low(&distance_map(map)) * scale))
}

/// By which distance maps are multiplied, so that all together have a norm of 1 at most.
fn scale(maps: usize, (rows, columns): (usize, usize)) -> f64 {
    1.0 / ((maps * rows * columns) as f64).sqrt()
}

/// From 0 far outside of a mask to 1 far inside of it; its boundary is at 0.5.
fn distance_map(mask: &Array2<bool>) -> Array2<f64> {
    let reach = REACH * mask.nrows().max(mask.ncols()) as f64;
    let (to_mask, to_rest) =
        (squared_distance_transform(mask.view(), &[1.0; 2]), squared_distance_transform(mask.mapv(|m| !m).view(), &[1.0; 2]));
    Array2::from_shape_fn(mask.dim(), |at| {
        let signed = if mask[at] { to_rest[at].sqrt() - 0.5 } else { 0.5 - to_mask[at].sqrt() };
        f64::midpoint((signed / reach).clamp(-1.0, 1.0), 1.0)
    })
}

/// A vector with a norm of `limit` at most, on a grid: sums of such vectors and of their products are exact, in any
/// order and on any processor.
fn clipped(vector: DVector<f64>, limit: f64) -> DVector<f64> {
    let norm = vector.norm();
    let factor = if norm > limit { limit / norm } else { 1.0 };
    // Towards zero, so that no norm grows.
    vector.map(|value| (value * factor * GRID).trunc() / GRID)
}

/// The modes of a covariance whose entries have independent Gaussian noise of a standard deviation: those with a
/// variance above `spurious` and above the largest that noise alone has, which is `2 deviation sqrt(d)` in `d`
/// dimensions. A variance `v` is seen as `v + d deviation^2 / v`, which is undone.
fn modes(covariance: DMatrix<f64>, deviation: f64, spurious: f64) -> DMatrix<f64> {
    let length = covariance.nrows();
    let found = covariance.symmetric_eigen();
    let noise = length as f64 * deviation * deviation;
    let least = (2.0 * noise.sqrt() + spurious).max(1e-12);
    let kept: Vec<DVector<f64>> = (0..length)
        .filter(|&k| found.eigenvalues[k] > least)
        .map(|k| {
            let seen = found.eigenvalues[k];
            let variance = f64::midpoint(seen, (seen * seen - 4.0 * noise).max(0.0).sqrt());
            found.eigenvectors.column(k) * variance.sqrt()
        })
        .collect();
    if kept.is_empty() { DMatrix::zeros(length, 0) } else { DMatrix::from_columns(&kept) }
}

/// The discrete cosine transform, orthonormal, for the low frequencies of an image.
struct Basis {
    rows: Array2<f64>,
    columns: Array2<f64>,
}

impl Basis {
    fn new((rows, columns): (usize, usize)) -> Self {
        let cosines = |n: usize| {
            Array2::from_shape_fn((FREQUENCIES.min(n), n), |(frequency, x)| {
                let norm = if frequency == 0 { 1.0 } else { 2.0_f64 } / n as f64;
                norm.sqrt() * (PI * frequency as f64 * (x as f64 + 0.5) / n as f64).cos()
            })
        };
        Self { rows: cosines(rows), columns: cosines(columns) }
    }

    /// The frequencies that are kept, in order.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        let (rows, columns) = (self.rows.nrows(), self.columns.nrows());
        (0..rows).flat_map(move |r| (0..columns).map(move |c| (r, c))).filter(|(r, c)| r + c < FREQUENCIES)
    }

    fn kept(&self) -> usize {
        self.places().count()
    }

    fn low(&self, image: &Array2<f64>) -> Array1<f64> {
        let all = self.rows.dot(image).dot(&self.columns.t());
        self.places().map(|at| all[at]).collect()
    }

    /// The image with these low frequencies, and no others.
    fn image(&self, low: ArrayView1<f64>) -> Array2<f64> {
        let mut all = Array2::zeros((self.rows.nrows(), self.columns.nrows()));
        for (at, &value) in self.places().zip(low) {
            all[at] = value;
        }
        self.rows.t().dot(&all).dot(&self.columns)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const SIDE: usize = 48;

    fn task() -> Task {
        let text = r#"
            name = "brain"
            images = "volumes"
            outline = true
            channels = [{ name = "t2", normalisation = "foreground_percentile" }]
            classes = [{ name = "lesion", labels = [1] }]
        "#;
        toml::from_str(text).expect("a task")
    }

    /// A body with a lesion in it.
    fn condition(rng: &mut ChaCha8Rng) -> Array2<u8> {
        let ellipse = |[row, column, high, wide]: [f64; 4]| {
            Array2::from_shape_fn((SIDE, SIDE), |(r, c)| ((r as f64 - row) / high).powi(2) + ((c as f64 - column) / wide).powi(2) < 1.0)
        };
        let mut within = |low: f64, high: f64| rng.random_range(low..high);
        let body = ellipse([within(22.0, 25.0), within(22.0, 25.0), within(15.0, 20.0), within(13.0, 18.0)]);
        let lesion = ellipse([within(18.0, 28.0), within(18.0, 28.0), within(4.0, 8.0), within(4.0, 8.0)]);
        let outline = mask::contour(body.view());
        Array2::from_shape_fn((SIDE, SIDE), |at| if lesion[at] { 1 } else { 2 * u8::from(outline[at]) })
    }

    fn conditions(count: usize, seed: u64) -> Vec<Array2<u8>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| condition(&mut rng)).collect()
    }

    fn views(conditions: &[Array2<u8>]) -> Vec<ArrayView2<'_, u8>> {
        conditions.iter().map(|condition| condition.view()).collect()
    }

    fn fitted(conditions: &[Array2<u8>], noise_multiplier: f64) -> ShapeModel {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let noisy = |sum: Vec<f64>, norm: f64| {
            let add = |value: f64| value + noise_multiplier * norm * Distribution::<f64>::sample(&StandardNormal, &mut rng);
            Ok::<_, Infallible>(sum.into_iter().map(add).collect())
        };
        ShapeModel::fit(&task(), &views(conditions), noise_multiplier, noisy).expect("infallible")
    }

    /// Mean number of pixels of the foreground and of the lesion.
    fn areas(conditions: &[Array2<u8>]) -> [f64; 2] {
        let mean = |count: &dyn Fn(&Array2<u8>) -> usize| conditions.iter().map(count).sum::<usize>() as f64 / conditions.len() as f64;
        let body = |condition: &Array2<u8>| foreground(&task(), condition.view()).iter().filter(|&&inside| inside).count();
        [mean(&body), mean(&|condition| condition.iter().filter(|&&code| code == 1).count())]
    }

    #[test]
    fn sampled_conditions_have_the_sizes_of_those_of_the_patients() {
        let own = conditions(400, 1);
        for noise_multiplier in [0.0, 1.0] {
            let model = fitted(&own, noise_multiplier);
            assert!(model.modes() > 2, "{} modes", model.modes());
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let made: Vec<_> = (0..200).map(|_| model.sample(&mut rng)).collect();
            let ([body, lesion], [of_bodies, of_lesions]) = (areas(&own), areas(&made));
            assert!((of_bodies / body - 1.0).abs() < 0.1, "{of_bodies} and {body} pixels");
            assert!((of_lesions / lesion - 1.0).abs() < 0.35, "{of_lesions} and {lesion} pixels");
            assert!(made.iter().all(|condition| condition.iter().all(|&code| code <= 2) && condition.iter().any(|&code| code == 2)));
            let sizes: Vec<f64> = made.iter().map(|condition| areas(std::slice::from_ref(condition))[0]).collect();
            assert!(sizes.iter().any(|&size| size > 1.05 * of_bodies) && sizes.iter().any(|&size| size < 0.95 * of_bodies));
        }
    }

    #[test]
    fn noise_is_not_taken_for_a_mode() {
        // Masks that do not differ: every mode would be noise, that of the mean included. 2.82 is an epsilon of 2.
        for count in [20, 60, 100, 200, 400] {
            let own = vec![conditions(1, 1).remove(0); count];
            assert_eq!(fitted(&own, 2.82).modes(), 0, "{count} patients");
        }
    }

    #[test]
    fn the_transform_keeps_what_it_keeps() {
        let basis = Basis::new((40, 48));
        let low = Array1::from_shape_fn(basis.kept(), |i| (i as f64).sin());
        let again = basis.low(&basis.image(low.view()));
        assert!(again.iter().zip(&low).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The noise is scaled by the stated norm. One more patient, with any mask, changes each sum by that norm at
        /// most.
        #[test]
        fn a_patient_adds_the_stated_norm_at_most(seed in 0_u64..1000, kind in 0..4) {
            let mut own = conditions(4, seed);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            own.push(match kind {
                0 => Array2::from_elem((SIDE, SIDE), 1),
                1 => Array2::zeros((SIDE, SIDE)),
                2 => Array2::from_shape_fn((SIDE, SIDE), |_| rng.random_range(0..=2)),
                _ => condition(&mut rng),
            });
            let sums = |conditions: &[Array2<u8>]| {
                let mut sums = Vec::new();
                // The same mean for both, so that only the patient differs.
                let _ = ShapeModel::fit(&task(), &views(conditions), 1.0, |sum, norm| {
                    sums.push((sum.clone(), norm));
                    Ok::<_, Infallible>(vec![0.01 * conditions.len() as f64; sum.len()])
                });
                sums
            };
            let (all, without) = (sums(&own), sums(&own[..4]));
            prop_assert_eq!(all.len(), 2);
            for ((a, norm), (b, _)) in all.iter().zip(&without) {
                let change = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                prop_assert!(change <= norm + 1e-12, "{} above {}", change, norm);
            }
        }
    }
}

use rustfft::{FftPlanner, num_complex::Complex};

use crate::{Error, SubsampledGaussian, budget::check_delta};

/// Probability that may be cut off at each end of a distribution; it is added to the probability of an infinite loss.
const TAIL: f64 = 1e-15;
/// Beyond this many standard deviations, a normal distribution has less than [`TAIL`].
const QUANTILE: f64 = 8.0;
/// The largest number of points of a composed distribution: 256 MiB as complex numbers.
const POINTS_MAX: u64 = 1 << 24;
/// Distance of the points of the distribution.
const INTERVAL: f64 = 1e-4;

/// Composes steps by the distribution of their privacy loss, discretised on a grid, for the tightest bound.
///
/// The discretisation is pessimistic: at the points of the grid the delta of a step is exact, and above it in between
/// ("connect the dots"). What is cut off counts as an infinite loss. Removal and addition of a record are composed
/// separately, and the larger epsilon counts.
///
/// # Reference
/// Koskela, Jälkö and Honkela, Computing Tight Differential Privacy Guarantees Using FFT, AISTATS 2020; Doroshenko et
/// al., Connect the Dots: Tighter Discrete Approximations of Privacy Loss Distributions, PETS 2022.
#[derive(Debug, Clone)]
pub struct PldAccountant {
    interval: f64,
    removal: Distribution,
    addition: Distribution,
}

impl Default for PldAccountant {
    fn default() -> Self {
        Self::new()
    }
}

impl PldAccountant {
    /// An accountant with points of the privacy loss every 0.0001.
    pub fn new() -> Self {
        Self { interval: INTERVAL, removal: Distribution::none(), addition: Distribution::none() }
    }

    /// Adds a number of equal steps.
    ///
    /// # Errors
    /// [`Error::TooWide`] if the composed loss ranges over too many points.
    pub fn compose(&mut self, step: SubsampledGaussian, steps: u64) -> Result<(), Error> {
        if step.sampling_rate() == 0.0 || steps == 0 {
            return Ok(());
        }
        let [removal, addition] = [Distribution::of_removal(step, self.interval), Distribution::of_addition(step, self.interval)]
            .map(|one| one.repeated(steps, self.interval));
        (self.removal, self.addition) = (self.removal.composed(&removal?)?, self.addition.composed(&addition?)?);
        Ok(())
    }

    /// The epsilon that was spent, for a delta.
    ///
    /// # Errors
    /// [`Error::Range`] unless `delta` is above 0 and below 1.
    pub fn epsilon(&self, delta: f64) -> Result<f64, Error> {
        check_delta(delta)?;
        Ok([&self.removal, &self.addition].map(|loss| loss.epsilon(delta, self.interval)).into_iter().fold(0.0, f64::max))
    }
}

/// A privacy loss on the grid: `mass[i]` is the probability of the loss `(first + i)` times the interval.
#[derive(Debug, Clone)]
struct Distribution {
    first: i64,
    mass: Vec<f64>,
    /// The probability of an infinite loss.
    infinite: f64,
}

impl Distribution {
    /// The loss of no step.
    fn none() -> Self {
        Self { first: 0, mass: vec![1.0], infinite: 0.0 }
    }

    fn of_removal(step: SubsampledGaussian, interval: f64) -> Self {
        // The outcome is one of the mixture; its loss grows with it.
        let (low, high) = (-QUANTILE * step.noise_multiplier(), 1.0 + QUANTILE * step.noise_multiplier());
        Self::discretised([step.loss_of_removal(low), step.loss_of_removal(high)], interval, |epsilon| step.delta_of_removal(epsilon))
    }

    fn of_addition(step: SubsampledGaussian, interval: f64) -> Self {
        // The outcome is Gaussian; its loss falls with it.
        let far = QUANTILE * step.noise_multiplier();
        Self::discretised([-step.loss_of_removal(far), -step.loss_of_removal(-far)], interval, |epsilon| step.delta_of_addition(epsilon))
    }

    /// The distribution whose delta is the given one at every point of a grid that covers a range.
    fn discretised([low, high]: [f64; 2], interval: f64, delta: impl Fn(f64) -> f64) -> Self {
        let (first, last) = ((low / interval).floor() as i64, (high / interval).ceil() as i64);
        let deltas: Vec<f64> = (first..=last).map(|point| delta(point as f64 * interval)).collect();
        let (infinite, shrink) = (deltas[deltas.len() - 1], (-interval).exp());
        // scaled[i] is the difference of the deltas around point i + 1, over 1 - exp(-interval).
        let scaled: Vec<f64> = deltas.windows(2).map(|pair| (pair[0] - pair[1]) / -(-interval).exp_m1()).collect();
        let mut mass = vec![0.0; deltas.len()];
        for (i, &difference) in scaled.iter().enumerate() {
            mass[i + 1] = (difference - shrink * scaled.get(i + 1).copied().unwrap_or(0.0)).max(0.0);
        }
        mass[0] = (1.0 - infinite - mass.iter().sum::<f64>()).max(0.0);
        Self { first, mass, infinite }
    }

    /// The loss of a number of independent steps.
    fn repeated(&self, steps: u64, interval: f64) -> Result<Self, Error> {
        let finite = 1.0 - self.infinite;
        let infinite = 1.0 - finite.powf(steps as f64);
        if steps == 1 {
            return Ok(self.clone());
        }
        let [low, high] = [-1.0, 1.0].map(|sign| self.tail_bound(steps, sign, interval));
        let points = (high - low + 1).unsigned_abs();
        let size = points.next_power_of_two();
        if size > POINTS_MAX {
            return Err(Error::TooWide { points, limit: POINTS_MAX });
        }
        let mut values = self.on_circle(size as usize);
        let mut planner = FftPlanner::new();
        planner.plan_fft_forward(values.len()).process(&mut values);
        for value in &mut values {
            let (length, angle) = value.to_polar();
            *value = Complex::from_polar(length.powf(steps as f64), angle * steps as f64);
        }
        planner.plan_fft_inverse(values.len()).process(&mut values);
        // The tails that were cut off may have come around; they count as an infinite loss, too.
        Ok(Self { first: low, mass: from_circle(&values, low, points as usize), infinite: infinite + 2.0 * TAIL })
    }

    /// The sum of this loss and another, independent one.
    fn composed(&self, other: &Self) -> Result<Self, Error> {
        let points = (self.mass.len() + other.mass.len() - 1) as u64;
        let size = points.next_power_of_two();
        if size > POINTS_MAX {
            return Err(Error::TooWide { points, limit: POINTS_MAX });
        }
        let infinite = self.infinite + other.infinite - self.infinite * other.infinite;
        if let [all] = other.mass[..] {
            let mass = self.mass.iter().map(|mass| mass * all).collect();
            return Ok(Self { first: self.first + other.first, mass, infinite });
        }
        if self.mass.len() == 1 {
            return other.composed(self);
        }
        let (mut values, mut factors) = (self.on_circle(size as usize), other.on_circle(size as usize));
        let mut planner = FftPlanner::new();
        let forward = planner.plan_fft_forward(values.len());
        forward.process(&mut values);
        forward.process(&mut factors);
        values.iter_mut().zip(&factors).for_each(|(value, factor)| *value *= factor);
        planner.plan_fft_inverse(values.len()).process(&mut values);
        let first = self.first + other.first;
        Ok(Self { first, mass: from_circle(&values, first, points as usize), infinite })
    }

    /// The masses by their index modulo a size.
    fn on_circle(&self, size: usize) -> Vec<Complex<f64>> {
        let mut values = vec![Complex::default(); size];
        for (index, &mass) in (self.first..).zip(&self.mass) {
            values[index.rem_euclid(size as i64) as usize].re += mass;
        }
        values
    }

    /// The index beyond which the sum of a number of losses lies with at most the probability [`TAIL`], above for a
    /// `sign` of 1 and below for -1: the Chernoff bound.
    fn tail_bound(&self, steps: u64, sign: f64, interval: f64) -> i64 {
        let bound = |order: f64| {
            let exponents = || (self.first..).zip(&self.mass).filter(|(_, mass)| **mass > 0.0);
            let exponent = |index: i64, mass: f64| mass.ln() + sign * order * index as f64 * interval;
            let largest = exponents().map(|(index, &mass)| exponent(index, mass)).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = exponents().map(|(index, &mass)| (exponent(index, mass) - largest).exp()).sum();
            (steps as f64 * (largest + sum.ln()) - TAIL.ln()) / order
        };
        // The bound is convex in the logarithm of the order: golden sections.
        let (mut low, mut high) = (1e-3_f64.ln(), 1e4_f64.ln());
        while high - low > 0.05 {
            let (a, b) = (low + 0.382 * (high - low), low + 0.618 * (high - low));
            if bound(a.exp()) < bound(b.exp()) { high = b } else { low = a }
        }
        let found = bound(f64::midpoint(low, high).exp()) / interval;
        let end = self.first + if sign > 0.0 { self.mass.len() as i64 - 1 } else { 0 };
        // No sum lies beyond the sum of the ends.
        let limit = end.saturating_mul(steps as i64);
        if sign > 0.0 { (found.ceil() as i64).min(limit) } else { (-found.ceil() as i64).max(limit) }
    }

    /// The smallest epsilon, at least 0, for which the loss is (epsilon, delta)-private.
    fn epsilon(&self, delta: f64, interval: f64) -> f64 {
        if self.infinite > delta {
            return f64::INFINITY;
        }
        // delta(epsilon) = above - exp(epsilon) weighted, with the sums over the points above epsilon.
        let (mut above, mut weighted) = (self.infinite, 0.0);
        for (i, &mass) in self.mass.iter().enumerate().rev() {
            let loss = (self.first + i as i64) as f64 * interval;
            if loss < 0.0 || weighted > 0.0 && above > delta && ((above - delta) / weighted).ln() >= loss {
                break;
            }
            above += mass;
            weighted += mass * (-loss).exp();
        }
        if above - delta <= weighted { 0.0 } else { ((above - delta) / weighted).ln() }
    }
}

fn from_circle(values: &[Complex<f64>], first: i64, points: usize) -> Vec<f64> {
    let size = values.len();
    let at = |index: i64| values[index.rem_euclid(size as i64) as usize].re / size as f64;
    // Rounding makes small negative masses.
    (first..).take(points).map(|index| at(index).max(0.0)).collect()
}

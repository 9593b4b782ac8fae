use crate::{Error, SubsampledGaussian, budget::check_delta, error::check, normal::ln_half_erfc};

/// Composes steps by Rényi differential privacy: bounds of several orders add up, and are converted to (epsilon, delta)
/// in the end.
///
/// # Reference
/// Mironov, Talwar and Zhang, Rényi Differential Privacy of the Sampled Gaussian Mechanism, 2019; the conversion is
/// that of Balle et al., Hypothesis Testing Interpretations and Rényi Differential Privacy, AISTATS 2020, Theorem 21.
#[derive(Debug, Clone)]
pub struct RdpAccountant {
    orders: Vec<f64>,
    /// The bound of each order.
    divergences: Vec<f64>,
}

impl Default for RdpAccountant {
    fn default() -> Self {
        Self::new()
    }
}

impl RdpAccountant {
    /// An accountant with the orders that Opacus uses: 1.1 to 10.9 in steps of 0.1, and 12 to 63.
    pub fn new() -> Self {
        let orders: Vec<f64> = (1..100).map(|x| 1.0 + f64::from(x) / 10.0).chain((12..64).map(f64::from)).collect();
        Self { divergences: vec![0.0; orders.len()], orders }
    }

    /// An accountant with orders of one's own.
    ///
    /// # Errors
    /// [`Error::Range`] unless all orders are finite and above 1.
    pub fn with_orders(orders: Vec<f64>) -> Result<Self, Error> {
        for &order in &orders {
            check("an order", order, order > 1.0 && order.is_finite(), "finite and above 1")?;
        }
        Ok(Self { divergences: vec![0.0; orders.len()], orders })
    }

    /// Adds a number of equal steps.
    ///
    /// # Errors
    /// None yet; a later mechanism may have no Rényi divergence.
    pub fn compose(&mut self, step: SubsampledGaussian, steps: u64) -> Result<(), Error> {
        for (order, divergence) in self.orders.iter().zip(&mut self.divergences) {
            *divergence += steps as f64 * renyi_divergence(step, *order);
        }
        Ok(())
    }

    /// The epsilon that was spent, for a delta.
    ///
    /// # Errors
    /// [`Error::Range`] unless `delta` is above 0 and below 1.
    pub fn epsilon(&self, delta: f64) -> Result<f64, Error> {
        check_delta(delta)?;
        let epsilon = |(&order, &divergence): (&f64, &f64)| {
            // Bretagnolle and Huber, 1979: the total variation is below delta.
            if delta * delta + (-divergence).exp_m1() > 0.0 {
                return 0.0;
            }
            divergence - (delta.ln() + order.ln()) / (order - 1.0) + ((order - 1.0) / order).ln()
        };
        let bounds = self.orders.iter().zip(&self.divergences).map(epsilon);
        Ok(bounds.filter(|bound| !bound.is_nan()).fold(f64::INFINITY, f64::min).max(0.0))
    }
}

/// The Rényi divergence of an order between the outcomes of a step with and without a record.
fn renyi_divergence(step: SubsampledGaussian, order: f64) -> f64 {
    let (q, sigma) = (step.sampling_rate(), step.noise_multiplier());
    if q == 0.0 {
        return 0.0;
    }
    if q >= 1.0 {
        return order / (2.0 * sigma * sigma);
    }
    let moment = if order.fract() == 0.0 { ln_moment_of_integer(q, sigma, order) } else { ln_moment(q, sigma, order) };
    moment / (order - 1.0)
}

/// Logarithm of the sum over k of `binom(order, k) (1 - q)^(order - k) q^k exp((k^2 - k) / 2 sigma^2)`.
fn ln_moment_of_integer(q: f64, sigma: f64, order: f64) -> f64 {
    let mut sum = f64::NEG_INFINITY;
    let mut ln_binomial = 0.0;
    for k in 0..=order as u64 {
        let k = k as f64;
        if k > 0.0 {
            ln_binomial += ((order - k + 1.0) / k).ln();
        }
        let term = ln_binomial + k * q.ln() + (order - k) * (-q).ln_1p() + (k * k - k) / (2.0 * sigma * sigma);
        sum = ln_add(sum, term);
    }
    sum
}

/// The same for an order that is no integer: two series, for the outcomes on both sides of the point where both terms
/// of the mixture are equal.
fn ln_moment(q: f64, sigma: f64, order: f64) -> f64 {
    let z = sigma * sigma * (1.0 / q - 1.0).ln() + 0.5;
    let scale = std::f64::consts::SQRT_2 * sigma;
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    let (mut ln_binomial, mut is_positive, mut i) = (0.0_f64, true, 0.0);
    loop {
        let j = order - i;
        let of_low = ln_binomial + i * q.ln() + j * (-q).ln_1p() + (i * i - i) / (2.0 * sigma * sigma) + ln_half_erfc((i - z) / scale);
        let of_high = ln_binomial + j * q.ln() + i * (-q).ln_1p() + (j * j - j) / (2.0 * sigma * sigma) + ln_half_erfc((z - j) / scale);
        let add = if is_positive { ln_add } else { ln_subtract };
        (low, high) = (add(low, of_low), add(high, of_high));
        if of_low.max(of_high) < -30.0 {
            return ln_add(low, high);
        }
        // binom(order, i + 1) = binom(order, i) (order - i) / (i + 1)
        is_positive ^= j < 0.0;
        i += 1.0;
        ln_binomial += (j.abs() / i).ln();
    }
}

fn ln_add(a: f64, b: f64) -> f64 {
    let (large, small) = (a.max(b), a.min(b));
    if small == f64::NEG_INFINITY { large } else { large + (small - large).exp().ln_1p() }
}

/// The logarithm of a difference; of a smaller minuend, which only rounding produces, that of nothing.
fn ln_subtract(a: f64, b: f64) -> f64 {
    if a <= b { f64::NEG_INFINITY } else { a + (-(b - a).exp()).ln_1p() }
}

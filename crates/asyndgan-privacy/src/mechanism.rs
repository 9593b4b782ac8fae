use crate::{
    Error,
    error::check,
    normal::{cdf, sf},
};

/// One step of DP-SGD: every record takes part with the probability `sampling_rate` (Poisson sampling), its
/// contribution is clipped to a norm C, and Gaussian noise with the standard deviation `noise_multiplier` times C is
/// added to the sum.
///
/// # Reference
/// Abadi et al., Deep Learning with Differential Privacy, CCS 2016.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubsampledGaussian {
    sampling_rate: f64,
    noise_multiplier: f64,
}

impl SubsampledGaussian {
    /// A step.
    ///
    /// # Errors
    /// [`Error::Range`] unless `sampling_rate` is from 0 to 1, and `noise_multiplier` is positive and finite.
    pub fn new(sampling_rate: f64, noise_multiplier: f64) -> Result<Self, Error> {
        check("the sampling rate", sampling_rate, (0.0..=1.0).contains(&sampling_rate), "from 0 to 1")?;
        let is_positive = noise_multiplier > 0.0 && noise_multiplier.is_finite();
        check("the noise multiplier", noise_multiplier, is_positive, "positive and finite")?;
        Ok(Self { sampling_rate, noise_multiplier })
    }

    /// The probability with which a record takes part.
    pub fn sampling_rate(self) -> f64 {
        self.sampling_rate
    }

    /// The standard deviation of the noise, as a multiple of the clipping norm.
    pub fn noise_multiplier(self) -> f64 {
        self.noise_multiplier
    }

    /// The smallest delta for which one step is (epsilon, delta)-private if a record is removed: the hockey-stick
    /// divergence of the mixture from the Gaussian.
    pub(crate) fn delta_of_removal(self, epsilon: f64) -> f64 {
        let Self { sampling_rate: q, noise_multiplier: sigma } = self;
        let Some(x) = self.outcome_with_ratio(epsilon) else { return 1.0 - epsilon.exp() };
        let (without, with) = (sf(x / sigma), sf((x - 1.0) / sigma));
        ((1.0 - q) * without + q * with - epsilon.exp() * without).max(0.0)
    }

    /// The same if a record is added: the divergence of the Gaussian from the mixture.
    pub(crate) fn delta_of_addition(self, epsilon: f64) -> f64 {
        let Self { sampling_rate: q, noise_multiplier: sigma } = self;
        let Some(x) = self.outcome_with_ratio(-epsilon) else { return 0.0 };
        let (without, with) = (cdf(x / sigma), cdf((x - 1.0) / sigma));
        (without - epsilon.exp() * ((1.0 - q) * without + q * with)).max(0.0)
    }

    /// The outcome at which the density of the mixture is `exp(epsilon)` times that of the Gaussian; `None` if it is
    /// more everywhere.
    fn outcome_with_ratio(self, epsilon: f64) -> Option<f64> {
        let Self { sampling_rate: q, noise_multiplier: sigma } = self;
        // (1 - q) + q exp((2x - 1) / 2 sigma^2) = exp(epsilon)
        let ratio = epsilon.exp_m1() / q + 1.0;
        (ratio > 0.0).then(|| sigma * sigma * ratio.ln() + 0.5)
    }

    /// The privacy loss of an outcome if a record is removed.
    pub(crate) fn loss_of_removal(self, x: f64) -> f64 {
        let Self { sampling_rate: q, noise_multiplier: sigma } = self;
        let exponent = (2.0 * x - 1.0) / (2.0 * sigma * sigma);
        // ln(1 - q + q e^y), also for large y.
        if q >= 1.0 {
            exponent
        } else if exponent > 0.0 {
            exponent + (q + (1.0 - q) * (-exponent).exp()).ln()
        } else {
            (q * exponent.exp_m1()).ln_1p()
        }
    }
}

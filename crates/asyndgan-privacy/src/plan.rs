use crate::{Budget, Error, PldAccountant, RdpAccountant, SubsampledGaussian};

/// The search ends when the bounds of the noise multiplier differ by less than this share.
const PRECISION: f64 = 1e-3;
const NOISE_MAX: f64 = 1e4;

/// The smallest noise multiplier, to one part in a thousand, with which a number of steps stays within a budget.
///
/// The result is checked with [`PldAccountant`]; if the privacy loss has too wide a range for it, with
/// [`RdpAccountant`].
///
/// # Errors
/// [`Error::Range`] for a sampling rate outside of 0 to 1, or [`Error::Unreachable`].
pub fn noise_multiplier(budget: Budget, sampling_rate: f64, steps: u64) -> Result<f64, Error> {
    let epsilon = |noise: f64| {
        let step = SubsampledGaussian::new(sampling_rate, noise)?;
        let (mut pld, mut rdp) = (PldAccountant::new(), RdpAccountant::new());
        rdp.compose(step, steps)?;
        let bound = rdp.epsilon(budget.delta())?;
        // Far from the budget, the fast bound is enough.
        if bound <= budget.epsilon() || bound > 4.0 * budget.epsilon() + 4.0 {
            return Ok(bound);
        }
        match pld.compose(step, steps) {
            Ok(()) => Ok(pld.epsilon(budget.delta())?.min(bound)),
            Err(Error::TooWide { .. }) => Ok(bound),
            Err(error) => Err(error),
        }
    };
    let (mut low, mut high) = (0.05, 0.1);
    while epsilon(high)? > budget.epsilon() {
        (low, high) = (high, 2.0 * high);
        if high > NOISE_MAX {
            return Err(Error::Unreachable { epsilon: budget.epsilon(), limit: NOISE_MAX });
        }
    }
    while high / low > 1.0 + PRECISION {
        let middle = f64::midpoint(low, high);
        if epsilon(middle)? > budget.epsilon() { low = middle } else { high = middle }
    }
    Ok(high)
}

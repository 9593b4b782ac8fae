use crate::{Budget, Composition, Error, RdpAccountant, SubsampledGaussian};

/// The search ends when the bounds of the noise multiplier differ by less than this share.
const PRECISION: f64 = 1e-3;
const NOISE_MIN: f64 = 0.05;
const NOISE_MAX: f64 = 1e4;

/// The smallest noise multiplier, to one part in a thousand, with which a number of steps stays within a budget.
///
/// The result is checked with [`PldAccountant`](crate::PldAccountant); if the privacy loss has too wide a range for it,
/// with [`RdpAccountant`].
///
/// # Errors
/// [`Error::Range`] for a sampling rate outside of 0 to 1, or [`Error::Unreachable`].
pub fn noise_multiplier(budget: Budget, sampling_rate: f64, steps: u64) -> Result<f64, Error> {
    let by_rdp = |noise: f64| {
        let mut accountant = RdpAccountant::new();
        accountant.compose(SubsampledGaussian::new(sampling_rate, noise)?, steps)?;
        accountant.epsilon(budget.delta())
    };
    let tight = |noise: f64| {
        let mut composition = Composition::new();
        composition.add(SubsampledGaussian::new(sampling_rate, noise)?, steps);
        composition.epsilon(budget.delta())
    };
    if by_rdp(NOISE_MAX)? > budget.epsilon() {
        return Err(Error::Unreachable { epsilon: budget.epsilon(), limit: NOISE_MAX });
    }
    if by_rdp(NOISE_MIN)? <= budget.epsilon() {
        return Ok(NOISE_MIN);
    }
    // The fast bound gives noise that is enough, and where to look for less.
    let (_, enough) = boundary(budget, [NOISE_MIN, NOISE_MAX], by_rdp)?;
    let mut low = 0.9 * enough;
    while low > NOISE_MIN && tight(low)? <= budget.epsilon() {
        low *= 0.8;
    }
    Ok(boundary(budget, [low.max(NOISE_MIN), enough], tight)?.1)
}

/// The bounds of the noise at which epsilon falls to the budget, within [`PRECISION`]; enough noise is the second one.
/// Epsilon must be above the budget at the first and not at the second of `ends`, or the second is returned.
///
/// Regula falsi on logarithms, with halved weights (Illinois): epsilon is close to a power of the noise.
fn boundary(budget: Budget, [low, high]: [f64; 2], epsilon: impl Fn(f64) -> Result<f64, Error>) -> Result<(f64, f64), Error> {
    let excess = |noise: f64| Ok::<_, Error>((epsilon(noise)?.max(1e-300) / budget.epsilon()).ln().clamp(-50.0, 50.0));
    let (mut low, mut high) = (low.ln(), high.ln());
    let (mut above, mut below) = (excess(low.exp())?, excess(high.exp())?);
    if above <= 0.0 {
        return Ok((low.exp(), low.exp()));
    }
    let mut last = 0;
    while high - low > PRECISION {
        // Not closer to an end than half of the precision, so that the other end moves at last.
        let margin = 0.5 * PRECISION;
        let middle = (low + (high - low) * above / (above - below)).clamp(low + margin, high - margin);
        let found = excess(middle.exp())?;
        if found > 0.0 {
            (low, above) = (middle, found);
            below *= if last == 1 { 0.5 } else { 1.0 };
            last = 1;
        } else {
            (high, below) = (middle, found.min(-1e-12));
            above *= if last == -1 { 0.5 } else { 1.0 };
            last = -1;
        }
    }
    Ok((low.exp(), high.exp()))
}

use std::collections::BTreeMap;

use crate::{Budget, Error, PldAccountant, RdpAccountant, SubsampledGaussian};

/// Steps of DP-SGD on the same records, possibly of several runs with different settings.
///
/// The composition is exact in the number of steps: it stores how many steps of each kind were taken, and computes
/// epsilon from these numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Composition {
    /// The number of steps by the bits of sampling rate and noise multiplier.
    steps: BTreeMap<(u64, u64), u64>,
}

impl Composition {
    /// Without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a number of equal steps.
    pub fn add(&mut self, step: SubsampledGaussian, count: u64) {
        let steps = self.steps.entry((step.sampling_rate().to_bits(), step.noise_multiplier().to_bits())).or_default();
        *steps = steps.saturating_add(count);
    }

    /// The kinds of steps, with the number of each.
    ///
    /// # Panics
    /// Never: every step was valid when it was added.
    pub fn steps(&self) -> impl Iterator<Item = (SubsampledGaussian, u64)> {
        let step = |(&(rate, noise), &count): (&(u64, u64), &u64)| {
            (SubsampledGaussian::new(f64::from_bits(rate), f64::from_bits(noise)).expect("added as a valid step"), count)
        };
        self.steps.iter().map(step)
    }

    /// The epsilon that all steps spend together: the bound of [`PldAccountant`], or of [`RdpAccountant`] if it is
    /// smaller or the privacy loss has too wide a range for the other. 0 without steps.
    ///
    /// # Errors
    /// [`Error::Range`] unless `delta` is above 0 and below 1.
    pub fn epsilon(&self, delta: f64) -> Result<f64, Error> {
        let bound = self.epsilon_by_rdp(delta)?;
        if self.steps.values().all(|&count| count == 0) {
            return Ok(0.0);
        }
        let mut pld = PldAccountant::new();
        for (step, count) in self.steps() {
            match pld.compose(step, count) {
                Ok(()) => {}
                Err(Error::TooWide { .. }) => return Ok(bound),
                Err(error) => return Err(error),
            }
        }
        Ok(pld.epsilon(delta)?.min(bound))
    }

    fn epsilon_by_rdp(&self, delta: f64) -> Result<f64, Error> {
        let mut rdp = RdpAccountant::new();
        for (step, count) in self.steps() {
            rdp.compose(step, count)?;
        }
        rdp.epsilon(delta)
    }

    /// How many more steps of one kind stay within a budget, at most `limit`. The bound of [`PldAccountant`] is proved
    /// for steps whose settings are fixed in advance, such as those of one run.
    ///
    /// # Errors
    /// None yet; a later accountant may fail.
    pub fn steps_left(&self, budget: Budget, step: SubsampledGaussian, limit: u64) -> Result<u64, Error> {
        let fits = |count: u64| {
            let mut all = self.clone();
            all.add(step, count);
            // The fast bound is enough where it fits.
            Ok(all.epsilon_by_rdp(budget.delta())? <= budget.epsilon() || all.epsilon(budget.delta())? <= budget.epsilon())
        };
        if fits(limit)? {
            return Ok(limit);
        }
        if !fits(0)? {
            return Ok(0);
        }
        let (mut low, mut high) = (0, limit);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(middle)? { low = middle } else { high = middle }
        }
        Ok(low)
    }
}

use crate::{Error, error::check};

/// A bound on what an observer can learn about one record: (epsilon, delta)-differential privacy.
///
/// # Reference
/// Dwork and Roth, The Algorithmic Foundations of Differential Privacy, 2014.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    epsilon: f64,
    delta: f64,
}

impl Budget {
    /// A budget.
    ///
    /// # Errors
    /// [`Error::Range`] unless `epsilon` is positive and finite, and `delta` is above 0 and below 1.
    pub fn new(epsilon: f64, delta: f64) -> Result<Self, Error> {
        check("epsilon", epsilon, epsilon > 0.0 && epsilon.is_finite(), "positive and finite")?;
        check_delta(delta)?;
        Ok(Self { epsilon, delta })
    }

    /// The logarithm of the largest ratio between the probabilities of an outcome with and without a record.
    pub fn epsilon(self) -> f64 {
        self.epsilon
    }

    /// The probability with which that bound may fail; far below one divided by the number of records.
    pub fn delta(self) -> f64 {
        self.delta
    }
}

pub(crate) fn check_delta(delta: f64) -> Result<(), Error> {
    check("delta", delta, delta > 0.0 && delta < 1.0, "above 0 and below 1")
}

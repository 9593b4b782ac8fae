/// A value outside of its range, or a budget that no noise meets.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value outside of its range.
    #[error("{name} is {value}; it must be {valid}")]
    Range {
        /// The name of the value.
        name: &'static str,
        /// The value.
        value: f64,
        /// The values that are valid.
        valid: &'static str,
    },
    /// No noise within the range of the search meets the budget.
    #[error("no noise multiplier up to {limit} meets epsilon {epsilon}; allow a larger epsilon, fewer steps or a smaller sampling rate")]
    Unreachable {
        /// The epsilon of the budget.
        epsilon: f64,
        /// The largest noise multiplier that was tried.
        limit: f64,
    },
    /// Steps whose composed privacy loss has a wider range than the accountant can represent.
    #[error("the privacy loss of these steps ranges over {points} points, and the limit is {limit}; use the Rényi accountant")]
    TooWide {
        /// Points of the discretised distribution.
        points: u64,
        /// The largest number of points.
        limit: u64,
    },
}

pub(crate) fn check(name: &'static str, value: f64, holds: bool, valid: &'static str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Range { name, value, valid }) }
}

use std::fmt;

/// Why a metric has no value for a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undefined {
    /// Neither the truth nor the prediction marks anything.
    BothEmpty,
    /// The truth marks nothing, so the metric has nothing to measure against.
    TruthEmpty,
    /// The truth marks everything, so the metric has no background to measure.
    TruthFull,
    /// The prediction marks nothing: a missed case. Count it; never drop it silently.
    PredictionEmpty,
    /// A value is NaN or infinite.
    NotFinite,
    /// No instance of the truth matches one of the prediction.
    NoMatch,
    /// Both inputs are identical, so the metric would be infinite or the test meaningless.
    Identical,
    /// The image is smaller than the window.
    TooSmall,
    /// There is no value to summarise.
    NoSamples,
}

impl fmt::Display for Undefined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Undefined::BothEmpty => "truth and prediction are both empty",
            Undefined::TruthEmpty => "the truth is empty",
            Undefined::TruthFull => "the truth has no background",
            Undefined::PredictionEmpty => "the prediction is empty",
            Undefined::NotFinite => "a value is not finite",
            Undefined::NoMatch => "no instance matches",
            Undefined::Identical => "the inputs are identical",
            Undefined::TooSmall => "the image is smaller than the window",
            Undefined::NoSamples => "no samples",
        })
    }
}

impl std::error::Error for Undefined {}

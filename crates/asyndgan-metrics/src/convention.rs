use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Undefined;

/// The choices on which implementations of the metrics disagree; stored with every result.
///
/// # Reference
/// Taken from medpy 0.5.2, MONAI 1.6.1 and the code of the follow-up paper (Nature Communications 2023); tested against
/// golden vectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convention {
    /// Name of the convention.
    pub name: ConventionName,
    /// The unit that is scored: a volume, a slice or a tile.
    pub case: String,
    /// Value of Dice, Jaccard, volume similarity, normalised surface distance and the instance metrics if truth and
    /// prediction are both empty.
    pub both_empty: BothEmpty,
    /// How percentiles of surface distances, including HD95, combine the two directions.
    pub percentiles: Directions,
}

/// The named conventions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConventionName {
    /// Our default: a metric without a value is undefined; HD95 is the larger of the two directions.
    Standard,
    /// As in the `AsynDGAN` papers: medpy's HD95, and 0 if both masks are empty.
    Paper,
    /// MONAI's `DiceMetric` (Dice is undefined if the truth is empty), `HausdorffDistanceMetric` and
    /// `SurfaceDistanceMetric(symmetric=True)`.
    Monai,
    /// `medpy.metric.binary` of version 0.5: both directions' distances pooled for HD95, and 1 if both masks are empty.
    Medpy,
}

/// The value of an overlap metric if both masks are empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BothEmpty {
    /// No value.
    Undefined,
    /// 1: full agreement.
    One,
    /// 0: no agreement.
    Zero,
}

/// How the distances of the two directions, from the truth's surface and from the prediction's, are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Directions {
    /// The percentile of each direction separately, then the larger.
    Separate,
    /// The percentile of both directions pooled.
    Pooled,
}

impl Convention {
    /// The convention of a profile, for cases of the given kind.
    ///
    /// # Example
    /// ```
    /// use asyndgan_metrics::{BothEmpty, Convention, ConventionName};
    /// assert_eq!(Convention::new(ConventionName::Medpy, "volume").both_empty, BothEmpty::One);
    /// ```
    pub fn new(name: ConventionName, case: &str) -> Self {
        let (both_empty, percentiles) = match name {
            ConventionName::Standard | ConventionName::Monai => (BothEmpty::Undefined, Directions::Separate),
            ConventionName::Paper => (BothEmpty::Zero, Directions::Pooled),
            ConventionName::Medpy => (BothEmpty::One, Directions::Pooled),
        };
        Self { name, case: case.into(), both_empty, percentiles }
    }

    /// Applies the choice for two empty masks; other reasons are returned unchanged.
    ///
    /// # Errors
    /// The given reason, unless the convention defines a value for it.
    pub fn apply(&self, value: Result<f64, Undefined>) -> Result<f64, Undefined> {
        match (value, self.both_empty) {
            (Err(Undefined::BothEmpty), BothEmpty::One) => Ok(1.0),
            (Err(Undefined::BothEmpty), BothEmpty::Zero) => Ok(0.0),
            (value, _) => value,
        }
    }
}

impl ConventionName {
    /// All named conventions.
    pub const ALL: [Self; 4] = [Self::Standard, Self::Paper, Self::Monai, Self::Medpy];
}

impl fmt::Display for ConventionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standard => "standard",
            Self::Paper => "paper",
            Self::Monai => "monai",
            Self::Medpy => "medpy",
        })
    }
}

impl FromStr for ConventionName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|p| p.to_string() == name)
            .ok_or_else(|| format!("{name} is not a convention: use standard, paper, monai or medpy"))
    }
}

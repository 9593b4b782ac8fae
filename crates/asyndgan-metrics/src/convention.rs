use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Undefined;

/// What was decided where implementations of the metrics disagree; stored beside every number.
///
/// # Reference
/// Read off medpy 0.5.2, MONAI 1.6.1 and the follow-up's code (Nature Communications 2023); the golden vectors hold us to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convention {
    /// Name of the whole set of decisions.
    pub name: Profile,
    /// What one scored case is: a volume, a slice or a tile.
    pub case: String,
    /// Dice, Jaccard, volume similarity, normalised surface distance and the instance metrics when truth and prediction are both empty.
    pub both_empty: BothEmpty,
    /// Percentiles of surface distances, HD95 among them: of each direction, then the larger; or of both together.
    pub percentiles: Directions,
}

/// The named sets of decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Ours: what does not exist is undefined; HD95 is the larger direction's.
    Standard,
    /// What the `AsynDGAN` family computed: medpy's HD95, and 0 where both are empty.
    Paper,
    /// MONAI's `DiceMetric` (which leaves out cases with an empty truth), `HausdorffDistanceMetric` and `SurfaceDistanceMetric(symmetric=True)`.
    Monai,
    /// `medpy.metric.binary` of version 0.5: both directions' distances pooled for HD95, 1 where both are empty.
    Medpy,
}

/// The value of an overlap of nothing with nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BothEmpty {
    /// There is none.
    Undefined,
    /// Agreement.
    One,
    /// None at all.
    Zero,
}

/// How the distances from the truth's surface and those from the prediction's come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Directions {
    /// Each by itself first.
    Separate,
    /// All in one heap.
    Pooled,
}

impl Convention {
    /// The decisions of a profile, for cases of the given kind.
    ///
    /// # Example
    /// ```
    /// use asyndgan_metrics::{BothEmpty, Convention, Profile};
    /// assert_eq!(Convention::of(Profile::Medpy, "volume").both_empty, BothEmpty::One);
    /// ```
    pub fn of(name: Profile, case: &str) -> Self {
        let (both_empty, percentiles) = match name {
            Profile::Standard | Profile::Monai => (BothEmpty::Undefined, Directions::Separate),
            Profile::Paper => (BothEmpty::Zero, Directions::Pooled),
            Profile::Medpy => (BothEmpty::One, Directions::Pooled),
        };
        Self { name, case: case.into(), both_empty, percentiles }
    }

    /// Applies the decision about two empty masks; other reasons stay.
    ///
    /// # Errors
    /// The reason that was given, unless it is decided away.
    pub fn settle(&self, value: Result<f64, Undefined>) -> Result<f64, Undefined> {
        match (value, self.both_empty) {
            (Err(Undefined::BothEmpty), BothEmpty::One) => Ok(1.0),
            (Err(Undefined::BothEmpty), BothEmpty::Zero) => Ok(0.0),
            (value, _) => value,
        }
    }
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Standard, Self::Paper, Self::Monai, Self::Medpy];
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standard => "standard",
            Self::Paper => "paper",
            Self::Monai => "monai",
            Self::Medpy => "medpy",
        })
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|p| p.to_string() == name)
            .ok_or_else(|| format!("{name} is no convention: take standard, paper, monai or medpy"))
    }
}

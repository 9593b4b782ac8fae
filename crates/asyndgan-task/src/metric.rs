use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A metric of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Metric {
    /// Dice coefficient.
    Dice,
    /// Share of the true pixels that are found.
    Sensitivity,
    /// Share of the background that is not marked.
    Specificity,
    /// 95th percentile of the surface distance, in millimetres; in pixels for pictures.
    Hd95,
    /// Aggregated Jaccard index of instances.
    Aji,
}

impl Metric {
    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Dice => "dice",
            Metric::Sensitivity => "sensitivity",
            Metric::Specificity => "specificity",
            Metric::Hd95 => "hd95",
            Metric::Aji => "aji",
        }
    }

    /// Whether a higher value is better.
    pub fn is_higher_better(self) -> bool {
        self != Metric::Hd95
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

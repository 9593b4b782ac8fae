use serde::{Deserialize, Serialize};

/// What was decided where implementations of the metrics disagree; stored beside every number.
///
/// # Reference
/// Differences between medpy, MONAI, `MetricsReloaded` and the follow-up's code; see each field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convention {
    /// Name of the whole set of decisions.
    pub name: String,
    /// What one scored case is: a volume, a slice or a tile.
    pub case: String,
    /// Dice, sensitivity and specificity.
    pub overlap: String,
    /// HD95.
    pub surface: String,
    /// AJI.
    pub instances: String,
}

impl Convention {
    /// The decisions of the functions of this crate, for cases of the given kind.
    pub fn standard(case: &str) -> Self {
        Self {
            name: "standard".into(),
            case: case.into(),
            overlap: "per case; dice undefined when both are empty; sensitivity and specificity undefined on an empty denominator".into(),
            surface: "hd95: 95th percentile (linear interpolation) of each direction, then the larger, in millimetres; undefined and counted when either is empty".into(),
            instances: "Kumar's AJI: every truth takes its best-IoU prediction, which may serve twice; unmatched truth and unused predictions add their areas".into(),
        }
    }
}

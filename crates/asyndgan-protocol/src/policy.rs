use serde::{Deserialize, Serialize};

use crate::{Dtype, Error, RunDescription};

/// Which masks may leave a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConditionPolicy {
    /// The masks as they are.
    All,
    /// Only masks put together from several patients', as far as their names tell patients apart: none leaves as it is. A brain's outline does.
    Recombined,
}

/// What a site allows; its owner decides, whatever the server describes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SitePolicy {
    /// The largest number of rounds; a server gets answers at most twice as often, for rounds that must be done again.
    pub rounds_max: u64,
    /// Whether feedback may hold the gradient of an L1 term, which gives real images away.
    pub allow_l1: bool,
    /// How tensors may travel.
    pub payloads: Vec<Dtype>,
    /// Which masks may leave.
    pub conditions: ConditionPolicy,
    /// The largest Euclidean norm of the feedback for one image; what is longer is shortened to it. None: as it is.
    pub feedback_norm_max: Option<f32>,
}

impl Default for SitePolicy {
    /// Adversarial feedback only, for at most a million rounds, however it travels.
    fn default() -> Self {
        Self {
            rounds_max: 1_000_000,
            allow_l1: false,
            payloads: vec![Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::Q8],
            conditions: ConditionPolicy::All,
            feedback_norm_max: None,
        }
    }
}

impl SitePolicy {
    /// How often a server may ask, over all restarts.
    pub(crate) fn answers_max(&self) -> u64 {
        self.rounds_max.saturating_mul(2)
    }

    /// Whether a run may use this site's data.
    ///
    /// # Errors
    /// [`Error::Refused`] with the rule.
    pub fn check(&self, run: &RunDescription) -> Result<(), Error> {
        let refused = |fact: String| Err(Error::Refused { run: run.name.clone(), fact });
        if run.l1_weight != 0.0 && !self.allow_l1 {
            return refused(format!("allow_l1 is false, the run has an L1 term of weight {}, which gives real images away", run.l1_weight));
        }
        if run.l1_weight != 0.0 && self.conditions == ConditionPolicy::Recombined {
            return refused("conditions are re-combined, an L1 term needs an image for each".into());
        }
        if run.rounds > self.rounds_max {
            return refused(format!("rounds_max is {}, the run has {}", self.rounds_max, run.rounds));
        }
        for dtype in [run.synthetic_dtype, run.feedback_dtype] {
            if !self.payloads.contains(&dtype) {
                return refused(format!("payloads do not list {dtype}, in which the run's tensors travel"));
            }
        }
        Ok(())
    }
}

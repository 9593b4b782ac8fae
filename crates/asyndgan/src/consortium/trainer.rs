//! A site's data and networks.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use asyndgan_data::CaseSet;
use asyndgan_models::set_threads;
use asyndgan_protocol::{ConditionPolicy, PrivacyBudget, Role, SiteId, SiteRandomness};
use asyndgan_training::{Pairs, SampledMasks, SiteOptions, SiteTrainer};
use tch::Tensor;

use super::{secret::secret, site_config::SiteConfig};
use crate::{device::device, shared_masks::shared_masks};

/// What a trainer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A run. What leaves the site is recorded in the ledger of the patients.
    Run,
    /// A check. Nothing leaves the site, so nothing is recorded.
    Check,
}

/// The site's data and networks, with the masks that its policy allows it to share. The secret and the checkpoints are
/// in `folder`.
pub(super) fn trainer(config: &SiteConfig, folder: &Path, purpose: Purpose) -> Result<SiteTrainer> {
    let device = device(&config.device)?;
    set_threads(1);
    let pairs = Pairs::of_cases(CaseSet::open(std::slice::from_ref(&config.data))?).with_context(|| config.data.display().to_string())?;
    let secret = secret(folder)?;
    let ledger = (purpose == Purpose::Run).then(|| config.privacy_ledger());
    let shared = shared(config, &pairs, ledger.clone())?;
    let options = SiteOptions::default().with(|options| {
        options.shared = shared;
        options.feedback_norm_max = config.policy.feedback_norm_max;
        options.randomness = SiteRandomness::Secret(secret);
        options.budget = config.policy.budget().filter(|_| ledger.is_some());
        options.privacy_ledger = ledger;
    });
    Ok(SiteTrainer::new(pairs, options, &folder.join("checkpoints"), device))
}

/// The masks that the policy allows to leave. They are the same in every run on these data: other combinations in every
/// run would reveal the parts. So their secret is beside the data, and not in the folder of a run.
fn shared(config: &SiteConfig, pairs: &Pairs, ledger: Option<PathBuf>) -> Result<Option<Tensor>> {
    let policy = config.policy.conditions;
    if policy == ConditionPolicy::All {
        return Ok(None);
    }
    let data = config.data.display();
    let images = pairs.description().with_context(|| format!("{data} does not name its task: run asyndgan data prepare again"))?;
    let secret = secret(&config.beside_data("masks"))?;
    let mut rng = secret.stream(&[0; 32], Role::Recombination, SiteId(0), 0);
    let budget = PrivacyBudget { epsilon: config.policy.conditions_epsilon, delta: config.policy.delta };
    let sampled = SampledMasks::new(budget, secret).with(|sampled| (sampled.ledger, sampled.total) = (ledger, config.policy.budget()));
    shared_masks(policy, &images.task, pairs, &sampled, &mut rng).with_context(|| data.to_string())
}

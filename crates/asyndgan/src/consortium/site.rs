use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use asyndgan_data::CaseSet;
use asyndgan_files::{Access, create_private_folder, write};
use asyndgan_models::set_threads;
use asyndgan_protocol::{ConditionPolicy, PrivacyBudget, Role, RunDescription, SiteId, SiteRandomness, SiteSummary, SiteWork as _};
use asyndgan_training::{Pairs, SampledMasks, SiteOptions, SiteTrainer};
use asyndgan_transport::{Consent, Control, Journal, Ledger, Outcome, Receipts, Signer, SiteRecords, SiteRun, SiteRunEvent};
use tch::Tensor;

use super::{
    compare::Alternatives,
    config::{Carrier, SiteConfig},
    dashboard::SitePage,
    folder::lock,
    notify, relay,
    secret::secret,
    stay::stay,
};
use crate::{device::device, progress::Progress, recombine::shared_masks};

/// Takes part in a run with the configuration of a `site.toml`, until the run is finished; or in one run after another.
/// `control` stops the site.
///
/// # Errors
/// If the configuration is not valid, the hospital has not agreed to the run, or the run ends early.
pub fn site(config: &Path, control: &Control) -> Result<()> {
    let mut config = SiteConfig::read(config)?;
    notify::watchdog(control);
    let page = serve_page(&config)?;
    if config.keep_running {
        return stay(&config, control, page.as_ref());
    }
    if config.carrier == Carrier::Relay {
        relay::end_with_relay()?;
        config.set_relay_run(&relay::run_name()?)?;
    }
    let outcome = take_part(&config, None, control, page.as_ref())?;
    config.carrier.ends_with(outcome)
}

/// Checks that the folder belongs to these images: with other ones, the discriminator and the journal would be wrong.
fn check_same_data(config: &SiteConfig, trainer: &mut SiteTrainer) -> Result<()> {
    let (path, summary) = (config.folder.join("data.json"), trainer.summary());
    if !path.try_exists().with_context(|| format!("cannot read {}", path.display()))? {
        return Ok(write(&path, Access::Private, &serde_json::to_vec(&summary)?)?);
    }
    let before: SiteSummary = crate::files::read_json(&path)?;
    ensure!(
        before == summary,
        "{} belongs to {} other images than {}: move the folder aside and keep it, because it has the journal; the operator must amend the \
         run",
        config.folder.display(),
        before.cases,
        config.data.display()
    );
    Ok(())
}

/// Serves the site's own page, if it is configured.
fn serve_page(config: &SiteConfig) -> Result<Option<SitePage>> {
    let Some(address) = config.dashboard else { return Ok(None) };
    create_private_folder(&config.folder).with_context(|| format!("cannot create {}", config.folder.display()))?;
    let (identity, name) = (config.identity()?, config.name()?);
    let until = identity.map(|identity| identity.facts().not_after);
    let (page, url) = SitePage::serve(&name, &config.server, &config.folder, until, address)?;
    tracing::info!("{name}: dashboard: {url}");
    Ok(Some(page))
}

/// Takes part in one run: in `expected` and no other, if it is given.
pub(super) fn take_part(
    config: &SiteConfig,
    expected: Option<&RunDescription>,
    control: &Control,
    page: Option<&SitePage>,
) -> Result<Outcome> {
    let _lock = lock(&config.folder)?;
    let name = config.name()?;
    let mut trainer = trainer(config, &config.folder, Purpose::Run)?;
    let journal = config.folder.join("journal.jsonl");
    // First the chain: what cannot be relied on limits nothing.
    let consent = Consent::in_folder(&config.folder, config.approval());
    ensure!(
        journal.exists() || consent.approved()?.is_none_or(|run| run.site.is_none()),
        "{} is missing, but this site has already taken part in a run: restore it, or use a new folder",
        journal.display()
    );
    let consent = match expected {
        Some(run) => consent.for_run(run.clone()),
        None => consent,
    };
    check_same_data(config, &mut trainer)?;
    let history = Journal::history(&journal, trainer.patients())?;
    // A relay's site has no key to sign with.
    let signer = match config.identity()? {
        Some(identity) => Some(Signer::new(identity, Receipts::open(&Receipts::path_of(&journal))?)),
        None => None,
    };
    let mut records = SiteRecords {
        ledger: Ledger::open(&config.folder.join("ledger.csv"))?,
        journal: Some(Journal::open(&journal)?),
        consent: Some(consent),
        signer,
        history: Some(history),
    };
    let mut link = config.link()?;
    notify::ready();
    let mut bar: Option<Progress> = None;
    let mut last_reason = String::new();
    let mut retired = None;
    let folder = &config.folder;
    let part = SiteRun::new(config.policy.clone()).with(|part| part.control = control.clone());
    let played = part.take_part(&mut link, &mut trainer, &mut records, |news, trainer, ledger| {
        if let Some(page) = page {
            page.on_event(&news, trainer, ledger);
        }
        match news {
        SiteRunEvent::Connected => {
            last_reason.clear();
            tracing::info!("{name}: connected to {}", if config.server.is_empty() { "the relay" } else { &config.server });
        }
        SiteRunEvent::Lost(reason) if last_reason != reason => {
            last_reason = reason.into();
            tracing::warn!("{name}: no connection ({reason}); retrying");
        }
        SiteRunEvent::Accepted(run) if bar.is_none() => {
            tracing::info!("{name}: joined the run {:?} ({}), {} rounds", run.name, run.id(), run.rounds);
            bar = Some(Progress::new(&name, run.rounds));
            let written = Alternatives::at_site(run, trainer)
                .and_then(|a| Ok(write(&folder.join("alternatives.json"), Access::Private, &serde_json::to_vec_pretty(&a)?)?));
            if let Err(error) = written {
                tracing::warn!("{name}: cannot compare with other methods: {error:#}");
            }
        }
        SiteRunEvent::Notice(fact) => tracing::warn!("{name}: {fact}"),
        SiteRunEvent::Begun { rounds_done } => {
            for path in trainer.damaged() {
                tracing::warn!("{} is damaged: using the previous checkpoint", path.display());
            }
            tracing::info!("{name}: {}", super::events::starting(rounds_done));
            if let Some((step, left)) = trainer.private_steps() {
                let (rate, noise) = (step.sampling_rate(), step.noise_multiplier());
                tracing::info!(
                    "{name}: differential privacy with sampling rate {rate:.4} and noise multiplier {noise:.3}; at most {left} more steps"
                );
            }
            if let Some(bar) = &mut bar {
                bar.set(rounds_done);
            }
        }
        SiteRunEvent::Retired(reason) => retired = Some(reason.to_owned()),
        SiteRunEvent::Round { rounds_done } => {
            if let Some(bar) = &mut bar {
                bar.set(rounds_done);
            }
        }
        _ => {}
        }
    });
    if played.with_context(|| name.clone())? == Outcome::Stopped {
        tracing::info!("{name}: stopped; the next start resumes from the last checkpoint");
        return Ok(Outcome::Stopped);
    }
    if let Some(reason) = retired {
        tracing::info!("{name}: left the run in order, and the others continue: {reason}");
    }
    tracing::info!("{name}: finished; everything that left this site is listed in {}", config.folder.join("journal.jsonl").display());
    Ok(Outcome::Finished)
}

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

//! A site's part in one run.

use std::{fmt, path::PathBuf};

use anyhow::{Context, Result, ensure};
use asyndgan_files::{Access, write};
use asyndgan_protocol::{RunDescription, SiteSummary, SiteWork as _};
use asyndgan_training::{PrivateSteps, SiteTrainer};
use asyndgan_transport::{Consent, Control, Journal, Ledger, Outcome, Receipts, Signer, SiteRecords, SiteRun, SiteRunEvent};

use super::{
    compare::Alternatives,
    dashboard::SitePage,
    ended::write_authority,
    folder::lock,
    notify,
    site_config::SiteConfig,
    trainer::{Purpose, trainer},
};
use crate::progress::Progress;

/// Takes part in one run: in `expected` and no other, if it is given. Then it also ends, as stopped, when the server
/// serves no run any more.
pub(super) fn take_part(
    config: &SiteConfig,
    expected: Option<&RunDescription>,
    control: &Control,
    page: Option<&SitePage>,
) -> Result<Outcome> {
    let _lock = lock(&config.folder)?;
    let name = config.name()?;
    let mut trainer = trainer(config, &config.folder, Purpose::Run)?;
    let mut records = open_records(config, expected, &mut trainer)?;
    let mut link = config.link()?;
    notify::ready();
    let mut bar: Option<Progress> = None;
    let mut last_reason = String::new();
    let mut retired = None;
    let folder = &config.folder;
    let of_part = control.child();
    let part = SiteRun::new(config.policy.clone()).with(|part| part.control = of_part.clone());
    let played = part.take_part(&mut link, &mut trainer, &mut records, |news, trainer, ledger| {
        if let Some(page) = page {
            page.on_event(&news, trainer, ledger);
        }
        match news {
            SiteRunEvent::Connected => {
                last_reason.clear();
                tracing::info!("{name}: connected to {}", if config.server.is_empty() { "the relay" } else { &config.server });
            }
            SiteRunEvent::NoRun(reason) if last_reason != reason => {
                last_reason = reason.into();
                if expected.is_some() {
                    // The caller asks for the next run, and reports the reason.
                    of_part.stop();
                } else {
                    tracing::info!("{name}: waiting: {reason}");
                }
            }
            SiteRunEvent::Lost(reason) if last_reason != reason => {
                last_reason = reason.into();
                tracing::warn!("{name}: no connection ({reason}); retrying");
            }
            SiteRunEvent::Accepted(run) if bar.is_none() => {
                tracing::info!(
                    "{name}: joined the run {:?} ({}), {} rounds; the rounds start when enough sites have joined",
                    run.name,
                    run.id(),
                    run.rounds
                );
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
                if let Some(PrivateSteps { mechanism, left, .. }) = trainer.private_steps() {
                    let (rate, noise) = (mechanism.sampling_rate(), mechanism.noise_multiplier());
                    tracing::info!(
                        "{name}: differential privacy with sampling rate {rate:.4} and noise multiplier {noise:.3}; at most {left} more \
                     steps"
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
        if expected.is_none() {
            tracing::info!("{name}: stopped; the next start resumes from the last checkpoint");
        }
        return Ok(Outcome::Stopped);
    }
    if let Some(reason) = retired {
        tracing::info!("{name}: left the run in order, and the others continue: {reason}");
    }
    tracing::info!("{name}: finished; everything that left this site is listed in {}", config.folder.join("journal.jsonl").display());
    Ok(Outcome::Finished)
}

/// Opens the records of the site's part in a run, after a check that they belong to these images.
fn open_records(config: &SiteConfig, expected: Option<&RunDescription>, trainer: &mut SiteTrainer) -> Result<SiteRecords> {
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
    check_same_data(config, trainer)?;
    write_authority(config)?;
    let history = Journal::history(&journal, trainer.patients())?;
    // A relay's site has no key to sign with.
    let signer = match config.identity()? {
        Some(identity) => Some(Signer::new(identity, Receipts::open(&Receipts::path_of(&journal))?)),
        None => None,
    };
    Ok(SiteRecords {
        ledger: Ledger::open(&config.folder.join("ledger.csv"))?,
        journal: Some(Journal::open(&journal)?),
        consent: Some(consent),
        signer,
        history: Some(history),
    })
}

/// Checks that the folder belongs to these images: with other ones, the discriminator and the journal would be wrong.
fn check_same_data(config: &SiteConfig, trainer: &mut SiteTrainer) -> Result<()> {
    let (path, summary) = (config.folder.join("data.json"), trainer.summary());
    if !path.try_exists().with_context(|| format!("cannot read {}", path.display()))? {
        return Ok(write(&path, Access::Private, &serde_json::to_vec(&summary)?)?);
    }
    let before: SiteSummary = crate::files::read_json(&path)?;
    ensure!(before == summary, OtherImages { folder: config.folder.clone(), data: config.data.clone() });
    Ok(())
}

/// The folder of a run belongs to other images than those of the configuration.
#[derive(Debug)]
pub(super) struct OtherImages {
    folder: PathBuf,
    data: PathBuf,
}

impl std::error::Error for OtherImages {}

impl fmt::Display for OtherImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, data) = (self.folder.display(), self.data.display());
        write!(
            f,
            "{folder} belongs to other images than {data}: move the folder aside and keep it, because it has the journal; the operator must \
             amend the run"
        )
    }
}

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
    let mut observer = PartObserver {
        config,
        name: &name,
        page,
        of_part: control.child(),
        expects_run: expected.is_some(),
        bar: None,
        last_reason: String::new(),
        retired: None,
    };
    let part = SiteRun::new(config.policy.clone()).with(|part| part.control = observer.of_part.clone());
    let played = part.take_part(&mut link, &mut trainer, &mut records, |news, trainer, ledger| observer.on_event(&news, trainer, ledger));
    if played.with_context(|| name.clone())? == Outcome::Stopped {
        if expected.is_none() {
            tracing::info!("{name}: stopped; the next start resumes from the last checkpoint");
        }
        return Ok(Outcome::Stopped);
    }
    if let Some(reason) = observer.retired {
        tracing::info!("{name}: left the run in order, and the others continue: {reason}");
    }
    tracing::info!("{name}: finished; everything that left this site is listed in {}", config.folder.join("journal.jsonl").display());
    Ok(Outcome::Finished)
}

/// Reports the events of a site's part in a run: on its page, in its log, and by a progress bar.
struct PartObserver<'a> {
    config: &'a SiteConfig,
    /// Name of the site.
    name: &'a str,
    page: Option<&'a SitePage>,
    /// Ends this part alone.
    of_part: Control,
    /// Whether the site takes part in one run and no other.
    expects_run: bool,
    bar: Option<Progress>,
    /// The last reason for which there was no connection or no run, which is reported once.
    last_reason: String,
    /// Why the site has left the run in order.
    retired: Option<String>,
}

impl PartObserver<'_> {
    fn on_event(&mut self, news: &SiteRunEvent<'_>, trainer: &SiteTrainer, ledger: &Ledger) {
        if let Some(page) = self.page {
            page.on_event(news, trainer, ledger);
        }
        let name = self.name;
        match news {
            SiteRunEvent::Connected => {
                self.last_reason.clear();
                tracing::info!("{name}: connected to {}", if self.config.server.is_empty() { "the relay" } else { &self.config.server });
            }
            SiteRunEvent::NoRun(reason) if self.last_reason != *reason => {
                self.last_reason = (*reason).into();
                if self.expects_run {
                    // The caller asks for the next run, and reports the reason.
                    self.of_part.stop();
                } else {
                    tracing::info!("{name}: waiting: {reason}");
                }
            }
            SiteRunEvent::Lost(reason) if self.last_reason != *reason => {
                self.last_reason = (*reason).into();
                tracing::warn!("{name}: no connection ({reason}); retrying");
            }
            SiteRunEvent::Accepted(run) if self.bar.is_none() => {
                tracing::info!(
                    "{name}: joined the run {:?} ({}), {} rounds; the rounds start when enough sites have joined",
                    run.name,
                    run.id(),
                    run.rounds
                );
                self.bar = Some(Progress::new(name, run.rounds));
                let written = Alternatives::at_site(run, trainer).and_then(|a| {
                    Ok(write(&self.config.folder.join("alternatives.json"), Access::Private, &serde_json::to_vec_pretty(&a)?)?)
                });
                if let Err(error) = written {
                    tracing::warn!("{name}: cannot compare with other methods: {error:#}");
                }
            }
            SiteRunEvent::Notice(fact) => tracing::warn!("{name}: {fact}"),
            SiteRunEvent::Begun { rounds_done } => {
                for path in trainer.damaged() {
                    tracing::warn!("{} is damaged: using the previous checkpoint", path.display());
                }
                tracing::info!("{name}: {}", super::events::starting(*rounds_done));
                if let Some(PrivateSteps { mechanism, left, .. }) = trainer.private_steps() {
                    let (rate, noise) = (mechanism.sampling_rate(), mechanism.noise_multiplier());
                    tracing::info!(
                        "{name}: differential privacy with sampling rate {rate:.4} and noise multiplier {noise:.3}; at most {left} more \
                     steps"
                    );
                }
                if let Some(bar) = &mut self.bar {
                    bar.set(*rounds_done);
                }
            }
            SiteRunEvent::Retired(reason) => self.retired = Some((*reason).to_owned()),
            SiteRunEvent::Round { rounds_done } => {
                if let Some(bar) = &mut self.bar {
                    bar.set(*rounds_done);
                }
            }
            _ => {}
        }
    }
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
        let written = write(&path, Access::Private, &serde_json::to_vec(&summary)?);
        return written.with_context(|| format!("cannot write {}", path.display()));
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

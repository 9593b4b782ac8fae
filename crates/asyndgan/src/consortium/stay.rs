//! A site that takes part in one run after another.

use std::{path::Path, thread, time::Duration};

use anyhow::{Context, Result};
use asyndgan_files::{Access, write};
use asyndgan_protocol::{Message, RunDescription};
use asyndgan_transport::{Approval, Consent, Control, Error, Outcome};

use super::{approve::check, config::SiteConfig, dashboard::SitePage, folder::lock, notify, site::take_part};
use crate::progress::now;

/// How often a site asks for the next run.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// The delay before a site joins again after an error.
const AFTER_ERROR: Duration = Duration::from_mins(1);

/// The file that marks a run as finished at this site.
const FINISHED: &str = "finished";

/// Takes part in one run after another, each in a folder of its own, until the site is asked to stop.
pub(super) fn stay(config: &SiteConfig, control: &Control, page: Option<&SitePage>) -> Result<()> {
    let _lock = lock(&config.folder)?;
    let name = config.name()?;
    notify::ready();
    let mut said = String::new();
    let mut say = |fact: String| {
        if let Some(page) = page {
            page.waits(&fact);
        }
        if said != fact {
            tracing::info!("{name}: {fact}");
            said = fact;
        }
    };
    while !control.is_stopping() {
        let mut pause = ASK_EVERY;
        match config.grpc_site()?.preflight() {
            Ok(preflight) => {
                let Message::Describe { run, .. } = preflight.describe else {
                    anyhow::bail!("the server did not describe a run; check that both ends run the same version")
                };
                match state(config, &run)? {
                    State::Open(of_run) => match take_part(&of_run, control, page) {
                        Ok(Outcome::Finished) => mark_finished(&of_run.folder)?,
                        Ok(Outcome::Stopped) => break,
                        Err(error) if may_pass(&error) => {
                            tracing::warn!("{error:#}; this site asks for the next run");
                            pause = pause_after(&error);
                        }
                        Err(error) => return Err(error),
                    },
                    State::Closed(fact) => say(fact),
                }
            }
            // The next run may include a site that this one rejects.
            Err(error @ (Error::NoRun { .. } | Error::Transient { .. } | Error::Rejected { .. })) => {
                say(format!("waiting for a run: {error}"));
            }
            Err(error) => return Err(error).with_context(|| name.clone()),
        }
        wait(pause, control);
    }
    tracing::info!("{name}: stopped; the next start resumes");
    Ok(())
}

fn wait(pause: Duration, control: &Control) {
    let began = now();
    while began.elapsed() < pause && !control.is_stopping() {
        thread::sleep(Duration::from_millis(200));
    }
}

enum State {
    /// The site can take part, with this configuration.
    Open(Box<SiteConfig>),
    /// It cannot, for this reason.
    Closed(String),
}

/// Whether the site takes part in a run that the server describes. Nothing is sent.
fn state(config: &SiteConfig, run: &RunDescription) -> Result<State> {
    let mut of_run = config.clone();
    of_run.set_run(run)?;
    let shown = format!("{:?} ({})", run.name, run.id());
    if of_run.folder.join(FINISHED).try_exists().with_context(|| of_run.folder.display().to_string())? {
        return Ok(State::Closed(format!("the run {shown} is finished; waiting for the next")));
    }
    let approved = Consent::in_folder(&of_run.folder, config.approval()).approved()?;
    if config.approval() == Approval::Administrator && approved.as_ref().is_none_or(|run| run.by != Approval::Administrator) {
        return Ok(State::Closed(format!(
            "the operator proposes the run {shown}; inspect it and decide with `asyndgan site approve --config SITE.TOML`"
        )));
    }
    // The server hears of a refusal only from a site that joins.
    if approved.is_none_or(|run| run.site.is_none())
        && let Err(refusal) = check(&of_run, run)
    {
        return Ok(State::Closed(format!("the operator proposes the run {shown}, which this site does not allow: {refusal:#}")));
    }
    Ok(State::Open(Box::new(of_run)))
}

fn mark_finished(folder: &Path) -> Result<()> {
    let path = folder.join(FINISHED);
    write(&path, Access::Private, b"").with_context(|| format!("cannot write {}", path.display()))
}

fn cause(error: &anyhow::Error) -> Option<&Error> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// Whether a later attempt may succeed without a change at this site.
fn may_pass(error: &anyhow::Error) -> bool {
    use Error::{Disconnected, Ended, Protocol, Rejected, Unreachable};
    matches!(cause(error), Some(Protocol(_) | Disconnected { .. } | Ended { .. } | Unreachable { .. } | Rejected { .. }))
}

/// The server may already describe the next run; but one that has dismissed this site is not asked at once.
fn pause_after(error: &anyhow::Error) -> Duration {
    if let Some(Error::Ended { .. }) = cause(error) { AFTER_ERROR } else { ASK_EVERY }
}

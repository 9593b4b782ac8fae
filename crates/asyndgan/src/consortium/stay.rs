//! A site that takes part in one run after another.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use asyndgan_files::{Access, write};
use asyndgan_protocol::{Error as Fault, Message, RunDescription};
use asyndgan_transport::{Approval, Consent, Control, Error, Outcome};

use super::{
    approve::check,
    dashboard::SitePage,
    folder::{is_locked, lock},
    notify,
    part::{OtherImages, take_part},
    site_config::SiteConfig,
};
use crate::progress::now;

/// How often a site asks for the next run.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// The longest delay after errors, each of which doubles it.
const DELAY_MAX: Duration = Duration::from_mins(10);

/// The file that marks a run as finished at this site.
const FINISHED: &str = "finished";

/// Takes part in one run after another, each in a folder of its own, until the site is asked to stop.
pub(super) fn stay(config: &SiteConfig, control: &Control, page: Option<&SitePage>) -> Result<()> {
    let _lock = lock(&config.folder)?;
    let name = config.name()?;
    notify::ready();
    let mut site = Staying { config, name: &name, page, reported: String::new(), delay: ASK_EVERY, closed: BTreeMap::new() };
    while !control.is_stopping() {
        if site.turn(control)? == Outcome::Stopped {
            break;
        }
        let began: Instant = now();
        while began.elapsed() < site.delay && !control.is_stopping() {
            thread::sleep(Duration::from_millis(200));
        }
    }
    tracing::info!("{name}: stopped; the next start resumes");
    Ok(())
}

struct Staying<'a> {
    config: &'a SiteConfig,
    name: &'a str,
    page: Option<&'a SitePage>,
    /// What was reported last.
    reported: String,
    /// Until the site asks again.
    delay: Duration,
    /// Runs that this process does not join, by identity, and why.
    closed: BTreeMap<String, String>,
}

impl Staying<'_> {
    /// Reports why the site takes part in no run now.
    fn report(&mut self, fact: String, server_answers: bool) {
        if let Some(page) = self.page {
            page.waits(&fact, server_answers);
        }
        if self.reported != fact {
            tracing::info!("{}: {fact}", self.name);
            self.reported = fact;
        }
    }

    /// Asks the server once, and takes part if it describes a run that this site can join.
    fn turn(&mut self, control: &Control) -> Result<Outcome> {
        let run = match self.config.grpc_site()?.describe() {
            Ok(Message::Describe { run, .. }) => run,
            Ok(_) => bail!("the server did not describe a run; check that both ends run the same version"),
            // The next run may include a site that this one rejects, and an expired certificate is renewed.
            Err(error @ (Error::NoRun { .. } | Error::Transient { .. } | Error::Rejected { .. })) => {
                self.report(format!("waiting for a run: {error}"), !matches!(error, Error::Transient { .. }));
                self.delay = ASK_EVERY;
                return Ok(Outcome::Finished);
            }
            Err(error @ Error::Untrusted { .. }) => {
                self.report(format!("waiting for a run: {error}"), false);
                self.wait_longer();
                return Ok(Outcome::Finished);
            }
            Err(error) => return Err(error).with_context(|| self.name.to_owned()),
        };
        let mut of_run = self.config.clone();
        of_run.set_run(&run)?;
        if let Some(reason) = self.closed_for(&of_run, &run)? {
            self.report(format!("run {:?} ({}): {reason}", run.name, run.id()), true);
            self.delay = ASK_EVERY;
            return Ok(Outcome::Finished);
        }
        self.reported.clear();
        match take_part(&of_run, Some(&run), control, self.page) {
            Ok(Outcome::Stopped) => return Ok(Outcome::Stopped),
            Ok(Outcome::Finished) => {
                self.delay = ASK_EVERY;
                mark_finished(&of_run.folder)?;
            }
            Err(error) => match cause(&error) {
                Some(Error::OtherRun { .. } | Error::Protocol(Fault::OtherRun { .. })) => {
                    self.report("the server describes another run".into(), true);
                    self.delay = ASK_EVERY;
                }
                // The policy refuses the same again; each attempt would cost the others rounds.
                Some(Error::Protocol(Fault::Refused { .. }) | Error::Consent { .. }) => {
                    tracing::warn!("{error:#}");
                    self.closed.insert(run.id(), format!("{error:#}; restart this site after a change of its policy"));
                }
                Some(
                    Error::Protocol(_)
                    | Error::Disconnected { .. }
                    | Error::Ended { .. }
                    | Error::Unreachable { .. }
                    | Error::Rejected { .. },
                ) => {
                    self.report(format!("{error:#}"), false);
                    self.wait_longer();
                }
                // Another run has other images, or none.
                _ if error.chain().any(|cause| cause.downcast_ref::<OtherImages>().is_some()) => {
                    tracing::warn!("{error:#}");
                    self.closed.insert(run.id(), format!("{error:#}; then restart this site"));
                }
                _ if is_locked(&error) => {
                    self.report(format!("{error:#}"), true);
                    self.delay = ASK_EVERY;
                }
                _ => return Err(error),
            },
        }
        Ok(Outcome::Finished)
    }

    fn wait_longer(&mut self) {
        self.delay = (2 * self.delay).min(DELAY_MAX);
    }

    /// Why the site does not join a run that the server describes, if so. Nothing is sent, and nothing is stored.
    fn closed_for(&mut self, of_run: &SiteConfig, run: &RunDescription) -> Result<Option<String>> {
        let folder = &of_run.folder;
        if folder.join(FINISHED).try_exists().with_context(|| folder.display().to_string())? {
            return Ok(Some("it is finished, or the operator has taken this site out of it; waiting for the next".into()));
        }
        if let Some(reason) = self.closed.get(&run.id()) {
            return Ok(Some(reason.clone()));
        }
        let approved = Consent::in_folder(folder, of_run.approval()).approved()?;
        if approved.as_ref().is_some_and(|run| run.site.is_some()) {
            return Ok(None);
        }
        let is_approved = approved.is_some_and(|run| run.by == Approval::Administrator);
        if !is_approved {
            if of_run.approval() == Approval::Administrator {
                let fact = "it is proposed by the operator; inspect it and decide: asyndgan site approve --config SITE.TOML";
                return Ok(Some(fact.into()));
            }
            let (joined, limit) = (self.joined_by_policy()?, self.config.runs_max.unwrap_or(0));
            if joined >= limit {
                let fact = "approve it with asyndgan site approve, or raise runs_max";
                return Ok(Some(format!("this site has joined {joined} runs without being asked, and runs_max is {limit}: {fact}")));
            }
        }
        // The server would hear of a refusal from a site that joins.
        let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
        if let Err(refusal) = check(of_run, scratch.path(), run) {
            let reason = format!("the policy of this site does not allow it: {refusal:#}; restart this site after a change of its policy");
            self.closed.insert(run.id(), reason.clone());
            return Ok(Some(reason));
        }
        Ok(None)
    }

    /// The number of runs that this site has joined because its policy allows them.
    fn joined_by_policy(&self) -> Result<u32> {
        let folder = &self.config.folder;
        let mut joined = 0;
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let place = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
            let approved = if place.is_dir() { Consent::in_folder(&place, Approval::Policy).approved()? } else { None };
            joined += u32::from(approved.is_some_and(|run| run.by == Approval::Policy));
        }
        Ok(joined)
    }
}

/// Marks a run as finished, and deletes the discriminator, which has learnt from patients.
fn mark_finished(folder: &Path) -> Result<()> {
    let (mark, checkpoints) = (folder.join(FINISHED), folder.join("checkpoints"));
    write(&mark, Access::Private, b"").with_context(|| format!("cannot write {}", mark.display()))?;
    match fs::remove_dir_all(&checkpoints) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", checkpoints.display()))
        }
        _ => Ok(()),
    }
}

fn cause(error: &anyhow::Error) -> Option<&Error> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

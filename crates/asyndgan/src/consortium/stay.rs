//! A site that takes part in one run after another.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use asyndgan_protocol::{Error as Fault, Message, RunDescription};
use asyndgan_transport::{Absence, AbsenceReason, Control, Error, Outcome};

use super::{
    approve::check,
    dashboard::SitePage,
    decision::{Decision, decision, for_run},
    ended::{EndedRunsCheck, mark_finished},
    folder::lock,
    notify,
    part::{OtherImages, take_part},
    site_config::SiteConfig,
};
use crate::{files::is_in_use, progress::now};

/// How often a site asks for the next run.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// The delay before the first report of the reason why the site does not join.
const REPORT_AFTER: Duration = Duration::from_secs(1);
/// The longest delay after errors, each of which doubles it.
const DELAY_MAX: Duration = Duration::from_mins(10);

/// Takes part in one run after another, each in a folder of its own, until the site is asked to stop.
pub(super) fn stay(config: &SiteConfig, control: &Control, page: Option<&SitePage>) -> Result<()> {
    let _lock = lock(&config.folder)?;
    let name = config.name()?;
    notify::ready();
    let mut site = Staying {
        config,
        name: &name,
        page,
        reported: String::new(),
        delay: ASK_EVERY,
        closed: BTreeMap::new(),
        refusals: BTreeMap::new(),
        absence: None,
        ended: EndedRunsCheck::default(),
    };
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
    closed: BTreeMap<String, Closed>,
    /// Whether the policy allows a run, by identity: the reason why not.
    refusals: BTreeMap<String, Option<String>>,
    /// The report that the next request carries.
    absence: Option<Absence>,
    ended: EndedRunsCheck,
}

/// Why a site does not join a run: for the server, and in its own log.
type Closed = (AbsenceReason, String);

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
        let absence = self.absence.take();
        let described = self.config.grpc_site()?.with(|site| site.absence.clone_from(&absence)).describe();
        match &described {
            Ok(Message::Describe { run, .. }) => self.ended.run(self.config, self.name, Some(run))?,
            Err(Error::NoRun { .. } | Error::Rejected { .. }) => self.ended.run(self.config, self.name, None)?,
            _ => {}
        }
        let run = match described {
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
        let of_run = for_run(self.config, &run)?;
        if let Some((reason, fact)) = self.closed_for(&of_run, &run)? {
            self.report(format!("run {:?} ({}): {fact}", run.name, run.id()), true);
            self.absence = Some(Absence::new(&run, reason));
            self.delay = if self.absence == absence { ASK_EVERY } else { REPORT_AFTER };
            return Ok(Outcome::Finished);
        }
        self.reported.clear();
        match take_part(&of_run, Some(&run), control, self.page) {
            Ok(Outcome::Stopped) if control.is_stopping() => return Ok(Outcome::Stopped),
            // The run is paused, or it has ended.
            Ok(Outcome::Stopped) => self.delay = ASK_EVERY,
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
                    let fact = format!("{error:#}; restart this site after a change of its policy");
                    self.closed.insert(run.id(), (AbsenceReason::Refused, fact));
                }
                Some(
                    Error::Protocol(_)
                    | Error::Disconnected { .. }
                    | Error::Ended { .. }
                    | Error::Unreachable { .. }
                    | Error::Rejected { .. }
                    | Error::Untrusted { .. },
                ) => {
                    self.report(format!("{error:#}"), false);
                    self.wait_longer();
                }
                // The same work fails again; each attempt would cost the others rounds.
                Some(Error::Work(_)) => {
                    tracing::error!("{error:#}");
                    self.closed.insert(run.id(), (AbsenceReason::Refused, format!("{error:#}; restart this site to try again")));
                }
                // Another run has other images, or none.
                _ if error.chain().any(|cause| cause.downcast_ref::<OtherImages>().is_some()) => {
                    tracing::warn!("{error:#}");
                    self.closed.insert(run.id(), (AbsenceReason::OtherImages, format!("{error:#}; then restart this site")));
                }
                _ if is_in_use(&error) => {
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

    /// The reason why the site does not join a run that the server describes; `None` if it joins. Nothing is stored.
    /// The reason is sent with the next request; the fact stays here.
    fn closed_for(&mut self, of_run: &SiteConfig, run: &RunDescription) -> Result<Option<Closed>> {
        let decision = decision(self.config, of_run)?;
        if let Decision::Finished = decision {
            let fact = "it is finished, or the operator has taken this site out of it; waiting for the next";
            return Ok(Some((AbsenceReason::Finished, fact.into())));
        }
        if let Some(closed) = self.closed.get(&run.id()) {
            return Ok(Some(closed.clone()));
        }
        match decision {
            Decision::AwaitsApproval(fact) => {
                // The server hears of a refusal only after the administrator has approved the run.
                let fact = match self.refusal(of_run, run)? {
                    Some(refusal) => format!("it is not approved, and cannot be: {refusal}"),
                    None => fact,
                };
                return Ok(Some((AbsenceReason::AwaitsApproval, fact)));
            }
            Decision::Join(Some(approved)) if approved.site.is_some() => return Ok(None),
            Decision::Join(_) | Decision::Finished => {}
        }
        // A site that joins would name the bound to the server.
        Ok(self.refusal(of_run, run)?.map(|refusal| (AbsenceReason::Refused, refusal)))
    }

    /// Why the policy or the data does not allow a run, if so. It is checked once for each run.
    fn refusal(&mut self, of_run: &SiteConfig, run: &RunDescription) -> Result<Option<String>> {
        if let Some(refusal) = self.refusals.get(&run.id()) {
            return Ok(refusal.clone());
        }
        let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
        let refusal = check(of_run, scratch.path(), run).err().map(|refusal| {
            format!("the policy of this site does not allow it: {refusal:#}; restart this site after a change of its policy")
        });
        self.refusals.insert(run.id(), refusal.clone());
        Ok(refusal)
    }
}

fn cause(error: &anyhow::Error) -> Option<&Error> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

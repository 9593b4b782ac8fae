//! What people see of a server's run: messages, events, progress, learning curves, the latest images, the dashboard.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;
use asyndgan_protocol::{Contribution, RunDescription, SiteId};
use asyndgan_task::Task;
use asyndgan_training::ServerTrainer;
use asyndgan_transport::{AbsenceReason, Ledger, ServerRunEvent};

use super::{
    compare::Alternatives,
    dashboard::Dashboard,
    events::{self, Events, Kind},
    runs::RunProgress,
    server_config::ServerConfig,
    stall::StallWarning,
};
use crate::{
    curves::LossCurves,
    figures::latest,
    files::write_json,
    progress::{Progress, now},
};

/// How often the picture of the latest synthetic images is drawn.
const PICTURE_EVERY: Duration = Duration::from_secs(10);
/// Minimum time between two reports about a site that does not join.
const REPORT_EVERY: Duration = Duration::from_mins(1);
/// How often the progress is written for other programs.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Reports the events of one run. What cannot be written is a warning: the run goes on.
pub(super) struct Observer<'a> {
    config: &'a ServerConfig,
    description: &'a RunDescription,
    task: &'a Task,
    events: Events,
    dashboard: Dashboard,
    curves: LossCurves,
    bar: Progress,
    picture: PathBuf,
    drawn: Option<Instant>,
    /// Until the run ends here.
    counter: Option<Counter>,
    /// Rounds that were done when this process began to serve.
    pub(super) resumed_from: Option<u64>,
    /// Rounds that this process has seen done.
    last_done: u64,
}

impl<'a> Observer<'a> {
    /// An observer whose curves are in the folder `place`.
    pub(super) fn new(
        config: &'a ServerConfig,
        description: &'a RunDescription,
        task: &'a Task,
        events: Events,
        dashboard: Dashboard,
        place: &Path,
    ) -> Self {
        let (curves, bar) = (LossCurves::new(place), Progress::new(&config.name, description.rounds));
        let picture = config.folder.join("latest.png");
        let counter = Some(Counter::start(&dashboard, &events, &config.folder));
        Self { config, description, task, events, dashboard, curves, bar, picture, drawn: None, counter, resumed_from: None, last_done: 0 }
    }

    /// Reports an event.
    pub(super) fn on_event(&mut self, news: &ServerRunEvent<'_>, trainer: &ServerTrainer, ledger: &Ledger) {
        self.dashboard.on_event(news, ledger);
        warn("cannot update the learning curves", self.curves.on_event(news, trainer));
        match news {
            ServerRunEvent::Joined(site) => self.of_site(Kind::Joined, *site, "joined the run"),
            ServerRunEvent::Dismissed(site, error) => self.of_site(Kind::Left, *site, &events::without_number(&error.to_string())),
            ServerRunEvent::Retired { site, round, reason } => self.of_site(Kind::Retired, *site, &events::retired(*round, reason)),
            ServerRunEvent::StateLost { site, round, restored } => {
                self.of_site(Kind::StateLost, *site, &events::lost_state(*round, *restored));
            }
            ServerRunEvent::Notice(fact) => tracing::warn!("{fact}"),
            ServerRunEvent::Waiting(_) => {}
            ServerRunEvent::Begun { rounds_done } => self.begun(*rounds_done, trainer),
            ServerRunEvent::Round { rounds_done, contributions } => self.round(*rounds_done, contributions, trainer),
        }
    }

    fn name(&self, site: SiteId) -> &str {
        &self.config.sites[site.0 as usize]
    }

    fn of_site(&self, kind: Kind, site: SiteId, fact: &str) {
        let name = self.name(site);
        if kind == Kind::Left {
            tracing::warn!("{name}: {fact}");
        } else {
            tracing::info!("{name}: {fact}");
        }
        self.events.add(kind, name, fact);
    }

    fn begun(&mut self, rounds_done: u64, trainer: &ServerTrainer) {
        for path in trainer.damaged() {
            tracing::warn!("{} is damaged: using the previous checkpoint", path.display());
        }
        self.resumed_from.get_or_insert(rounds_done);
        let path = self.config.folder.join("alternatives.json");
        warn("cannot compare with other methods", Alternatives::compute(self.description, trainer).and_then(|a| write_json(&path, &a)));
        self.bar.set(rounds_done);
        let fact = if self.last_done > rounds_done { events::rollback(self.last_done, rounds_done) } else { events::starting(rounds_done) };
        self.last_done = rounds_done;
        if rounds_done == self.description.rounds {
            tracing::info!("all rounds are done: waiting to inform the sites; stop the server to end without them");
        }
        tracing::info!("{fact}");
        self.events.note(Kind::Begun, &fact);
    }

    fn round(&mut self, rounds_done: u64, contributions: &[Contribution], trainer: &ServerTrainer) {
        for c in contributions.iter().filter(|c| c.scale < 1.0) {
            let name = self.name(c.draw.site);
            tracing::warn!("{name}: feedback of round {} was scaled down by a factor of {:.0}", c.round, 1.0 / c.scale);
        }
        self.last_done = rounds_done;
        self.bar.set(rounds_done);
        let is_last = rounds_done == self.description.rounds;
        let is_due = |at: Option<Instant>, every| is_last || at.is_none_or(|at| at.elapsed() > every);
        if is_due(self.drawn, PICTURE_EVERY) {
            self.drawn = Some(now());
            warn("cannot draw latest.png", latest(&self.picture, self.task, &self.config.sites, trainer));
        }
    }

    /// Rounds that are done.
    pub(super) fn rounds_done(&self) -> u64 {
        self.dashboard.progress().rounds_done
    }

    /// Records how the run ended here, or that it was stopped.
    pub(super) fn end(&mut self, kind: Kind, fact: &str) {
        self.dashboard.end(kind, fact);
        // It writes the last progress.
        drop(self.counter.take());
        // An error is reported by those who receive it.
        if kind != Kind::Failed {
            tracing::info!("{fact}");
        }
        self.events.note(kind, fact);
    }
}

/// Writes the progress for other programs, reports why sites do not join, and warns if the run waits for long.
struct Counter {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Counter {
    fn start(dashboard: &Dashboard, events: &Events, folder: &Path) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, dashboard, events, folder) = (Arc::clone(&is_over), dashboard.clone(), events.clone(), folder.to_owned());
        let thread = thread::spawn(move || {
            let (mut written, mut stall) = (None::<(RunProgress, Instant)>, StallWarning::default());
            let mut absences = Vec::new();
            loop {
                let is_last = over.load(Relaxed);
                if is_last || written.as_ref().is_none_or(|(_, at)| at.elapsed() > COUNT_EVERY) {
                    let progress = dashboard.progress();
                    report_absences(&mut absences, &dashboard.absences(), &progress, &events);
                    if written.as_ref().is_none_or(|(before, _)| *before != progress) {
                        warn("cannot write the progress", progress.write(&folder));
                    }
                    if let Some(warning) = stall.due(&dashboard.awaited()) {
                        tracing::warn!("{warning}");
                    }
                    written = Some((progress, now()));
                }
                if is_last {
                    return;
                }
                thread::sleep(Duration::from_millis(200));
            }
        });
        Self { is_over, thread: Some(thread) }
    }
}

/// The last report about a site that does not join.
#[derive(Debug, Clone, Copy)]
struct Reported {
    reason: AbsenceReason,
    at: Instant,
    /// Whether the site has joined since.
    is_over: bool,
}

/// Reports each site that does not join, once for each reason, and at most once a minute: a site may change its reason
/// with every request.
fn report_absences(reported: &mut Vec<Option<Reported>>, absences: &[Option<AbsenceReason>], progress: &RunProgress, events: &Events) {
    reported.resize(absences.len(), None);
    for ((last, absence), site) in reported.iter_mut().zip(absences).zip(&progress.sites) {
        if let Some(last) = last {
            last.is_over |= site.connected;
        }
        let is_due =
            |reason: &AbsenceReason| last.is_none_or(|last| (last.reason != *reason || last.is_over) && last.at.elapsed() > REPORT_EVERY);
        if let Some(reason) = absence.filter(is_due) {
            *last = Some(Reported { reason, at: now(), is_over: false });
            let fact = events::absent(reason);
            tracing::warn!("{}: {fact}", site.name);
            events.add(Kind::Absent, &site.name, fact);
        }
    }
}

impl Drop for Counter {
    /// Writes the last progress.
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        // A panic there is not one here.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn warn(what: &str, done: Result<()>) {
    if let Err(error) = done {
        tracing::warn!("{what}: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consortium::{events::show_events, runs::SiteProgress};

    #[test]
    fn a_site_that_changes_its_reason_with_every_request_is_reported_once_a_minute() {
        let folder = tempfile::tempdir().expect("a folder");
        let events = Events::open(folder.path()).expect("opens");
        let site = |name: &str| SiteProgress { name: name.into(), connected: false, awaited_since_unix_ms: None, note: String::new() };
        let mut progress = RunProgress { rounds_done: 0, rounds: 9, last_round_unix_ms: None, sites: vec![site("north"), site("south")] };
        let mut reported = Vec::new();
        let mut report = |reason: Option<AbsenceReason>, connected: bool| {
            progress.sites[1].connected = connected;
            report_absences(&mut reported, &[None, reason], &progress, &events);
            show_events(folder.path(), 0).expect("read").0
        };
        assert_eq!(report(None, false), "");
        assert!(report(Some(AbsenceReason::AwaitsApproval), false).contains("south"));
        for _ in 0..3 {
            report(Some(AbsenceReason::Refused), false);
            report(None, true);
            assert_eq!(report(Some(AbsenceReason::AwaitsApproval), false).lines().count(), 1);
        }
    }
}

//! What a server's dashboard shows about a run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use asyndgan_protocol::{Contribution, MessageKind, SiteId};
use asyndgan_transport::{Absences, Identity, Ledger, RevocationStatus, ServerRunEvent};
use serde::Serialize;

use super::curves::{Curves, Point};
use crate::{
    consortium::{
        dates::days_left,
        events::{self, Kind},
        server_config::ServerConfig,
    },
    progress::{now, unix_ms},
};

/// A run without a new round for this long may be stalled.
const STALLED_AFTER_S: f64 = 30.0;
/// The name on the page of a server that serves no run.
const IDLE: &str = "no run is being served";

/// The web page and the Prometheus metrics of one server's run.
#[derive(Clone)]
pub(in crate::consortium) struct Dashboard {
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) picture: PathBuf,
    /// `None` for a relay: without certificates, none is revoked.
    pub(super) revocation: Option<RevocationStatus>,
    /// Why sites do not join; `None` for a relay.
    pub(super) absences: Option<Absences>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Status {
    pub(super) name: String,
    pub(super) rounds: u64,
    pub(super) rounds_done: u64,
    pub(super) seconds: f64,
    /// `None` if no round was done lately: then nothing can be said.
    pub(super) seconds_left: Option<f64>,
    /// Since the last round was done, or since the run began here.
    pub(super) last_round_seconds: Option<f64>,
    /// The sites that the run waits for, and for how long.
    pub(super) waits_for: Vec<Awaited>,
    /// The time that the rounds took, waiting for sites and working here.
    pub(super) phase_seconds: Phases,
    /// How often all sites went back to a checkpoint.
    pub(super) rollbacks: u32,
    pub(super) certificate_days_left: Option<f64>,
    pub(super) disk_free_bytes: Option<u64>,
    pub(super) state: ServedState,
    /// How the run has ended here.
    pub(super) end: Option<String>,
    /// A problem that the operator must fix.
    pub(super) alarm: Option<String>,
    pub(super) sites: Vec<SiteStatus>,
    #[serde(flatten)]
    pub(super) curves: Curves,
    /// What the server does while it serves no run.
    pub(super) queue: Option<String>,
    /// Rounds done by this process, also those that were lost by a rollback.
    #[serde(skip)]
    pub(super) rounds_computed: u64,
    #[serde(skip)]
    pub(super) started: Instant,
    #[serde(skip)]
    pub(super) started_unix_ms: u64,
    #[serde(skip)]
    pub(super) last_round: Option<Instant>,
    /// The sites that the run waits for, and since when; and since when it is these.
    #[serde(skip)]
    pub(super) awaited: (Vec<(usize, Instant)>, Instant),
    /// When the server's certificate expires: seconds since the Unix epoch.
    #[serde(skip)]
    pub(super) certificate_until: Option<i64>,
    /// Rounds done when this process began, and when that was.
    #[serde(skip)]
    pub(super) begun: Option<(u64, Instant)>,
}

/// The state of the run at this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ServedState {
    /// No run was served yet.
    Idle,
    Running,
    Stopped,
    Finished,
    Failed,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Awaited {
    pub(super) site: String,
    pub(super) connected: bool,
    /// Why it does not join, if it has reported that.
    pub(super) absence: Option<&'static str>,
    pub(super) seconds: f64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Phases {
    pub(super) sites: f64,
    pub(super) server: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct SiteStatus {
    pub(super) name: String,
    pub(super) connected: bool,
    /// Whether it has left the run for good.
    #[serde(skip)]
    pub(super) retired: bool,
    pub(super) note: String,
    pub(super) rounds: u64,
    pub(super) bytes_to: u64,
    pub(super) bytes_from: u64,
    pub(super) feedback_norm: Option<f64>,
    /// As far as the site reports them.
    pub(super) discriminator_loss: Option<f32>,
    pub(super) generator_loss: Option<f32>,
    /// How often it came back without its checkpoint.
    pub(super) states_lost: u32,
    /// Rounds in which its feedback was scaled down.
    pub(super) feedback_scaled: u64,
}

impl Dashboard {
    /// The dashboard of a server without a run. The identity is the server's.
    pub(in crate::consortium) fn idle(folder: &Path, identity: &Identity) -> Self {
        Self::of((IDLE, ServedState::Idle), &[], (0, 0), folder, None, Some(identity))
    }

    /// The dashboard of a run. The rounds are those that are done, and all; the identity is the server's.
    pub(in crate::consortium) fn new(
        config: &ServerConfig,
        rounds: (u64, u64),
        (revocation, absences): (Option<RevocationStatus>, Option<Absences>),
        identity: Option<&Identity>,
    ) -> Self {
        let this = Self::of((&config.name, ServedState::Running), &config.sites, rounds, &config.folder, revocation, identity);
        Self { absences, ..this }
    }

    pub(super) fn of(
        (name, state): (&str, ServedState),
        sites: &[String],
        (rounds_done, rounds): (u64, u64),
        folder: &Path,
        revocation: Option<RevocationStatus>,
        identity: Option<&Identity>,
    ) -> Self {
        let site = |name: &String| SiteStatus {
            name: name.clone(),
            connected: false,
            retired: false,
            note: "not connected yet".into(),
            rounds: 0,
            bytes_to: 0,
            bytes_from: 0,
            feedback_norm: None,
            discriminator_loss: None,
            generator_loss: None,
            states_lost: 0,
            feedback_scaled: 0,
        };
        let status = Status {
            name: name.into(),
            rounds,
            rounds_done,
            seconds: 0.0,
            seconds_left: None,
            last_round_seconds: None,
            waits_for: Vec::new(),
            phase_seconds: Phases::default(),
            rollbacks: 0,
            certificate_days_left: None,
            disk_free_bytes: None,
            state,
            end: None,
            alarm: None,
            sites: sites.iter().map(site).collect(),
            curves: Curves::default(),
            queue: None,
            rounds_computed: 0,
            started: now(),
            started_unix_ms: unix_ms(),
            last_round: None,
            awaited: (Vec::new(), now()),
            certificate_until: identity.map(|identity| identity.facts().not_after),
            begun: None,
        };
        Self { status: Arc::new(Mutex::new(status)), picture: folder.join("latest.png"), revocation, absences: None }
    }

    /// Shows what the server does while it serves no run.
    pub(super) fn waits(&self, fact: &str) {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).queue = Some(fact.into());
    }

    /// Updates the status with an event.
    pub(in crate::consortium) fn on_event(&self, news: &ServerRunEvent<'_>, ledger: &Ledger) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        match news {
            ServerRunEvent::Joined(site) => {
                // From now on, the run waits for its answers.
                status.awaited.0.iter_mut().filter(|(awaited, _)| *awaited == site.0 as usize).for_each(|(_, since)| *since = now());
                let site = &mut status.sites[site.0 as usize];
                (site.connected, site.retired, site.note) = (true, false, "joined the run".into());
            }
            ServerRunEvent::Dismissed(site, error) => {
                let site = &mut status.sites[site.0 as usize];
                (site.connected, site.note) = (false, events::without_number(&error.to_string()));
            }
            ServerRunEvent::Retired { site, round, reason } => {
                let site = &mut status.sites[site.0 as usize];
                (site.connected, site.retired, site.note) = (false, true, events::retired(*round, reason));
            }
            ServerRunEvent::StateLost { site, round, restored } => {
                let site = &mut status.sites[site.0 as usize];
                (site.note, site.states_lost) = (events::lost_state(*round, *restored), site.states_lost + 1);
            }
            ServerRunEvent::Notice(_) => {}
            ServerRunEvent::Waiting(sites) => status.wait_for(sites),
            ServerRunEvent::Begun { rounds_done } => {
                status.rollbacks += u32::from(status.begun.is_some());
                status.rounds_done = *rounds_done;
                status.begin(now());
                status.curves.go_back(*rounds_done);
            }
            ServerRunEvent::Round { rounds_done, contributions } => {
                status.rounds_done = *rounds_done;
                status.rounds_computed += 1;
                status.last_round = Some(now());
                for c in *contributions {
                    let site = &mut status.sites[c.draw.site.0 as usize];
                    site.rounds += 1;
                    site.feedback_norm = Some(c.norm);
                    if c.scale < 1.0 {
                        site.feedback_scaled += 1;
                        site.note = format!("feedback of round {} was scaled down by a factor of {:.0}", c.round, 1.0 / c.scale);
                    }
                    if let Some(losses) = c.losses {
                        (site.discriminator_loss, site.generator_loss) = (Some(losses.discriminator), Some(losses.generator));
                    }
                }
                status.add_points(*rounds_done, contributions);
            }
        }
        let mut bytes = BTreeMap::<u32, (u64, u64)>::new();
        for (site, kind, traffic) in ledger.entries() {
            let (to, from) = bytes.entry(site.0).or_default();
            *(if kind.leaves_a_site() && kind != MessageKind::Leave { from } else { to }) += traffic.bytes;
        }
        for (site, (to, from)) in bytes {
            if let Some(site) = status.sites.get_mut(site as usize) {
                (site.bytes_to, site.bytes_from) = (to, from);
            }
        }
    }

    /// The feedback norms of one site, by round.
    pub(super) fn curve(&self, site: usize) -> Vec<Point> {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.curves.of_site(site)
    }

    /// The run has ended here: it waits for nobody.
    pub(in crate::consortium) fn end(&self, kind: Kind, fact: &str) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.wait_for(&[]);
        status.state = match kind {
            Kind::Finished => ServedState::Finished,
            Kind::Failed => ServedState::Failed,
            _ => ServedState::Stopped,
        };
        (status.end, status.last_round, status.begun) = (Some(fact.into()), None, None);
        status.seconds = status.started.elapsed().as_secs_f64();
        let note = match kind {
            Kind::Finished => "took part until the end",
            Kind::Failed => "connected until the failure",
            _ => "connected until the stop",
        };
        for site in status.sites.iter_mut().filter(|site| site.connected) {
            (site.connected, site.note) = (false, note.into());
        }
    }

    pub(super) fn status(&self) -> Status {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let absences: Vec<_> = self.absences().into_iter().map(|reason| reason.map(events::absent)).collect();
        for (site, reason) in status.sites.iter_mut().zip(&absences) {
            if let Some(reason) = reason {
                site.note = (*reason).into();
            }
        }
        let alarm = |fact| format!("no site may join: the list of revoked certificates cannot be read: {fact}");
        status.alarm = self.revocation.as_ref().and_then(RevocationStatus::unreadable).map(alarm);
        if status.state == ServedState::Running {
            status.seconds = status.started.elapsed().as_secs_f64();
            status.count_phase(now());
        }
        status.last_round_seconds = status.last_round.map(|at| at.elapsed().as_secs_f64());
        status.certificate_days_left = status.certificate_until.map(days_left);
        status.disk_free_bytes = self.picture.parent().and_then(|folder| fs4::available_space(folder).ok());
        let awaited = status.awaited.0.iter();
        let named = |&(site, since): &(usize, Instant)| {
            let SiteStatus { name, connected, .. } = status.sites.get(site)?;
            let absence = absences.get(site).copied().flatten();
            Some(Awaited { site: name.clone(), connected: *connected, absence, seconds: since.elapsed().as_secs_f64() })
        };
        status.waits_for = awaited.filter_map(named).collect();
        status.seconds_left = status.begun.filter(|(from, _)| status.rounds_done > *from).map(|(from, at)| {
            at.elapsed().as_secs_f64() / (status.rounds_done - from) as f64 * (status.rounds - status.rounds_done) as f64
        });
        let is_stalled = |age: f64| age > STALLED_AFTER_S && status.seconds_left.is_some_and(|left| left / (status.rounds as f64) < age);
        if status.last_round_seconds.is_some_and(is_stalled) {
            status.seconds_left = None;
        }
        status
    }
}

impl Status {
    /// Adds the points of a round to the curves.
    fn add_points(&mut self, round: u64, contributions: &[Contribution]) {
        self.curves.add_norms(round, contributions, self.sites.len());
        if contributions.iter().any(|c| c.losses.is_some()) {
            let reported = self.sites.iter().filter_map(|site| Some((site.discriminator_loss?, site.generator_loss?)));
            self.curves.add_losses(round, &reported.collect::<Vec<_>>());
        }
    }

    /// The rounds begin, or begin again after a rollback.
    fn begin(&mut self, now: Instant) {
        if self.begun.is_none() {
            // The time before the first round is not that of a round.
            self.awaited.1 = now;
        }
        self.begun = Some((self.rounds_done, now));
        // A run that does no round from here on is stalled, too.
        self.last_round.get_or_insert(now);
    }

    /// Adds the time since the awaited sites are these to that of the phase.
    fn count_phase(&mut self, now: Instant) {
        let since = std::mem::replace(&mut self.awaited.1, now);
        if self.begun.is_some() {
            let Phases { sites, server } = &mut self.phase_seconds;
            *(if self.awaited.0.is_empty() { server } else { sites }) += (now - since).as_secs_f64();
        }
    }

    fn wait_for(&mut self, sites: &[SiteId]) {
        let now = now();
        self.count_phase(now);
        let before = std::mem::take(&mut self.awaited.0);
        let since = |site: usize| before.iter().find(|(awaited, _)| *awaited == site).map_or(now, |awaited| awaited.1);
        self.awaited.0 = sites.iter().map(|site| (site.0 as usize, since(site.0 as usize))).collect();
    }
}

/// A status in which every value exists.
#[cfg(test)]
pub(super) fn complete() -> Status {
    let mut status = Dashboard::of(("trial", ServedState::Running), &["north".to_owned()], (40, 100), Path::new("."), None, None).status();
    (status.last_round_seconds, status.certificate_days_left, status.disk_free_bytes) = (Some(1.0), Some(1.0), Some(1));
    status.sites[0].feedback_norm = Some(1.0);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dashboard() -> Dashboard {
        let sites = ["north".to_owned(), "south".to_owned()];
        Dashboard::of(("trial", ServedState::Running), &sites, (40, 100), Path::new("."), None, None)
    }

    #[test]
    fn a_run_that_has_ended_early_has_no_time_left_and_keeps_the_reasons_of_its_sites() {
        let dashboard = dashboard();
        let ledger = Ledger::default();
        assert_eq!(dashboard.progress().rounds_done, 40, "rounds of an earlier start count before the run begins");
        dashboard.on_event(&ServerRunEvent::Joined(SiteId(0)), &ledger);
        dashboard.on_event(&ServerRunEvent::Retired { site: SiteId(1), round: 40, reason: "its budget is spent" }, &ledger);
        dashboard.on_event(&ServerRunEvent::Begun { rounds_done: 40 }, &ledger);
        assert!(dashboard.status().last_round_seconds.is_some(), "a run without a round can stall");
        for rounds_done in 41..=45 {
            dashboard.on_event(&ServerRunEvent::Round { rounds_done, contributions: &[] }, &ledger);
        }
        assert!(dashboard.status().seconds_left.is_some());
        dashboard.end(Kind::Failed, "failed: the disk is full");
        let status = dashboard.status();
        assert_eq!((status.state, status.end.as_deref()), (ServedState::Failed, Some("failed: the disk is full")));
        assert_eq!((status.seconds_left, status.last_round_seconds), (None, None));
        assert!(status.waits_for.is_empty() && status.sites.iter().all(|site| !site.connected));
        assert!(status.sites[1].note.contains("its budget is spent"), "{}", status.sites[1].note);
        assert!(dashboard.status().seconds <= status.seconds, "the time stands still");
    }

    #[test]
    fn the_time_of_a_wait_counts_while_it_lasts_and_from_the_first_round_on() {
        let dashboard = dashboard();
        let ledger = Ledger::default();
        let pause = || std::thread::sleep(std::time::Duration::from_millis(20));
        dashboard.on_event(&ServerRunEvent::Waiting(&[SiteId(0)]), &ledger);
        pause();
        dashboard.on_event(&ServerRunEvent::Joined(SiteId(0)), &ledger);
        let waited = |dashboard: &Dashboard| dashboard.status().waits_for.first().map_or(0.0, |awaited| awaited.seconds);
        assert!(waited(&dashboard) < 0.02, "the wait for a site begins again when it joins");
        dashboard.on_event(&ServerRunEvent::Begun { rounds_done: 40 }, &ledger);
        let before = dashboard.status().phase_seconds;
        pause();
        let after = dashboard.status().phase_seconds;
        assert!(before.sites < 0.02 && after.sites >= before.sites + 0.02 && after.server == 0.0, "{before:?} {after:?}");
        assert!(dashboard.status().phase_seconds.sites >= after.sites);
    }
}

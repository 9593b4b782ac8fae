//! The web page and the Prometheus metrics of a site.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Result, ensure};
use asyndgan_protocol::PrivacyBudget;
use asyndgan_training::{PrivateSteps, SiteTrainer};
use asyndgan_transport::{Ledger, SiteRunEvent};
use axum::{Json, Router, extract::State, response::Html, routing::get};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use serde::Serialize;

use super::{
    metrics::{encoded, float},
    script, serve,
};
use crate::{
    consortium::{dates::days_left, site_config::SiteConfig},
    progress::now,
};

/// The note of a site while rounds are done.
const TAKING_PART: &str = "taking part";

/// The web page of one site, over all its runs.
#[derive(Clone)]
pub(in crate::consortium) struct SitePage(Arc<Mutex<Status>>);

#[derive(Debug, Clone, Serialize)]
struct Status {
    name: String,
    server: String,
    connected: bool,
    /// Whether the server answered last time, also without a run.
    server_answers: bool,
    /// What the site does, for people.
    note: String,
    /// The run that it takes part in.
    run: Option<String>,
    rounds: u64,
    rounds_done: u64,
    last_round_seconds: Option<f64>,
    bytes_sent: u64,
    bytes_received: u64,
    /// The limit of the site's policy for all runs on its patients, if there is one.
    epsilon_max: Option<f64>,
    /// Steps that the run and the budget still allow; `None` without differential privacy, and before a run begins.
    private_steps_left: Option<u64>,
    /// Steps that the rest of the run takes.
    private_steps_needed: Option<u64>,
    certificate_days_left: Option<f64>,
    disk_free_bytes: Option<u64>,
    /// The identity of the run.
    #[serde(skip)]
    run_id: Option<String>,
    #[serde(skip)]
    last_round: Option<Instant>,
    #[serde(skip)]
    certificate_until: Option<i64>,
    #[serde(skip)]
    folder: PathBuf,
}

impl SitePage {
    /// Serves in its own thread until the program ends; returns the URL for a browser, with the token.
    pub(in crate::consortium) fn serve(
        config: &SiteConfig,
        name: &str,
        certificate_until: Option<i64>,
        address: SocketAddr,
    ) -> Result<(Self, String)> {
        let SiteConfig { server, folder, .. } = config;
        ensure!(
            address.ip().is_loopback(),
            "dashboard = \"{address}\": a site's certificate is not for web pages, so its dashboard must stay on this machine; use \
             127.0.0.1"
        );
        let status = Status::new(name, server, folder, config.policy.budget(), certificate_until);
        let this = Self(Arc::new(Mutex::new(status)));
        let routes = Router::new()
            .route("/", get(|| async { Html(include_str!("site.html")) }))
            .route("/site.js", get(|| script(include_str!("site.js"))))
            .route("/status.json", get(|State(this): State<Self>| async move { Json(this.status()) }))
            .route("/metrics", get(|State(this): State<Self>| async move { encoded(&metrics(&this.status())) }))
            .with_state(this.clone());
        let (bound, token) = serve(routes, address, folder, &[], None)?;
        Ok((this, format!("http://{bound}/?token={token}")))
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Shows why the site takes part in no run now, and whether the server answered.
    pub(in crate::consortium) fn waits(&self, fact: &str, server_answers: bool) {
        self.change(|status| {
            status.leave_run();
            (status.connected, status.server_answers, status.note) = (false, server_answers, fact.into());
        });
    }

    /// Updates the status with an event.
    pub(in crate::consortium) fn on_event(&self, news: &SiteRunEvent<'_>, trainer: &SiteTrainer, ledger: &Ledger) {
        self.change(|status| {
            match news {
                SiteRunEvent::Connected => {
                    (status.connected, status.server_answers, status.note) = (true, true, "connected".into());
                }
                SiteRunEvent::Lost(reason) => {
                    (status.connected, status.server_answers, status.note) = (false, false, format!("no connection: {reason}"));
                }
                SiteRunEvent::NoRun(reason) => {
                    (status.connected, status.server_answers, status.note) = (false, true, format!("waiting: {reason}"));
                }
                SiteRunEvent::Notice(fact) => status.note = (*fact).into(),
                // Only the ledger has changed.
                SiteRunEvent::Sent(_) => {}
                SiteRunEvent::Accepted(run) => {
                    let id = Some(run.id());
                    if status.run_id != id {
                        status.leave_run();
                    }
                    (status.run_id, status.run, status.rounds) = (id, Some(run.name.clone()), run.rounds);
                }
                SiteRunEvent::Begun { rounds_done } => (status.rounds_done, status.note) = (*rounds_done, TAKING_PART.into()),
                SiteRunEvent::Round { rounds_done } => {
                    (status.rounds_done, status.last_round, status.note) = (*rounds_done, Some(now()), TAKING_PART.into());
                }
                SiteRunEvent::Retired(reason) => status.note = format!("left the run in order: {reason}"),
            }
            let steps = trainer.private_steps();
            status.private_steps_left = steps.map(|PrivateSteps { left, .. }| left);
            let rounds_left = status.rounds.saturating_sub(status.rounds_done);
            status.private_steps_needed = steps.map(|steps| rounds_left * steps.per_round);
            (status.bytes_sent, status.bytes_received) = (0, 0);
            for (_, kind, traffic) in ledger.entries() {
                *(if kind.leaves_a_site() { &mut status.bytes_sent } else { &mut status.bytes_received }) += traffic.bytes;
            }
        });
    }

    fn status(&self) -> Status {
        let mut status = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.last_round_seconds = status.last_round.map(|at| at.elapsed().as_secs_f64());
        status.certificate_days_left = status.certificate_until.map(days_left);
        status.disk_free_bytes = fs4::available_space(&status.folder).ok();
        status
    }
}

impl Status {
    fn new(name: &str, server: &str, folder: &Path, budget: Option<PrivacyBudget>, certificate_until: Option<i64>) -> Self {
        Self {
            name: name.into(),
            server: server.into(),
            connected: false,
            server_answers: false,
            note: "starting".into(),
            run: None,
            rounds: 0,
            rounds_done: 0,
            last_round_seconds: None,
            bytes_sent: 0,
            bytes_received: 0,
            epsilon_max: budget.map(|budget| budget.epsilon),
            private_steps_left: None,
            private_steps_needed: None,
            certificate_days_left: None,
            disk_free_bytes: None,
            run_id: None,
            last_round: None,
            certificate_until,
            folder: folder.into(),
        }
    }

    /// Forgets the numbers of the run before.
    fn leave_run(&mut self) {
        (self.run, self.run_id, self.last_round) = (None, None, None);
        (self.rounds, self.rounds_done, self.bytes_sent, self.bytes_received) = (0, 0, 0, 0);
        (self.private_steps_left, self.private_steps_needed) = (None, None);
    }
}

fn metrics(status: &Status) -> Registry {
    let mut registry = Registry::default();
    let mut whole = |name: &str, help: &str, value: u64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(value.try_into().unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    whole("asyndgan_site_connected", "Whether the site is connected to the server (1) or not (0)", status.connected.into());
    let answers = "Whether the server answered last time (1), also if it serves no run, or not (0)";
    whole("asyndgan_site_server_answers", answers, status.server_answers.into());
    whole("asyndgan_site_rounds_done", "Rounds done in the current run", status.rounds_done);
    whole("asyndgan_site_rounds", "Total number of rounds of the current run", status.rounds);
    if let (Some(left), Some(needed)) = (status.private_steps_left, status.private_steps_needed) {
        let help = "Steps with differential privacy that the run and the budget still allow";
        whole("asyndgan_site_private_steps_left", help, left);
        whole("asyndgan_site_private_steps_needed", "Steps with differential privacy that the rest of the run takes", needed);
    }
    for (name, help, bytes) in [
        ("asyndgan_site_sent_bytes", "Bytes of messages to the server in the current run", status.bytes_sent),
        ("asyndgan_site_received_bytes", "Bytes of messages from the server in the current run", status.bytes_received),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(bytes);
        registry.register(name, help, counter);
    }
    float(&mut registry, "asyndgan_site_last_round_age_seconds", "Time since the last round was done", status.last_round_seconds);
    float(&mut registry, "asyndgan_site_certificate_days_left", "Days until the certificate expires", status.certificate_days_left);
    let free = status.disk_free_bytes.map(|bytes| bytes as f64);
    float(&mut registry, "asyndgan_site_disk_free_bytes", "Free space on the disk of the site's folder", free);
    registry
}

/// A text with every metric of a site.
#[cfg(test)]
pub(super) fn every_metric() -> String {
    let mut status = Status::new("north", "localhost:7443", Path::new("."), None, Some(0));
    (status.private_steps_left, status.private_steps_needed) = (Some(1), Some(1));
    (status.last_round_seconds, status.certificate_days_left, status.disk_free_bytes) = (Some(1.0), Some(1.0), Some(1));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &metrics(&status)).expect("text");
    text
}

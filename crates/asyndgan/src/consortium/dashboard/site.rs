//! The web page and the Prometheus metrics of a site.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Result, ensure};
use asyndgan_training::SiteTrainer;
use asyndgan_transport::{Ledger, SiteRunEvent};
use axum::{
    Json, Router,
    extract::State,
    response::{Html, Response},
    routing::get,
};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use serde::Serialize;

use super::{
    metrics::{encoded, float},
    script, serve,
};
use crate::{consortium::dates::days_left, progress::now};

/// The web page of one site, over all its runs.
#[derive(Clone)]
pub(in crate::consortium) struct SitePage(Arc<Mutex<Status>>);

#[derive(Debug, Clone, Serialize)]
struct Status {
    name: String,
    server: String,
    connected: bool,
    /// What the site does, for people.
    note: String,
    /// The run that it takes part in.
    run: Option<String>,
    rounds: u64,
    rounds_done: u64,
    last_round_seconds: Option<f64>,
    bytes_sent: u64,
    bytes_received: u64,
    /// Steps that the privacy budget still allows; `None` without differential privacy.
    private_steps_left: Option<u64>,
    certificate_days_left: Option<f64>,
    disk_free_bytes: Option<u64>,
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
        name: &str,
        server: &str,
        folder: &Path,
        certificate_until: Option<i64>,
        address: SocketAddr,
    ) -> Result<(Self, String)> {
        ensure!(
            address.ip().is_loopback(),
            "dashboard = \"{address}\": a site's certificate is not for web pages, so its dashboard must stay on this machine; use \
             127.0.0.1"
        );
        let status = Status {
            name: name.into(),
            server: server.into(),
            connected: false,
            note: "starting".into(),
            run: None,
            rounds: 0,
            rounds_done: 0,
            last_round_seconds: None,
            bytes_sent: 0,
            bytes_received: 0,
            private_steps_left: None,
            certificate_days_left: None,
            disk_free_bytes: None,
            last_round: None,
            certificate_until,
            folder: folder.into(),
        };
        let this = Self(Arc::new(Mutex::new(status)));
        let routes = Router::new()
            .route("/", get(|| async { Html(include_str!("site.html")) }))
            .route("/site.js", get(|| script(include_str!("site.js"))))
            .route("/status.json", get(|State(this): State<Self>| async move { Json(this.status()) }))
            .route("/metrics", get(|State(this): State<Self>| async move { metrics(&this.status()) }))
            .with_state(this.clone());
        let (bound, token) = serve(routes, address, folder, &[], None)?;
        Ok((this, format!("http://{bound}/?token={token}")))
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Shows why the site takes part in no run now.
    pub(in crate::consortium) fn waits(&self, fact: &str) {
        self.change(|status| {
            (status.connected, status.note, status.run, status.last_round) = (false, fact.into(), None, None);
            (status.rounds, status.rounds_done) = (0, 0);
        });
    }

    /// Updates the status with an event.
    pub(in crate::consortium) fn on_event(&self, news: &SiteRunEvent<'_>, trainer: &SiteTrainer, ledger: &Ledger) {
        self.change(|status| {
            match news {
                SiteRunEvent::Connected => (status.connected, status.note) = (true, "connected".into()),
                SiteRunEvent::Lost(reason) => (status.connected, status.note) = (false, format!("no connection: {reason}")),
                SiteRunEvent::Notice(fact) => status.note = (*fact).into(),
                SiteRunEvent::Accepted(run) => (status.run, status.rounds) = (Some(run.name.clone()), run.rounds),
                SiteRunEvent::Begun { rounds_done } => (status.rounds_done, status.note) = (*rounds_done, "taking part".into()),
                SiteRunEvent::Round { rounds_done } => (status.rounds_done, status.last_round) = (*rounds_done, Some(now())),
                SiteRunEvent::Retired(reason) => status.note = format!("left the run in order: {reason}"),
            }
            status.private_steps_left = trainer.private_steps().map(|(_, left)| left);
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

/// The metrics in the text format of Prometheus.
fn metrics(status: &Status) -> Response {
    let mut registry = Registry::default();
    let mut whole = |name: &str, help: &str, value: u64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(value.try_into().unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    whole("asyndgan_site_connected", "Whether the site is connected to the server (1) or not (0)", status.connected.into());
    whole("asyndgan_site_rounds_done", "Rounds done in the current run", status.rounds_done);
    whole("asyndgan_site_rounds", "Total number of rounds of the current run", status.rounds);
    if let Some(left) = status.private_steps_left {
        whole("asyndgan_site_private_steps_left", "Steps that the privacy budget still allows", left);
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
    encoded(&registry)
}

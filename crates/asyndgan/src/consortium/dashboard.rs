mod access;
mod listen;
mod metrics;
mod site;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context, Result};
use asyndgan_protocol::{Losses, MessageKind, SiteId};
use asyndgan_transport::{Identity, Ledger, RevocationStatus, ServerRunEvent, rustls};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Serialize;

use access::Access;
use metrics::metrics;
pub(super) use site::SitePage;

use super::{dates::days_left, runs::RoundCount, server_config::ServerConfig};
use crate::progress::now;

/// A site that a run has waited for this long is reported.
const AWAITED_AFTER_S: f64 = 10.0;
/// A run without a new round for this long may be stalled.
const STALLED_AFTER_S: f64 = 30.0;
/// Maximum number of points per curve; above it, points are thinned out.
const POINTS_MAX: usize = 512;

/// The name on the page of a server that serves no run.
const IDLE: &str = "no run is being served";

/// The web page and the Prometheus metrics of one server's run.
#[derive(Clone)]
pub(super) struct Dashboard {
    status: Arc<Mutex<Status>>,
    picture: PathBuf,
    /// `None` for a relay: without certificates, none is revoked.
    revocation: Option<RevocationStatus>,
}

#[derive(Debug, Clone, Serialize)]
struct Status {
    name: String,
    rounds: u64,
    rounds_done: u64,
    seconds: f64,
    /// `None` if no round was done lately: then nothing can be said.
    seconds_left: Option<f64>,
    /// Since the last round was done.
    last_round_seconds: Option<f64>,
    /// The sites that the run waits for, and for how long.
    waits_for: Vec<Awaited>,
    /// The time that the rounds took, waiting for sites and working here.
    phase_seconds: Phases,
    /// How often all sites went back to a checkpoint.
    rollbacks: u32,
    certificate_days_left: Option<f64>,
    disk_free_bytes: Option<u64>,
    finished: bool,
    /// A problem that the operator must fix.
    alarm: Option<String>,
    sites: Vec<SiteStatus>,
    points: Vec<Point>,
    #[serde(skip)]
    started: Instant,
    #[serde(skip)]
    last_round: Option<Instant>,
    /// The sites that the run waits for, and since when; and since when it is these.
    #[serde(skip)]
    awaited: (Vec<(usize, Instant)>, Instant),
    /// When the server's certificate expires: seconds since the Unix epoch.
    #[serde(skip)]
    certificate_until: Option<i64>,
    /// Rounds done when this process began, and when that was.
    #[serde(skip)]
    begun: Option<(u64, Instant)>,
    /// Every so many rounds become a point.
    #[serde(skip)]
    stride: u64,
}

#[derive(Debug, Clone, Serialize)]
struct Awaited {
    site: String,
    seconds: f64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Phases {
    sites: f64,
    server: f64,
}

#[derive(Debug, Clone, Serialize)]
struct SiteStatus {
    name: String,
    connected: bool,
    note: String,
    rounds: u64,
    bytes_to: u64,
    bytes_from: u64,
    feedback_norm: Option<f64>,
    /// As far as the site reports them.
    discriminator_loss: Option<f32>,
    generator_loss: Option<f32>,
    /// How often it came back without its checkpoint.
    states_lost: u32,
    /// Rounds in which its feedback was scaled down.
    feedback_scaled: u64,
}

/// Means over the sites that answered, and over those of them that report their losses.
#[derive(Debug, Clone, Copy, Serialize)]
struct Point {
    round: u64,
    feedback_norm: f64,
    discriminator: Option<f32>,
    generator: Option<f32>,
}

impl Dashboard {
    /// The dashboard of a server without a run. The identity is the server's.
    pub(super) fn idle(folder: &Path, identity: &Identity) -> Self {
        Self::of(IDLE, &[], 0, folder, None, Some(identity))
    }

    /// The dashboard of a run. The identity is the server's.
    pub(super) fn new(config: &ServerConfig, rounds: u64, revocation: Option<RevocationStatus>, identity: Option<&Identity>) -> Self {
        Self::of(&config.name, &config.sites, rounds, &config.folder, revocation, identity)
    }

    fn of(
        name: &str,
        sites: &[String],
        rounds: u64,
        folder: &Path,
        revocation: Option<RevocationStatus>,
        identity: Option<&Identity>,
    ) -> Self {
        let site = |name: &String| SiteStatus {
            name: name.clone(),
            connected: false,
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
            rounds_done: 0,
            seconds: 0.0,
            seconds_left: None,
            last_round_seconds: None,
            waits_for: Vec::new(),
            phase_seconds: Phases::default(),
            rollbacks: 0,
            certificate_days_left: None,
            disk_free_bytes: None,
            finished: false,
            alarm: None,
            sites: sites.iter().map(site).collect(),
            points: Vec::new(),
            started: now(),
            last_round: None,
            awaited: (Vec::new(), now()),
            certificate_until: identity.map(|identity| identity.facts().not_after),
            begun: None,
            stride: 1,
        };
        Self { status: Arc::new(Mutex::new(status)), picture: folder.join("latest.png"), revocation }
    }

    /// Updates the status with an event.
    pub(super) fn on_event(&self, news: &ServerRunEvent<'_>, ledger: &Ledger) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        match news {
            ServerRunEvent::Joined(site) => {
                let site = &mut status.sites[site.0 as usize];
                (site.connected, site.note) = (true, "joined the run".into());
            }
            ServerRunEvent::Dismissed(site, error) => {
                let site = &mut status.sites[site.0 as usize];
                (site.connected, site.note) = (false, error.to_string());
            }
            ServerRunEvent::Retired { site, round, reason } => {
                let site = &mut status.sites[site.0 as usize];
                (site.connected, site.note) = (false, super::events::retired(*round, reason));
            }
            ServerRunEvent::StateLost { site, round, restored } => {
                let site = &mut status.sites[site.0 as usize];
                (site.note, site.states_lost) = (super::events::lost_state(*round, *restored), site.states_lost + 1);
            }
            ServerRunEvent::Notice(_) => {}
            ServerRunEvent::Waiting(sites) => status.wait_for(sites),
            ServerRunEvent::Begun { rounds_done } => {
                status.rollbacks += u32::from(status.begun.is_some());
                status.rounds_done = *rounds_done;
                status.begun = Some((*rounds_done, now()));
                status.points.retain(|p| p.round < *rounds_done);
            }
            ServerRunEvent::Round { rounds_done, contributions } => {
                status.rounds_done = *rounds_done;
                status.last_round = Some(now());
                status.finished = status.rounds_done == status.rounds;
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
                if rounds_done.is_multiple_of(status.stride) {
                    let feedback_norm = contributions.iter().map(|c| c.norm).sum::<f64>() / contributions.len().max(1) as f64;
                    let reported: Vec<_> = contributions.iter().filter_map(|c| c.losses).collect();
                    let mean = |of: fn(&Losses) -> f32| {
                        (!reported.is_empty()).then(|| reported.iter().map(of).sum::<f32>() / reported.len() as f32)
                    };
                    let (discriminator, generator) = (mean(|l| l.discriminator), mean(|l| l.generator));
                    status.points.push(Point { round: rounds_done - 1, feedback_norm, discriminator, generator });
                }
                if status.points.len() > POINTS_MAX {
                    status.stride *= 2;
                    let stride = status.stride;
                    status.points.retain(|p| (p.round + 1).is_multiple_of(stride));
                }
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

    /// The number of rounds, and the sites that the run has waited for, for a while.
    pub(super) fn count(&self) -> RoundCount {
        let status = self.status();
        let waits_for = status.waits_for.into_iter().filter(|awaited| awaited.seconds > AWAITED_AFTER_S).map(|awaited| awaited.site);
        RoundCount { rounds_done: status.rounds_done, rounds: status.rounds, waits_for: waits_for.collect() }
    }

    /// The run has ended here, or was stopped: it waits for nobody.
    pub(super) fn end(&self, is_finished: bool, fact: &str) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.wait_for(&[]);
        (status.finished, status.last_round) = (is_finished, None);
        for site in &mut status.sites {
            (site.connected, site.note) = (false, fact.into());
        }
    }

    fn status(&self) -> Status {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let alarm = |fact| format!("no site may join: the list of revoked certificates cannot be read: {fact}");
        status.alarm = self.revocation.as_ref().and_then(RevocationStatus::unreadable).map(alarm);
        status.seconds = status.started.elapsed().as_secs_f64();
        status.last_round_seconds = status.last_round.map(|at| at.elapsed().as_secs_f64());
        status.certificate_days_left = status.certificate_until.map(days_left);
        status.disk_free_bytes = self.picture.parent().and_then(|folder| fs4::available_space(folder).ok());
        let awaited = status.awaited.0.iter();
        let named = |&(site, since): &(usize, Instant)| {
            Some(Awaited { site: status.sites.get(site)?.name.clone(), seconds: since.elapsed().as_secs_f64() })
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

/// The web page of a server. It shows one run, and later perhaps another.
#[derive(Clone)]
pub(super) struct Page(Arc<Mutex<Dashboard>>);

impl Page {
    fn current(&self) -> Dashboard {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows another run.
    pub(super) fn show(&self, dashboard: Dashboard) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = dashboard;
    }

    /// Serves in its own thread until the program ends; returns the URL for a browser, with the token. On addresses
    /// other than localhost it uses HTTPS with the server's certificate, which a server behind a relay does not have.
    pub(super) fn serve(first: Dashboard, address: SocketAddr, folder: &Path, identity: Option<&Identity>) -> Result<(Self, String)> {
        let this = Self(Arc::new(Mutex::new(first)));
        let routes = Router::new()
            .route("/", get(|| async { Html(include_str!("dashboard/dashboard.html")) }))
            .route("/dashboard.js", get(|| script(include_str!("dashboard/dashboard.js"))))
            .route("/status.json", get(|State(this): State<Self>| async move { Json(this.current().status()) }))
            .route("/metrics", get(|State(this): State<Self>| async move { metrics(&this.current().status()) }))
            .route("/latest.png", get(|State(this): State<Self>| async move { picture(&this.current().picture) }))
            .with_state(this.clone());
        let tls = if address.ip().is_loopback() {
            None
        } else {
            let identity = identity.context("with carrier = \"relay\", the dashboard has no certificate: serve it on 127.0.0.1")?;
            Some(identity.https()?)
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (bound, token) = serve(routes, address, folder, identity.map_or(&[], Identity::hosts), tls)?;
        // The log of a relay's job is for those who submit jobs.
        let url = match identity {
            Some(_) => format!("{scheme}://{bound}/?token={token}"),
            None => format!("{scheme}://{bound}/?token=TOKEN, with the token in {}", access::token_path(folder).display()),
        };
        Ok((this, url))
    }
}

impl Status {
    fn wait_for(&mut self, sites: &[SiteId]) {
        let (before, since) = std::mem::replace(&mut self.awaited, (Vec::new(), now()));
        let now = self.awaited.1;
        let seconds = (now - since).as_secs_f64();
        // The time before the first round is not that of a round.
        if self.begun.is_some() {
            *(if before.is_empty() { &mut self.phase_seconds.server } else { &mut self.phase_seconds.sites }) += seconds;
        }
        let since = |site: usize| before.iter().find(|(awaited, _)| *awaited == site).map_or(now, |awaited| awaited.1);
        self.awaited.0 = sites.iter().map(|site| (site.0 as usize, since(site.0 as usize))).collect();
    }
}

async fn script(text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], text)
}

/// Serves pages behind the token of a folder, in a thread of their own, until the program ends. Returns the address and
/// the token.
fn serve(
    routes: Router,
    address: SocketAddr,
    folder: &Path,
    hosts: &[String],
    tls: Option<Arc<rustls::ServerConfig>>,
) -> Result<(SocketAddr, String)> {
    let css = include_str!("dashboard/dashboard.css");
    let routes = routes.route("/dashboard.css", get(move || async move { ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], css) }));
    let token = access::token(folder)?;
    let socket = std::net::TcpListener::bind(address).with_context(|| format!("cannot serve the dashboard on {address}"))?;
    let bound = socket.local_addr()?;
    let access = Access::new(token.clone(), bound, hosts, tls.is_some());
    listen::serve(socket, routes.layer(from_fn_with_state(access, access::check)), tls)?;
    Ok((bound, token))
}

fn picture(path: &Path) -> Response {
    match std::fs::read(path) {
        Ok(bytes) => ([(header::CONTENT_TYPE, "image/png")], bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

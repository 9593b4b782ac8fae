mod access;
mod listen;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context, Result};
use asyndgan_protocol::{Losses, MessageKind};
use asyndgan_transport::{Identity, Ledger, RevocationStatus, ServerRunEvent};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use serde::Serialize;
use std::sync::atomic::AtomicU64;

use access::Access;

use crate::progress::now;

/// Maximum number of points per curve; above it, points are thinned out.
const POINTS_MAX: usize = 512;

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
    seconds_left: Option<f64>,
    finished: bool,
    /// A problem that the operator must fix.
    alarm: Option<String>,
    sites: Vec<SiteStatus>,
    points: Vec<Point>,
    #[serde(skip)]
    started: Instant,
    /// Rounds done when this process began, and when that was.
    #[serde(skip)]
    begun: Option<(u64, Instant)>,
    /// Every so many rounds become a point.
    #[serde(skip)]
    stride: u64,
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
    pub(super) fn new(name: &str, sites: &[String], rounds: u64, picture: &Path, revocation: Option<RevocationStatus>) -> Self {
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
            finished: false,
            alarm: None,
            sites: sites.iter().map(site).collect(),
            points: Vec::new(),
            started: now(),
            begun: None,
            stride: 1,
        };
        Self { status: Arc::new(Mutex::new(status)), picture: picture.into(), revocation }
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
            ServerRunEvent::Begun { rounds_done } => {
                status.rounds_done = *rounds_done;
                status.begun = Some((*rounds_done, now()));
                status.points.retain(|p| p.round < *rounds_done);
            }
            ServerRunEvent::Round { rounds_done, contributions } => {
                status.rounds_done = *rounds_done;
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

    fn status(&self) -> Status {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let alarm = |fact| format!("no site may join: the list of revoked certificates cannot be read: {fact}");
        status.alarm = self.revocation.as_ref().and_then(RevocationStatus::unreadable).map(alarm);
        status.seconds = status.started.elapsed().as_secs_f64();
        status.seconds_left = status.begun.filter(|(from, _)| status.rounds_done > *from).map(|(from, at)| {
            at.elapsed().as_secs_f64() / (status.rounds_done - from) as f64 * (status.rounds - status.rounds_done) as f64
        });
        status
    }

    /// Serves in its own thread until the program ends; returns the URL for a browser, with the token. On addresses
    /// other than localhost it uses HTTPS with the server's certificate, which a server behind a relay does not have.
    pub(super) fn serve(&self, address: SocketAddr, folder: &Path, identity: Option<&Identity>) -> Result<String> {
        let text = |kind: &'static str, text: &'static str| move || async move { ([(header::CONTENT_TYPE, kind)], text) };
        let routes = Router::new()
            .route("/", get(|| async { Html(include_str!("dashboard/dashboard.html")) }))
            .route("/dashboard.css", get(text("text/css; charset=utf-8", include_str!("dashboard/dashboard.css"))))
            .route("/dashboard.js", get(text("text/javascript; charset=utf-8", include_str!("dashboard/dashboard.js"))))
            .route("/status.json", get(|State(this): State<Self>| async move { Json(this.status()) }))
            .route("/metrics", get(|State(this): State<Self>| async move { metrics(&this.status()) }))
            .route("/latest.png", get(|State(this): State<Self>| async move { picture(&this.picture) }))
            .with_state(self.clone());
        let token = access::token(folder)?;
        let tls = if address.ip().is_loopback() {
            None
        } else {
            let identity = identity.context("with carrier = \"relay\", the dashboard has no certificate: serve it on 127.0.0.1")?;
            Some(identity.https()?)
        };
        let socket = std::net::TcpListener::bind(address).with_context(|| format!("cannot serve the dashboard on {address}"))?;
        let bound = socket.local_addr()?;
        let access = Access::new(token.clone(), bound, identity.map_or(&[], Identity::hosts), tls.is_some());
        let routes = routes.layer(from_fn_with_state(access, access::check));
        let scheme = if tls.is_some() { "https" } else { "http" };
        listen::serve(socket, routes, tls)?;
        // The log of a relay's job is for those who submit jobs.
        Ok(match identity {
            Some(_) => format!("{scheme}://{bound}/?token={token}"),
            None => format!("{scheme}://{bound}/?token=TOKEN, with the token in {}", access::token_path(folder).display()),
        })
    }
}

fn picture(path: &Path) -> Response {
    match std::fs::read(path) {
        Ok(bytes) => ([(header::CONTENT_TYPE, "image/png")], bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfSite {
    site: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfWay {
    site: String,
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfNetwork {
    site: String,
    network: &'static str,
}

type Float = Gauge<f64, AtomicU64>;

/// The metrics in the text format of Prometheus.
fn metrics(status: &Status) -> Response {
    let mut registry = Registry::default();
    let (done, all) = (Gauge::<i64>::default(), Gauge::<i64>::default());
    done.set(status.rounds_done as i64);
    all.set(status.rounds as i64);
    registry.register("asyndgan_rounds_done", "Rounds done", done);
    registry.register("asyndgan_rounds", "Total number of rounds of the run", all);
    let unreadable = Gauge::<i64>::default();
    unreadable.set(status.alarm.is_some().into());
    let help = "Whether the list of revoked certificates cannot be read (1); no site may join then";
    registry.register("asyndgan_revocation_list_unreadable", help, unreadable);
    let up = Family::<OfSite, Gauge>::default();
    let bytes = Family::<OfWay, Counter>::default();
    let norms = Family::<OfSite, Float>::default();
    let lost = Family::<OfSite, Counter>::default();
    let scaled = Family::<OfSite, Counter>::default();
    let losses = Family::<OfNetwork, Float>::default();
    for s in &status.sites {
        let site = || s.name.clone();
        up.get_or_create(&OfSite { site: site() }).set(i64::from(s.connected));
        for (direction, n) in [("to_site", s.bytes_to), ("from_site", s.bytes_from)] {
            bytes.get_or_create(&OfWay { site: site(), direction }).inc_by(n);
        }
        lost.get_or_create(&OfSite { site: site() }).inc_by(s.states_lost.into());
        scaled.get_or_create(&OfSite { site: site() }).inc_by(s.feedback_scaled);
        if let Some(norm) = s.feedback_norm {
            norms.get_or_create(&OfSite { site: site() }).set(norm);
        }
        for (network, loss) in [("discriminator", s.discriminator_loss), ("generator", s.generator_loss)] {
            if let Some(loss) = loss {
                losses.get_or_create(&OfNetwork { site: site(), network }).set(loss.into());
            }
        }
    }
    registry.register("asyndgan_site_up", "Whether a site takes part in the run (1) or not (0)", up);
    registry.register("asyndgan_message_bytes", "Bytes of messages since the start of the run", bytes);
    registry.register("asyndgan_feedback_norm", "Euclidean norm of a site's latest feedback", norms);
    registry.register("asyndgan_feedback_scaled", "Rounds in which a site's feedback was scaled down", scaled);
    registry.register("asyndgan_states_lost", "How often a site came back without its checkpoint", lost);
    registry.register("asyndgan_loss", "Latest losses of a site, if it reports them", losses);
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

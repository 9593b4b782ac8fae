mod access;
mod curves;
mod listen;
mod metrics;
mod progress;
mod queue;
mod site;
mod status;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use asyndgan_transport::{Identity, RevocationStatus, rustls};
use axum::{
    Json, Router,
    extract::{Path as Part, State},
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;

use access::Access;
use metrics::{encoded, metrics};
pub(super) use site::SitePage;
pub(super) use status::Dashboard;

use super::runs::Runs;

/// The web page of a server. It shows one run, and later perhaps another.
#[derive(Clone)]
pub(super) struct Page {
    current: Arc<Mutex<Dashboard>>,
    /// The queue, for the operator's requests; `None` for a server of one run.
    runs: Option<Arc<Runs>>,
}

/// What the page shows.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    status: status::Status,
    runs: Vec<queue::ShownRun>,
}

impl Page {
    fn current(&self) -> Dashboard {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn shown(&self) -> Shown {
        Shown { status: self.current().status(), runs: self.runs.as_deref().map(queue::shown).unwrap_or_default() }
    }

    /// Shows what the server does while it serves no run, and whether its list of revoked certificates can be read.
    pub(super) fn waits(&self, fact: &str, revocation: RevocationStatus) {
        let mut dashboard = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        dashboard.revocation = Some(revocation);
        dashboard.waits(fact);
    }

    /// Shows another run.
    pub(super) fn show(&self, dashboard: Dashboard) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = dashboard;
    }

    /// Serves in its own thread until the program ends; returns the URL for a browser, with the token. On addresses
    /// other than localhost it uses HTTPS with the server's certificate, which a server behind a relay does not have.
    pub(super) fn serve(
        first: Dashboard,
        address: SocketAddr,
        folder: &Path,
        identity: Option<&Identity>,
        runs: Option<Arc<Runs>>,
    ) -> Result<(Self, String)> {
        let this = Self { current: Arc::new(Mutex::new(first)), runs };
        let routes = Router::new()
            .route("/", get(|| async { Html(include_str!("dashboard/dashboard.html")) }))
            .route("/dashboard.js", get(|| script(include_str!("dashboard/dashboard.js"))))
            .route("/status.json", get(|State(this): State<Self>| async move { Json(this.shown()) }))
            .route(
                "/curve/{site}",
                get(|State(this): State<Self>, Part(site): Part<usize>| async move { Json(this.current().curve(site)) }),
            )
            .route("/runs", post(queue::act))
            .route("/metrics", get(|State(this): State<Self>| async move { encoded(&metrics(&this.current().status())) }))
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
#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn alerts_and_the_grafana_dashboard_use_existing_metrics() {
        let server = metrics(&status::complete());
        let mut text = site::every_metric();
        encode(&mut text, &server).expect("text");
        let is_metric = |name: &str| text.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/monitoring");
        for file in ["alerts.yml", "grafana.json"] {
            let used = std::fs::read_to_string(folder.join(file)).expect("read");
            let words = used.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let names: Vec<&str> = words.filter(|word| word.starts_with("asyndgan_")).collect();
            assert!(names.len() > 5, "{file}");
            for name in names {
                assert!(is_metric(name), "{file} uses {name}, which is not among\n{text}");
            }
        }
    }
}

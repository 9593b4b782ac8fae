//! The metrics of a server in the text format of Prometheus.

use std::sync::atomic::AtomicU64;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::status::{ServedState, Status};

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
struct OfRun {
    run: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfPhase {
    phase: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfNetwork {
    site: String,
    network: &'static str,
}

type Float = Gauge<f64, AtomicU64>;

/// The metrics in the text format of Prometheus.
pub(super) fn metrics(status: &Status) -> Registry {
    let mut registry = Registry::default();
    let (done, all) = (Gauge::<i64>::default(), Gauge::<i64>::default());
    done.set(status.rounds_done as i64);
    all.set(status.rounds as i64);
    registry.register("asyndgan_rounds_done", "Rounds done", done);
    registry.register("asyndgan_rounds", "Total number of rounds of the run", all);
    let computed = Counter::<u64>::default();
    computed.inc_by(status.rounds_computed);
    registry.register("asyndgan_rounds_computed", "Rounds done since the server began to serve this run, with repeated ones", computed);
    let unreadable = Gauge::<i64>::default();
    unreadable.set(status.alarm.is_some().into());
    let help = "Whether the list of revoked certificates cannot be read (1); no site may join then";
    registry.register("asyndgan_revocation_list_unreadable", help, unreadable);
    let run = Family::<OfRun, Gauge>::default();
    if status.state == ServedState::Running {
        run.get_or_create(&OfRun { run: status.name.clone() }).set(1);
    }
    registry.register("asyndgan_run", "The run that is being served", run);
    let phases = Family::<OfPhase, Counter<f64, AtomicU64>>::default();
    for (phase, seconds) in [("sites", status.phase_seconds.sites), ("server", status.phase_seconds.server)] {
        phases.get_or_create(&OfPhase { phase }).inc_by(seconds);
    }
    registry.register("asyndgan_round_seconds", "Time of the rounds: waiting for sites, and work of the server", phases);
    let age = "Time since the last round was done, or since the run began here";
    float(&mut registry, "asyndgan_last_round_age_seconds", age, status.last_round_seconds);
    let days = "Days until the certificate expires";
    float(&mut registry, "asyndgan_certificate_days_left", days, status.certificate_days_left);
    let free = status.disk_free_bytes.map(|bytes| bytes as f64);
    float(&mut registry, "asyndgan_disk_free_bytes", "Free space on the disk of the run's folder", free);
    let rollbacks = Counter::<u64>::default();
    rollbacks.inc_by(status.rollbacks.into());
    let help = "How often all sites went back to a checkpoint since the server began to serve this run";
    registry.register("asyndgan_rollbacks", help, rollbacks);
    let waits = Family::<OfSite, Float>::default();
    let up = Family::<OfSite, Gauge>::default();
    let bytes = Family::<OfWay, Counter>::default();
    let norms = Family::<OfSite, Float>::default();
    let lost = Family::<OfSite, Counter>::default();
    let scaled = Family::<OfSite, Counter>::default();
    let losses = Family::<OfNetwork, Float>::default();
    for s in &status.sites {
        let site = || s.name.clone();
        let wait = status.waits_for.iter().find(|awaited| awaited.site == s.name).map_or(0.0, |awaited| awaited.seconds);
        waits.get_or_create(&OfSite { site: site() }).set(wait);
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
    registry.register("asyndgan_site_awaited_seconds", "For how long the run has waited for a site; 0 if it does not", waits);
    registry.register("asyndgan_site_up", "Whether a site takes part in the run (1) or not (0)", up);
    registry.register("asyndgan_message_bytes", "Bytes of messages since the start of the run", bytes);
    registry.register("asyndgan_feedback_norm", "Euclidean norm of a site's latest feedback", norms);
    registry.register("asyndgan_feedback_scaled", "Rounds in which a site's feedback was scaled down", scaled);
    registry.register("asyndgan_states_lost", "How often a site came back without its checkpoint", lost);
    registry.register("asyndgan_loss", "Latest losses of a site, if it reports them", losses);
    registry
}

/// Adds a value, if there is one.
pub(super) fn float(registry: &mut Registry, name: &str, help: &str, value: Option<f64>) {
    if let Some(value) = value {
        let gauge = Float::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
}

/// Metrics in the text format of Prometheus.
pub(super) fn encoded(registry: &Registry) -> Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

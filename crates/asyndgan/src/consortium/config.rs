//! What the configurations of servers and sites have in common.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use asyndgan_transport::Outcome;
use serde::{Deserialize, de::DeserializeOwned};

/// How messages travel between the server and the sites.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Carrier {
    /// gRPC over mutual TLS.
    #[default]
    Grpc,
    /// Through a relay on the same machine, such as a job of NVIDIA FLARE, which identifies the other end.
    Relay,
}

impl Carrier {
    /// Whether a program that ended like this was successful. A relay's job without a result is not.
    pub(super) fn ends_with(self, outcome: Outcome) -> Result<()> {
        ensure!(
            self == Carrier::Grpc || outcome == Outcome::Finished,
            "stopped before the end of the run; submit the job again to resume it"
        );
        Ok(())
    }

    /// How long an end waits for the other one by default.
    pub(super) fn patience_hours(self) -> f64 {
        match self {
            Carrier::Grpc => 24.0,
            // A relay that has ended does not return: its platform starts new processes.
            Carrier::Relay => 0.25,
        }
    }
}

pub(super) fn auto() -> String {
    "auto".into()
}

pub(super) fn thirty() -> f64 {
    30.0
}

/// Reads a TOML file, and returns it with its folder, to which its relative paths refer. `init` is the command that
/// creates one.
pub(super) fn read<T: DeserializeOwned>(path: &Path, init: &str) -> Result<(T, PathBuf)> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read {}: name the file with --config, or create one with `{init}`", path.display()))?;
    let config = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((config, folder.into()))
}

pub(super) fn duration(name: &str, value: f64, unit_s: f64) -> Result<Duration> {
    ensure!((0.0..=1e6).contains(&value), "{name} is {value}; use a number from 0 to 1000000");
    Ok(Duration::from_secs_f64(value * unit_s))
}

pub(super) fn keep_alive(seconds: f64) -> Result<Duration> {
    Ok(duration("keep_alive_seconds", seconds, 1.0)?.max(Duration::from_millis(100)))
}

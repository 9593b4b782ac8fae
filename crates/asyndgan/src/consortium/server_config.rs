use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use asyndgan_paper::{Arm, Profile, Run, Settings};
use asyndgan_protocol::{Dtype, LostState, RunDescription, ServerPolicy, SiteId, Timeouts, Waiting};
use asyndgan_transport::{Authority, EndedRuns, Identity};
use serde::{Deserialize, Serialize};

use super::config::{Carrier, auto, duration, keep_alive, read, thirty};
use crate::{configure, task_file::TaskFile};

/// Sites that one server serves.
const SITES_MAX: usize = 64;
/// Maximum time that a round waits for slow sites; no site's policy accepts more.
const DEADLINE_MS_MAX: u64 = 7 * 24 * 3600 * 1000;

/// A server's `run.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerConfig {
    pub(super) name: String,
    pub(super) sites: Vec<String>,
    /// brain, tissue, or the path of a task file.
    #[serde(alias = "images")]
    task: String,
    /// `None` for the profile of the task file, or desk.
    profile: Option<Profile>,
    #[serde(default)]
    pub(super) seed: u64,
    #[serde(default = "listen")]
    pub(super) listen: SocketAddr,
    pub(super) dashboard: Option<SocketAddr>,
    #[serde(default)]
    pub(super) carrier: Carrier,
    pub(super) keys: Option<PathBuf>,
    pub(super) folder: PathBuf,
    #[serde(default = "auto")]
    device: String,
    #[serde(default = "all")]
    waiting: Waiting,
    #[serde(default = "f32s")]
    synthetic: Dtype,
    #[serde(default = "f32s")]
    feedback: Dtype,
    #[serde(default = "an_hour", alias = "answer_minutes")]
    response_timeout_minutes: f64,
    #[serde(alias = "absence_hours")]
    reconnect_timeout_hours: Option<f64>,
    #[serde(default = "thirty")]
    keep_alive_seconds: f64,
    cases_max: Option<u32>,
    condition_bytes_max: Option<u64>,
    weight_ratio_max: Option<f64>,
    feedback_ratio_max: Option<f64>,
    lost_state: Option<LostState>,
    #[serde(alias = "set_backs_max")]
    rollbacks_max: Option<u32>,
    #[serde(default)]
    settings: serde_json::Map<String, serde_json::Value>,
    /// Changes of the sites since the run was submitted; `asyndgan run amend` writes them.
    #[serde(default)]
    pub(super) amendments: Vec<SiteChange>,
    /// The runs of the same queue that have ended.
    #[serde(skip)]
    pub(super) ended: EndedRuns,
}

/// A change of the sites of a run, in its `run.toml`. The server carries it out when it serves the run next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteChange {
    /// The number of the site in the run.
    pub(super) site: SiteId,
    /// The site that has this number from now on, unless it is dropped.
    pub(super) name: String,
    #[serde(default)]
    pub(super) is_dropped: bool,
}

/// Whether the last change of a site is that it takes no part.
pub(super) fn is_dropped(changes: &[SiteChange], site: usize) -> bool {
    changes.iter().rfind(|change| change.site.0 as usize == site).is_some_and(|change| change.is_dropped)
}

impl ServerConfig {
    /// The names of the sites that have not been taken out of the run.
    pub(super) fn remaining_sites(&self) -> Vec<&str> {
        let sites = self.sites.iter().enumerate().filter(|(site, _)| !is_dropped(&self.amendments, *site));
        sites.map(|(_, name)| name.as_str()).collect()
    }

    /// Those of them for which the authority in a folder of keys has issued no valid certificate. The authority may be
    /// on another machine: then none is named.
    pub(super) fn sites_without_certificate(&self, keys: &Path) -> Vec<&str> {
        let Ok(issued) = Authority::valid_sites(keys) else { return Vec::new() };
        self.remaining_sites().into_iter().filter(|site| !issued.iter().any(|name| name == site)).collect()
    }
}

/// The `runs.toml` of a server that serves one run after another.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunsConfig {
    /// The folder of all runs.
    pub(super) folder: PathBuf,
    pub(super) keys: PathBuf,
    #[serde(default = "listen")]
    pub(super) listen: SocketAddr,
    pub(super) dashboard: Option<SocketAddr>,
}

impl RunsConfig {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let (mut config, at): (Self, _) = read(path, "asyndgan init runs")?;
        for place in [&mut config.folder, &mut config.keys] {
            *place = at.join(&place);
        }
        Ok(config)
    }
}

fn listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7443))
}
fn all() -> Waiting {
    Waiting::All
}
fn f32s() -> Dtype {
    Dtype::F32
}
fn an_hour() -> f64 {
    60.0
}

impl ServerConfig {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let (mut config, at): (Self, _) = read(path, "asyndgan init server")?;
        // A task of the paper is a name, another one a file.
        if !matches!(config.task.as_str(), "brain" | "tissue") {
            config.task = at.join(&config.task).display().to_string();
        }
        config.keys = config.keys.map(|keys| at.join(keys));
        config.folder = at.join(&config.folder);
        let shown = path.display();
        ensure!(
            config.carrier == Carrier::Relay || config.keys.is_some(),
            "{shown}: keys is missing: asyndgan keys init creates its folder"
        );
        ensure!((1..=SITES_MAX).contains(&config.sites.len()), "{shown}: {} sites are listed; use 1 to {SITES_MAX}", config.sites.len());
        for (i, site) in config.sites.iter().enumerate() {
            ensure!(!config.sites[..i].contains(site), "{shown}: {site} is listed twice");
        }
        ensure!(
            ![config.synthetic, config.feedback].contains(&Dtype::U8),
            "{shown}: u8 is only for masks; use f32, f16 or bf16 (synthetic also accepts q8)"
        );
        ensure!(config.feedback != Dtype::Q8, "{shown}: feedback cannot be q8, because it has no fixed range; use f32, f16 or bf16");
        if let Waiting::Quorum { sites, .. } | Waiting::Staleness { sites, .. } = config.waiting {
            ensure!(
                sites > 0 && sites as usize <= config.sites.len(),
                "{shown}: waiting is for {sites} sites; use 1 to {}",
                config.sites.len()
            );
        }
        if let Waiting::Quorum { deadline_ms, .. } = config.waiting {
            ensure!(deadline_ms <= DEADLINE_MS_MAX, "{shown}: deadline_ms is {deadline_ms}; use at most {DEADLINE_MS_MAX} (7 days)");
        }
        config.policy().with_context(|| shown.to_string())?;
        config.keep_alive()?;
        config.run().with_context(|| shown.to_string())?;
        Ok(config)
    }

    /// The server's key and certificates; none for a relay.
    pub(super) fn identity(&self) -> Result<Option<Identity>> {
        let Some(path) = self.keys_folder().map(|keys| keys.join("server.pem")) else { return Ok(None) };
        ensure!(path.exists(), "{} does not exist: create the keys with asyndgan keys init", path.display());
        Ok(Some(Identity::read(&path)?))
    }

    /// The folder of the consortium's keys; none for a relay.
    pub(super) fn keys_folder(&self) -> Option<&Path> {
        self.keys.as_deref().filter(|_| self.carrier == Carrier::Grpc)
    }

    /// The limits on what sites may do to the run.
    pub(super) fn policy(&self) -> Result<ServerPolicy> {
        let mut policy = ServerPolicy::new(self.timeouts()?);
        policy.cases_max = self.cases_max.unwrap_or(policy.cases_max);
        policy.condition_bytes_max = self.condition_bytes_max.unwrap_or(policy.condition_bytes_max);
        policy.weight_ratio_max = self.weight_ratio_max.unwrap_or(policy.weight_ratio_max);
        policy.feedback_ratio_max = self.feedback_ratio_max.unwrap_or(policy.feedback_ratio_max);
        policy.lost_state = self.lost_state.unwrap_or(policy.lost_state);
        policy.rollbacks_max = self.rollbacks_max.unwrap_or(policy.rollbacks_max);
        for (name, ratio) in [("weight_ratio_max", policy.weight_ratio_max), ("feedback_ratio_max", policy.feedback_ratio_max)] {
            ensure!(ratio >= 1.0, "{name} is {ratio}; use a number of at least 1, or inf");
        }
        Ok(policy)
    }

    fn timeouts(&self) -> Result<Timeouts> {
        let answer = duration("response_timeout_minutes", self.response_timeout_minutes, 60.0)?;
        let hours = self.reconnect_timeout_hours.unwrap_or(self.carrier.patience_hours());
        let absence = duration("reconnect_timeout_hours", hours, 3600.0)?.max(Duration::from_secs(1));
        Ok(Timeouts { answer, absence })
    }

    pub(super) fn keep_alive(&self) -> Result<Duration> {
        keep_alive(self.keep_alive_seconds)
    }

    /// The run as the steps of an experiment describe it, so that they can continue with its results.
    pub(super) fn run(&self) -> Result<Run> {
        let file = TaskFile::read(&self.task)?;
        let own = Settings::changes(self.settings.clone());
        // What a hospital's default policy allows: no L1 term, and images of at least two patients in a batch.
        let batch = file.run(self.profile, &[])?.settings.protocol.batch.max(2);
        let mut changes = vec![("protocol.l1_weight".to_owned(), 0.0.into()), ("protocol.batch".to_owned(), batch.into())];
        changes.extend(own);
        changes.push(("data.sites".to_owned(), self.sites.len().into()));
        Ok(Run { seeds: vec![self.seed], device: self.device.clone(), ..file.run(self.profile, &changes)? })
    }

    pub(super) fn description(&self) -> Result<RunDescription> {
        let (name, waiting) = (self.name.clone(), self.waiting);
        let (synthetic_dtype, feedback_dtype) = (self.synthetic, self.feedback);
        let description = configure::description(&self.run()?, Arm::AsynDgan, self.seed, self.sites.len() as u32);
        Ok(description.with(|run| {
            run.name = name;
            run.waiting = waiting;
            run.synthetic_dtype = synthetic_dtype;
            run.feedback_dtype = feedback_dtype;
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_under_their_former_names() {
        let server = r#"
            name = "trial"
            sites = ["north"]
            images = "brain"
            keys = "keys"
            folder = "run"
        "#;
        let former = "answer_minutes = 7\nabsence_hours = 3\nset_backs_max = 5\nlost_state = \"go_back\"\n";
        let current = "response_timeout_minutes = 7\nreconnect_timeout_hours = 3\nrollbacks_max = 5\nlost_state = \"roll_back\"\n";
        for fields in [former, current] {
            let config: ServerConfig = toml::from_str(&format!("{server}{fields}")).expect("a server's configuration");
            let timeouts = config.timeouts().expect("durations in range");
            assert_eq!((timeouts.answer.as_secs(), timeouts.absence.as_secs()), (7 * 60, 3 * 3600));
            let policy = config.policy().expect("limits in range");
            assert_eq!((policy.rollbacks_max, policy.lost_state), (5, LostState::RollBack));
        }
    }
}

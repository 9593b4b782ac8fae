use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use asyndgan_files::is_private;
use asyndgan_paper::{Arm, Profile, Run, Settings};
use asyndgan_protocol::{Dtype, LostState, RunDescription, ServerPolicy, SitePolicy, Timeouts, Waiting};
use asyndgan_transport::{Approval, GrpcSite, Identity, Outcome, Proxy, SiteLink};
use serde::{Deserialize, de::DeserializeOwned};

use super::{amend::SiteChange, relay, runs::folder_name};
use crate::{configure, task_file::TaskFile};

/// Sites that one server serves.
const SITES_MAX: usize = 64;
/// Maximum time that a round waits for slow sites; no site's policy accepts more.
const DEADLINE_MS_MAX: u64 = 7 * 24 * 3600 * 1000;

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
    fn patience_hours(self) -> f64 {
        match self {
            Carrier::Grpc => 24.0,
            // A relay that has ended does not return: its platform starts new processes.
            Carrier::Relay => 0.25,
        }
    }
}

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
        let (mut config, at): (Self, _) = read(path)?;
        for place in [&mut config.folder, &mut config.keys] {
            *place = at.join(&place);
        }
        Ok(config)
    }
}

/// A site's `site.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteConfig {
    #[serde(default)]
    pub(super) carrier: Carrier,
    /// Empty for a relay.
    #[serde(default)]
    pub(super) server: String,
    /// The URL of an HTTP proxy, or "none"; `None` for that of the environment.
    proxy: Option<String>,
    bundle: Option<PathBuf>,
    /// The private key, where the bundle holds certificates alone.
    key: Option<PathBuf>,
    pub(super) data: PathBuf,
    pub(super) folder: PathBuf,
    /// Whether the site takes part in one run after another, each in a folder within `folder`.
    #[serde(default)]
    pub(super) keep_running: bool,
    /// How many runs a site that keeps running joins because its policy allows them.
    pub(super) runs_max: Option<u32>,
    /// The steps with differential privacy of all runs on these patients; `None` for a file beside the data.
    privacy_ledger: Option<PathBuf>,
    #[serde(default = "auto")]
    pub(super) device: String,
    #[serde(alias = "absence_hours")]
    reconnect_timeout_hours: Option<f64>,
    #[serde(default = "thirty")]
    keep_alive_seconds: f64,
    /// The address of the site's own web page and metrics.
    pub(super) dashboard: Option<SocketAddr>,
    /// By default, the runs of a relay and of a site that keeps running need the administrator's approval.
    approval: Option<Approval>,
    #[serde(default)]
    pub(super) policy: SitePolicy,
}

fn listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7443))
}
fn auto() -> String {
    "auto".into()
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
fn thirty() -> f64 {
    30.0
}

/// Reads a TOML file, and returns it with its folder, to which its relative paths refer.
fn read<T: DeserializeOwned>(path: &Path) -> Result<(T, PathBuf)> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}: create it with `asyndgan init`", path.display()))?;
    let config = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((config, folder.into()))
}

fn duration(name: &str, value: f64, unit_s: f64) -> Result<Duration> {
    ensure!((0.0..=1e6).contains(&value), "{name} is {value}; use a number from 0 to 1000000");
    Ok(Duration::from_secs_f64(value * unit_s))
}

impl ServerConfig {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let (mut config, at): (Self, _) = read(path)?;
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
        Ok(self.keys_folder().map(|keys| Identity::read(&keys.join("server.pem"))).transpose()?)
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

impl SiteConfig {
    /// The site's key and certificates; none for a relay.
    pub(super) fn identity(&self) -> Result<Option<Identity>> {
        let Some(bundle) = self.bundle.as_ref().filter(|_| self.carrier == Carrier::Grpc) else { return Ok(None) };
        let identity = match &self.key {
            Some(key) => Identity::read_with_key(bundle, key)?,
            None => Identity::read(bundle)?,
        };
        let is_server = identity.facts().name == "server";
        ensure!(!is_server, "{} is the server's own file: a site needs the one that the operator issued for it", bundle.display());
        Ok(Some(identity))
    }

    /// Whether runs need the administrator's approval.
    pub(super) fn approval(&self) -> Approval {
        self.approval.unwrap_or(match self.carrier {
            Carrier::Grpc if !self.keep_running => Approval::Policy,
            // Others choose the runs.
            Carrier::Grpc | Carrier::Relay => Approval::Administrator,
        })
    }

    /// Makes `folder` that of one run, if the site takes part in one run after another: each has a folder of its own.
    pub(super) fn set_run(&mut self, run: &RunDescription) -> Result<()> {
        if self.keep_running {
            // The operator chooses the name, and may use it again.
            let name = folder_name(&run.name).unwrap_or_else(|_| "run".into());
            self.folder = self.folder.join(format!("{name}-{}", run.id()));
        }
        self.set_relay_run(&run.name)
    }

    /// Makes `folder` that of one run, which a relay has named.
    pub(super) fn set_relay_run(&mut self, name: &str) -> Result<()> {
        if self.carrier == Carrier::Relay {
            self.folder = relay::run_folder(&self.folder, name)?;
        }
        Ok(())
    }

    /// The HTTP proxy on the way to the server.
    fn proxy(&self) -> Proxy {
        match self.proxy.as_deref() {
            None => Proxy::Environment,
            Some("none") => Proxy::Direct,
            Some(url) => Proxy::Url(url.into()),
        }
    }

    /// The site's name: that of its certificate, or that by which the relay knows it.
    pub(super) fn name(&self) -> Result<String> {
        Ok(self.identity()?.map_or_else(relay::site_name, |identity| identity.facts().name.clone()))
    }

    pub(super) fn read(path: &Path) -> Result<Self> {
        let (mut config, at): (Self, _) = read(path)?;
        for place in [&mut config.data, &mut config.folder] {
            *place = at.join(&place);
        }
        if config.carrier == Carrier::Grpc {
            let shown = path.display();
            ensure!(
                !config.server.is_empty(),
                "{shown}: server is missing: the operator names its HOST:PORT; if a relay such as FLARE starts this site, set carrier = \"relay\""
            );
            ensure!(config.bundle.is_some(), "{shown}: bundle is missing: the operator issues it");
        }
        if config.proxy.as_ref().is_some_and(|url| url.contains('@')) {
            let is_private = is_private(path).with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(
                is_private,
                "{} has the password of the proxy, but other users of this machine can read it: run chmod 600 on it",
                path.display()
            );
        }
        ensure!(
            !config.keep_running || config.approval() == Approval::Administrator || config.runs_max.is_some(),
            "{}: with keep_running and approval = \"policy\", set runs_max: how many runs this site may join without being asked. The bounds \
             of the policy hold for each run",
            path.display()
        );
        ensure!(
            !config.keep_running || config.carrier == Carrier::Grpc,
            "{}: keep_running is for a site that connects to the server itself; a relay starts the site for each run",
            path.display()
        );
        config.bundle = config.bundle.map(|bundle| at.join(bundle));
        config.key = config.key.map(|key| at.join(key));
        config.privacy_ledger = config.privacy_ledger.map(|ledger| at.join(ledger));
        config.policy.validate().with_context(|| path.display().to_string())?;
        config.timeouts()?;
        Ok(config)
    }

    /// The file of the steps with differential privacy.
    pub(super) fn privacy_ledger(&self) -> PathBuf {
        self.privacy_ledger.clone().unwrap_or_else(|| self.beside_data("privacy.jsonl"))
    }

    /// A file or folder beside the data, for all runs on them.
    pub(super) fn beside_data(&self, extension: &str) -> PathBuf {
        let name = self.data.file_name().unwrap_or_default().to_string_lossy();
        self.data.with_file_name(format!("{name}.{extension}"))
    }

    /// The connection to the server.
    pub(super) fn grpc_site(&self) -> Result<GrpcSite> {
        let (reconnect_timeout, keep_alive) = self.timeouts()?;
        let identity = self.identity()?.context("the server is behind a relay, and cannot be asked directly")?;
        Ok(GrpcSite::new(self.server.clone(), identity).with(|site| {
            site.reconnect_timeout = reconnect_timeout;
            site.keep_alive = keep_alive;
            site.proxy = self.proxy();
        }))
    }

    /// The connection to the server, which reconnects.
    pub(super) fn link(&self) -> Result<Box<dyn SiteLink>> {
        Ok(match self.carrier {
            Carrier::Grpc => Box::new(self.grpc_site()?.start()?),
            Carrier::Relay => Box::new(relay::site(self.timeouts()?.0)?.start()?),
        })
    }

    fn timeouts(&self) -> Result<(Duration, Duration)> {
        let hours = self.reconnect_timeout_hours.unwrap_or(self.carrier.patience_hours());
        let reconnect_timeout = duration("reconnect_timeout_hours", hours, 3600.0)?;
        Ok((reconnect_timeout, keep_alive(self.keep_alive_seconds)?))
    }
}

fn keep_alive(seconds: f64) -> Result<Duration> {
    Ok(duration("keep_alive_seconds", seconds, 1.0)?.max(Duration::from_millis(100)))
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

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use asyndgan_files::is_private;
use asyndgan_protocol::{RunDescription, SitePolicy};
use asyndgan_transport::{Approval, GrpcSite, Identity, Proxy, SiteLink};
use serde::Deserialize;

use super::{
    config::{Carrier, auto, duration, keep_alive, read, thirty},
    folder::folder_name,
    relay,
};

/// A site's `site.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteConfig {
    /// The file that it was read from.
    #[serde(skip)]
    pub(super) path: PathBuf,
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
        let (mut config, at): (Self, _) = read(path, "asyndgan init site")?;
        config.path = path.into();
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

//! One run of a queue: a folder with its configuration, its states and the number of its rounds.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_files::{Access, Lock, append_private_lines, rename, write};
use asyndgan_paper::{Arm, Step};
use serde::{Deserialize, Serialize};

use crate::{
    consortium::server_config::{ServerConfig, is_dropped},
    files::{free_name, is_in_use, lock_folder},
    progress::{now, unix_ms},
};

/// The lock of a run's folder while it is served.
const SERVING: &str = "serving.lock";

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits for its turn.
    Queued,
    /// It is being served.
    Running,
    /// The operator has paused it; the runs behind it are served.
    Paused,
    /// The operator ends it with the rounds that are done.
    Finishing,
    /// It has ended, and its generator is written.
    Finished,
    /// The operator has ended it without a result.
    Aborted,
    /// An error has ended it; it can be resumed.
    Failed,
}

impl RunState {
    /// What was done to a run in this state: `finished` for one that is to be finished.
    pub(in crate::consortium) fn done(self) -> &'static str {
        if self == Self::Finishing { "finished" } else { self.name() }
    }

    /// The name as the commands print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finishing => "finishing",
            Self::Finished => "finished",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}

/// A change of a run's state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StateChange {
    /// When: milliseconds since the Unix epoch, by the server's clock.
    pub unix_ms: u64,
    /// The state from then on.
    pub state: RunState,
    /// Why; empty if it needs no reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A run of the queue.
#[derive(Debug, Clone)]
pub struct QueuedRun {
    /// The name of its folder.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// All states, the one in force last.
    pub states: Vec<StateChange>,
}

impl QueuedRun {
    /// The change that is in force.
    ///
    /// # Panics
    /// Without any state, which a run of the queue always has.
    pub fn last(&self) -> &StateChange {
        self.states.last().expect("a run has a state")
    }

    /// Held while the run is served.
    ///
    /// # Errors
    /// If another process holds it for all of this time.
    pub(in crate::consortium) fn lock_within(&self, wait: Duration) -> Result<Lock> {
        let began = now();
        loop {
            match lock_folder(&self.folder, SERVING) {
                Err(error) if is_in_use(&error) && began.elapsed() < wait => thread::sleep(Duration::from_millis(100)),
                Err(error) if is_in_use(&error) => bail!("the run {:?} is still being served: try again in a moment", self.name),
                lock => return lock,
            }
        }
    }

    /// Whether a server serves it now.
    pub fn is_served(&self) -> bool {
        Lock::is_held(&self.folder.join(SERVING))
    }

    /// The name in its configuration, and its sites with whether each has been taken out of the run.
    ///
    /// # Errors
    /// If the configuration is not valid.
    pub fn described(&self) -> Result<(String, Vec<(String, bool)>)> {
        let config = ServerConfig::read(&self.config())?;
        let sites = config.sites.iter().enumerate().map(|(site, name)| (name.clone(), is_dropped(&config.amendments, site)));
        Ok((config.name.clone(), sites.collect()))
    }

    /// The generator of a finished run.
    pub fn generator(&self) -> Option<PathBuf> {
        let seed = ServerConfig::read(&self.config()).ok()?.seed;
        let path = Step::folder(&self.folder, Arm::AsynDgan, seed).join("generator.safetensors");
        path.is_file().then_some(path)
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.join("run.toml")
    }
}

/// The progress of a run that is or was served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunProgress {
    /// Rounds done.
    pub rounds_done: u64,
    /// Rounds of the whole run.
    pub rounds: u64,
    /// When the last round was done, since the run was served last: milliseconds since the Unix epoch, by the server's
    /// clock.
    #[serde(default)]
    pub last_round_unix_ms: Option<u64>,
    /// The sites, in the order of the run.
    #[serde(default)]
    pub sites: Vec<SiteProgress>,
}

/// The state of one site in a run that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteProgress {
    /// The name in its certificate.
    pub name: String,
    /// Whether it takes part now.
    pub connected: bool,
    /// Since when the run waits for it, if it does: milliseconds since the Unix epoch, by the server's clock.
    pub awaited_since_unix_ms: Option<u64>,
    /// What happened to it last, or why it does not take part.
    pub note: String,
}

impl RunProgress {
    fn path(folder: &Path) -> PathBuf {
        folder.join("progress.json")
    }

    /// Reads the progress from a run's folder; `None` if the run has not begun.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(folder)).ok()?).ok()
    }

    /// Removes the state of the sites that an earlier server has left: nobody takes part yet.
    pub(in crate::consortium) fn reset(folder: &Path) -> Result<()> {
        let Some(mut progress) = Self::read(folder) else { return Ok(()) };
        progress.last_round_unix_ms = None;
        for site in &mut progress.sites {
            (site.connected, site.awaited_since_unix_ms, site.note) = (false, None, "not connected yet".into());
        }
        progress.write(folder)
    }

    pub(in crate::consortium) fn write(&self, folder: &Path) -> Result<()> {
        let path = Self::path(folder);
        write(&path, Access::Private, &serde_json::to_vec(&self)?).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn states_path(folder: &Path) -> PathBuf {
    folder.join("states.jsonl")
}

pub(in crate::consortium) fn add_state(folder: &Path, state: RunState, reason: &str) -> Result<()> {
    let path = states_path(folder);
    if path.exists() && read_states(folder).is_err() {
        // The run can go on; what happened before is kept for people.
        rename(&path, &free_name(folder, "states", "damaged")?).with_context(|| format!("cannot rename {}", path.display()))?;
    }
    let line = serde_json::to_string(&StateChange { unix_ms: unix_ms(), state, reason: reason.into() })? + "\n";
    let written = append_private_lines(&path).and_then(|mut file| file.write_all(line.as_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Also a folder that this user cannot read: it must not disappear from the list.
pub(super) fn is_run(folder: &Path) -> bool {
    folder.is_dir() && !matches!(folder.join("run.toml").try_exists(), Ok(false))
}

/// A run whose states cannot be read counts as failed: it must not stop the others.
pub(super) fn read_run(folder: PathBuf, name: String) -> QueuedRun {
    let states = read_states(&folder)
        .unwrap_or_else(|error| vec![StateChange { unix_ms: unix_ms(), state: RunState::Failed, reason: format!("{error:#}") }]);
    QueuedRun { name, folder, states }
}

fn read_states(folder: &Path) -> Result<Vec<StateChange>> {
    let path = states_path(folder);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    // A line without its end was being written when the machine failed.
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let state = |(i, line)| serde_json::from_str(line).with_context(|| format!("line {} of {} is damaged", i + 1, path.display()));
    let states: Vec<StateChange> = lines.enumerate().map(state).collect::<Result<_>>()?;
    ensure!(!states.is_empty(), "{} has no state", path.display());
    Ok(states)
}

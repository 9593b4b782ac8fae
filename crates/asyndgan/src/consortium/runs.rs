//! The runs of a server that serves one after another: a folder each, with its configuration and its states.

use std::{
    fs::{self, File, TryLockError},
    io::Write as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_files::{Access, append_private, append_private_lines, create_private_folder, rename, write};
use asyndgan_transport::Authority;
use serde::{Deserialize, Serialize};

use super::{
    config::Carrier,
    folder::folder_name,
    server_config::{RunsConfig, ServerConfig},
};
use crate::progress::now;

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
    /// If it is being served.
    pub(super) fn lock(&self) -> Result<File> {
        self.lock_within(Duration::ZERO)
    }

    /// As [`QueuedRun::lock`], for a run that will not be served for long.
    pub(super) fn lock_within(&self, wait: Duration) -> Result<File> {
        let path = self.folder.join("serving.lock");
        let lock = append_private(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let began = now();
        loop {
            match lock.try_lock() {
                Err(TryLockError::WouldBlock) if began.elapsed() < wait => thread::sleep(Duration::from_millis(100)),
                locked => break locked.with_context(|| format!("the run {:?} is still being served: try again in a moment", self.name))?,
            }
        }
        Ok(lock)
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.join("run.toml")
    }
}

/// The rounds of a run that is or was served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundCount {
    /// Rounds done.
    pub rounds_done: u64,
    /// Rounds of the whole run.
    pub rounds: u64,
    /// The sites that it has waited for, for a while.
    #[serde(default)]
    pub waits_for: Vec<String>,
}

impl RoundCount {
    fn path(folder: &Path) -> PathBuf {
        folder.join("progress.json")
    }

    /// Reads the count from a run's folder; `None` if the run has not begun.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(folder)).ok()?).ok()
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let path = Self::path(folder);
        write(&path, Access::Private, &serde_json::to_vec(&self)?).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The folder of all runs.
#[derive(Debug)]
pub struct Runs {
    config: RunsConfig,
}

impl Runs {
    /// Opens the folder that a `runs.toml` names, and creates it if necessary.
    ///
    /// # Errors
    /// If the configuration is not valid, or the folder cannot be created.
    pub fn open(config: &Path) -> Result<Self> {
        Self::with_config(RunsConfig::read(config)?)
    }

    pub(super) fn with_config(config: RunsConfig) -> Result<Self> {
        create_private_folder(&config.folder).with_context(|| format!("cannot create {}", config.folder.display()))?;
        Ok(Self { config })
    }

    /// Held while a state is read and changed.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.config.folder.join("queue.lock");
        let lock = append_private(&path).with_context(|| format!("cannot write {}", path.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(lock)
    }

    /// Adds the run of a `run.toml` to the queue, and returns its name. The configuration and its task file are copied.
    /// The server uses its own keys, address and dashboard.
    ///
    /// # Errors
    /// If the configuration is not valid, or there is a run of this name.
    pub fn submit(&self, path: &Path) -> Result<String> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        let mut table: toml::Table = toml::from_str(&text).with_context(|| shown.to_string())?;
        let name = table.get("name").and_then(toml::Value::as_str).with_context(|| format!("{shown}: name is missing"))?;
        let name = folder_name(name).with_context(|| shown.to_string())?;
        let folder = self.config.folder.join(&name);
        let keys = std::path::absolute(&self.config.keys).with_context(|| self.config.keys.display().to_string())?;
        let mut set = |key: &str, value: toml::Value| drop(table.insert(key.into(), value));
        let absolute = std::path::absolute(&folder).with_context(|| folder.display().to_string())?;
        set("folder", absolute.display().to_string().into());
        set("keys", keys.display().to_string().into());
        let task_key = if table.contains_key("images") { "images" } else { "task" };
        let task = table.get(task_key).and_then(toml::Value::as_str).unwrap_or_default();
        let task_file = (!matches!(task, "brain" | "tissue" | "")).then(|| path.parent().unwrap_or(Path::new("")).join(task));
        if task_file.is_some() {
            table.insert(task_key.into(), "task.toml".into());
        }

        let _lock = self.lock()?;
        ensure!(
            !folder.try_exists().with_context(|| folder.display().to_string())?,
            "there is a run {name:?} already: choose another name in {shown}"
        );
        // Complete before it has its name.
        let partial = self.config.folder.join(format!(".partial-{name}"));
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        }
        let filled = fill(&partial, &table, task_file.as_deref()).with_context(|| shown.to_string());
        if let Err(error) = filled {
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
        rename(&partial, &folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(name)
    }

    /// All runs, in the order in which they were submitted.
    ///
    /// # Errors
    /// If a folder or a file cannot be read.
    pub fn list(&self) -> Result<Vec<QueuedRun>> {
        let folder = &self.config.folder;
        let mut runs = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && is_run(&entry.path()) {
                runs.push(read_run(entry.path(), name));
            }
        }
        runs.sort_by(|a, b| (a.states[0].unix_ms, &a.name).cmp(&(b.states[0].unix_ms, &b.name)));
        Ok(runs)
    }

    /// One run.
    ///
    /// # Errors
    /// If there is no run of this name.
    pub fn get(&self, name: &str) -> Result<QueuedRun> {
        let folder = self.config.folder.join(folder_name(name)?);
        ensure!(is_run(&folder), "there is no run {name:?} in {}: see asyndgan run list", self.config.folder.display());
        Ok(read_run(folder, name.into()))
    }

    /// The sites of a run for which the authority has issued no valid certificate, if its folder is here.
    ///
    /// # Errors
    /// If the configuration of the run cannot be read.
    pub fn sites_without_certificate(&self, name: &str) -> Result<Vec<String>> {
        let sites = ServerConfig::read(&self.get(name)?.config())?.sites;
        // The authority may be on another machine.
        let Ok(issued) = Authority::valid_sites(&self.config.keys) else { return Ok(Vec::new()) };
        Ok(sites.into_iter().filter(|site| !issued.contains(site)).collect())
    }

    /// Changes the state of a run, with a reason for the record. Returns the state before.
    ///
    /// # Errors
    /// If the run is not in one of the states `from`, or the change cannot be written.
    pub fn change(&self, name: &str, from: &[RunState], to: RunState, reason: &str) -> Result<RunState> {
        let _lock = self.lock()?;
        let run = self.get(name)?;
        let before = run.last().state;
        if !from.contains(&before) {
            let allowed: Vec<&str> = from.iter().map(|state| state.name()).collect();
            bail!("the run {name:?} is {}; only a run that is {} can become {}", before.name(), allowed.join(" or "), to.name());
        }
        add_state(&run.folder, to, reason)?;
        Ok(before)
    }

    /// Sets the state of a run that was served.
    pub(super) fn set(&self, name: &str, state: RunState, reason: &str) -> Result<()> {
        let _lock = self.lock()?;
        add_state(&self.get(name)?.folder, state, reason)
    }

    /// The run to serve next: one that was being served, or else the first of the queue.
    ///
    /// # Errors
    /// If the runs cannot be read.
    pub(super) fn next(&self) -> Result<Option<QueuedRun>> {
        let runs = self.list()?;
        let is = |run: &&QueuedRun, states: &[RunState]| states.contains(&run.last().state);
        let begun = runs.iter().find(|run| is(run, &[RunState::Running, RunState::Finishing]));
        Ok(begun.or_else(|| runs.iter().find(|run| is(run, &[RunState::Queued]))).cloned())
    }
}

/// Writes the files of a new run, and checks its configuration.
fn fill(folder: &Path, table: &toml::Table, task_file: Option<&Path>) -> Result<()> {
    create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if let Some(task) = task_file {
        let text = fs::read(task).with_context(|| format!("cannot read {}", task.display()))?;
        write(&folder.join("task.toml"), Access::Private, &text)?;
    }
    let config = folder.join("run.toml");
    write(&config, Access::Private, toml::to_string(table)?.as_bytes())?;
    let config = ServerConfig::read(&config)?;
    ensure!(config.carrier == Carrier::Grpc, "carrier = \"relay\" is for a run that a relay starts, not for a queue");
    config.description()?;
    config.identity()?;
    add_state(folder, RunState::Queued, "")
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64)
}

fn states_path(folder: &Path) -> PathBuf {
    folder.join("states.jsonl")
}

pub(super) fn add_state(folder: &Path, state: RunState, reason: &str) -> Result<()> {
    let path = states_path(folder);
    if path.exists() && read_states(folder).is_err() {
        // The run can go on; what happened before is kept for people.
        rename(&path, &folder.join("states.damaged")).with_context(|| format!("cannot rename {}", path.display()))?;
    }
    let line = serde_json::to_string(&StateChange { unix_ms: unix_ms(), state, reason: reason.into() })? + "\n";
    let written = append_private_lines(&path).and_then(|mut file| file.write_all(line.as_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn is_run(folder: &Path) -> bool {
    folder.join("run.toml").exists()
}

/// A run whose states cannot be read counts as failed: it must not stop the others.
fn read_run(folder: PathBuf, name: String) -> QueuedRun {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn runs() -> (tempfile::TempDir, Runs) {
        let place = tempfile::tempdir().expect("a folder");
        let keys = place.path().join("keys");
        asyndgan_transport::Authority::init(&keys, &["localhost".to_owned()], 30).expect("keys");
        fs::write(place.path().join("runs.toml"), "folder = \"runs\"\nkeys = \"keys\"\nlisten = \"127.0.0.1:0\"\n").expect("written");
        let runs = Runs::open(&place.path().join("runs.toml")).expect("opens");
        (place, runs)
    }

    fn submit(place: &Path, runs: &Runs, name: &str) -> Result<String> {
        let path = place.join("run.toml");
        let text = format!("name = \"{name}\"\nsites = [\"north\"]\ntask = \"tissue\"\nprofile = \"smoke\"\nfolder = \"elsewhere\"\n");
        fs::write(&path, text).expect("written");
        runs.submit(&path)
    }

    #[test]
    fn runs_are_served_in_the_order_of_submission() {
        let (place, runs) = runs();
        assert_eq!(submit(place.path(), &runs, "our second run").expect("queued"), "our-second-run");
        std::thread::sleep(std::time::Duration::from_millis(2));
        submit(place.path(), &runs, "a").expect("queued");
        let next = || runs.next().expect("read").map(|run| run.name);
        assert_eq!(next().as_deref(), Some("our-second-run"));
        runs.change("our-second-run", &[RunState::Queued], RunState::Paused, "maintenance").expect("paused");
        assert_eq!(next().as_deref(), Some("a"));
        runs.change("a", &[RunState::Queued], RunState::Running, "").expect("served");
        runs.change("our-second-run", &[RunState::Paused], RunState::Queued, "").expect("resumed");
        assert_eq!(next().as_deref(), Some("a"), "the one that was being served comes first");
        runs.change("a", &[RunState::Running], RunState::Finished, "").expect("finished");
        assert_eq!(next().as_deref(), Some("our-second-run"));
        let states = runs.get("our-second-run").expect("there").states;
        assert_eq!(states.iter().map(|s| s.reason.as_str()).collect::<Vec<_>>(), ["", "maintenance", ""]);
    }

    #[test]
    fn invalid_requests_change_nothing() {
        let (place, runs) = runs();
        submit(place.path(), &runs, "a").expect("queued");
        let error = submit(place.path(), &runs, "a").expect_err("twice").to_string();
        assert!(error.contains("already"), "{error}");
        let error = runs.change("a", &[RunState::Paused], RunState::Queued, "").expect_err("not paused").to_string();
        assert!(error.contains("is queued") && error.contains("paused"), "{error}");
        assert!(runs.change("b", &[RunState::Queued], RunState::Aborted, "").is_err());
        assert!(runs.get("../runs/a").is_err());
        fs::write(place.path().join("run.toml"), "name = \"c\"\nsites = []\ntask = \"tissue\"\nfolder = \".\"\n").expect("written");
        assert!(runs.submit(&place.path().join("run.toml")).is_err());
        assert_eq!(runs.list().expect("read").len(), 1);
        assert_eq!(fs::read_dir(place.path().join("runs")).expect("read").count(), 2, "the run and the lock");
    }

    #[test]
    fn a_line_that_was_being_written_does_not_count() {
        let (place, runs) = runs();
        submit(place.path(), &runs, "a").expect("queued");
        let mut file = append_private(&place.path().join("runs/a/states.jsonl")).expect("opens");
        file.write_all(b"{\"unix_ms\":1,\"sta").expect("written");
        assert_eq!(runs.get("a").expect("there").last().state, RunState::Queued);
        runs.change("a", &[RunState::Queued], RunState::Paused, "").expect("the next line is complete");
        assert_eq!(runs.get("a").expect("there").last().state, RunState::Paused);
    }

    #[test]
    fn a_damaged_run_does_not_stop_the_others() {
        let (place, runs) = runs();
        submit(place.path(), &runs, "a").expect("queued");
        submit(place.path(), &runs, "b").expect("queued");
        fs::write(place.path().join("runs/a/states.jsonl"), "???\n").expect("written");
        assert_eq!(runs.next().expect("read").map(|run| run.name).as_deref(), Some("b"));
        let damaged = runs.get("a").expect("there");
        assert!(damaged.last().state == RunState::Failed && damaged.last().reason.contains("line 1"), "{damaged:?}");
        runs.change("a", &[RunState::Failed], RunState::Queued, "").expect("it can be resumed");
        assert_eq!(runs.get("a").expect("there").last().state, RunState::Queued);
        assert!(place.path().join("runs/a/states.damaged").exists());
        fs::remove_file(place.path().join("runs/a/states.jsonl")).expect("removed");
        assert_eq!(runs.get("a").expect("there").last().state, RunState::Failed);
    }
}

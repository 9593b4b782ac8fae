//! The runs of a server that serves one after another: a folder each, with its configuration and its states.

mod queued_run;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_files::{Access, Lock, create_private_folder, rename, write};
use asyndgan_paper::{Arm, Step};
use asyndgan_protocol::RunDescription;
use asyndgan_transport::{EndedRuns, RunEnd};
use serde::{Deserialize, Serialize};

pub(super) use queued_run::add_state;
pub use queued_run::{QueuedRun, RunProgress, RunState, SiteProgress, StateChange};
use queued_run::{is_run, read_run};

use crate::files::{read_json, write_json};

use super::{
    config::Carrier,
    folder::{LOCK, check_owner, folder_name},
    server_config::{RunsConfig, ServerConfig},
};

/// What the operator can ask for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunAction {
    /// Stop serving it until it is resumed.
    Pause,
    /// Put it back into the queue.
    Resume,
    /// End it with the rounds that are done.
    Finish,
    /// End it without a result.
    Abort,
}

impl RunAction {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pause, Self::Resume, Self::Finish, Self::Abort];

    /// The states of a run in which it is possible.
    pub fn from(self) -> &'static [RunState] {
        use RunState::{Failed, Finishing, Paused, Queued, Running};
        match self {
            Self::Pause => &[Queued, Running, Finishing],
            Self::Resume => &[Paused, Failed],
            Self::Finish => &[Running, Paused, Failed],
            Self::Abort => &[Queued, Running, Paused, Finishing, Failed],
        }
    }

    /// The state that a run has then.
    pub fn to(self) -> RunState {
        match self {
            Self::Pause => RunState::Paused,
            Self::Resume => RunState::Queued,
            Self::Finish => RunState::Finishing,
            Self::Abort => RunState::Aborted,
        }
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
        check_owner(&config.folder)?;
        create_private_folder(&config.folder).with_context(|| format!("cannot create {}", config.folder.display()))?;
        Ok(Self { config })
    }

    /// Held while a state is read and changed.
    pub(super) fn lock(&self) -> Result<Lock> {
        let path = self.config.folder.join("queue.lock");
        Lock::wait_exclusive(&path).with_context(|| format!("cannot lock {}", path.display()))
    }

    /// Adds the run of a `run.toml` to the queue, and returns its name. The configuration and its task file are copied.
    /// The server uses its own keys, address and dashboard.
    ///
    /// # Errors
    /// If the configuration is not valid, or there is a run of this name.
    pub fn submit(&self, path: &Path) -> Result<String> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        // The copy that is checked below has other lines.
        toml::from_str::<ServerConfig>(&text).with_context(|| shown.to_string())?;
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
            if folder_name(&name).is_ok_and(|valid| valid == name) && is_run(&entry.path()) {
                runs.push(read_run(entry.path(), name));
            }
        }
        runs.sort_by(|a, b| (a.states[0].unix_ms, &a.name).cmp(&(b.states[0].unix_ms, &b.name)));
        Ok(runs)
    }

    /// Whether a server serves this queue now.
    pub fn is_served(&self) -> bool {
        Lock::is_held(&self.config.folder.join(LOCK))
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
        let config = ServerConfig::read(&self.get(name)?.config())?;
        Ok(config.sites_without_certificate(&self.config.keys).into_iter().map(str::to_owned).collect())
    }

    /// Carries out a request of the operator, with a reason for the record. Returns the state before.
    ///
    /// # Errors
    /// If the state of the run does not allow it, or the change cannot be written.
    pub fn act(&self, name: &str, action: RunAction, reason: &str) -> Result<RunState> {
        if action == RunAction::Finish {
            let has_rounds = RunProgress::read(&self.get(name)?.folder).is_some_and(|progress| progress.rounds_done > 0);
            ensure!(has_rounds, "no round of this run is done, so it has no result: abort it instead");
        }
        self.change(name, action.from(), action.to(), reason)
    }

    /// Changes the state of a run that is in one of the states `from`. Returns the state before.
    pub(super) fn change(&self, name: &str, from: &[RunState], to: RunState, reason: &str) -> Result<RunState> {
        let _lock = self.lock()?;
        let run = self.get(name)?;
        let before = run.last().state;
        if !from.contains(&before) {
            let names: Vec<&str> = from.iter().map(|state| state.name()).collect();
            let allowed = match names.split_last() {
                Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
                _ => names.concat(),
            };
            let done = if to == RunState::Queued { "resumed" } else { to.done() };
            bail!("the run {name:?} is {}: only a run that is {allowed} can be {done}", before.name());
        }
        add_state(&run.folder, to, reason)?;
        Ok(before)
    }

    /// Deletes the checkpoints of aborted runs, which have the masks of the sites. No run is served meanwhile.
    pub(super) fn delete_aborted(&self) {
        let delete = || -> Result<()> {
            for run in self.list()?.iter().filter(|run| run.last().state == RunState::Aborted) {
                let Ok(config) = ServerConfig::read(&run.config()) else { continue };
                let place = Step::folder(&run.folder, Arm::AsynDgan, config.seed);
                let checkpoints = place.join("checkpoints");
                for file in ["conditions.safetensors", "generator.safetensors"].map(|name| place.join(name)) {
                    if file.exists() {
                        fs::remove_file(&file).with_context(|| format!("cannot delete {}", file.display()))?;
                    }
                }
                if checkpoints.exists() {
                    fs::remove_dir_all(&checkpoints).with_context(|| format!("cannot delete {}", checkpoints.display()))?;
                    tracing::info!("the checkpoints and the masks of the aborted run {:?} are deleted", run.name);
                }
            }
            Ok(())
        };
        if let Err(error) = delete() {
            tracing::warn!("{error:#}");
        }
    }

    /// Updates the list of runs that have ended, of those that sites have seen.
    pub(super) fn update_ended(&self, list: &EndedRuns) {
        let read = || -> Result<BTreeMap<[u8; 32], RunEnd>> {
            let (mut ended, mut others) = (BTreeMap::new(), Vec::new());
            for run in self.list()? {
                // A run of an earlier version that was never served has none.
                let Ok(description) = read_json::<RunDescription>(&run.folder.join("description.json")) else { continue };
                match run.last().state {
                    RunState::Finished => drop(ended.insert(description.sha256(), RunEnd::Finished)),
                    RunState::Aborted => drop(ended.insert(description.sha256(), RunEnd::Aborted)),
                    _ => others.push(description.sha256()),
                }
            }
            // The same run was submitted again.
            for hash in others {
                ended.remove(&hash);
            }
            Ok(ended)
        };
        match read() {
            Ok(ended) => list.set(ended),
            Err(error) => tracing::warn!("cannot list the runs that have ended: {error:#}"),
        }
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
    config.identity()?;
    // Hospitals can approve it ahead.
    write_json(&folder.join("description.json"), &config.description()?)?;
    add_state(folder, RunState::Queued, "")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

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
    fn an_action_is_possible_in_its_states_only() {
        for action in RunAction::ALL {
            assert!(!action.from().contains(&action.to()), "{action:?}");
            assert!(!action.from().iter().any(|state| matches!(state, RunState::Finished | RunState::Aborted)), "{action:?}");
        }
        let (place, runs) = runs();
        submit(place.path(), &runs, "a").expect("queued");
        let error = runs.act("a", RunAction::Finish, "").expect_err("no round").to_string();
        assert!(error.contains("abort it instead"), "{error}");
        runs.act("a", RunAction::Pause, "why").expect("paused");
        assert!(runs.act("a", RunAction::Pause, "").is_err());
        assert_eq!(runs.act("a", RunAction::Abort, "").expect("aborted"), RunState::Paused);
        assert_eq!(runs.get("a").expect("there").states[1].reason, "why");
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
        let mut file = asyndgan_files::append_private(&place.path().join("runs/a/states.jsonl")).expect("opens");
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

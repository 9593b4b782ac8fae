//! A server that serves one run after another.

use std::{
    net::TcpListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use asyndgan_transport::{Control, EndedRuns, GrpcServer, Identity, Outcome};

use super::{
    dashboard::{Dashboard, Page},
    events::{Events, Kind},
    folder::lock,
    notify,
    runs::{QueuedRun, RunState, Runs, StateChange},
    server::serve_run,
    server_config::{RunsConfig, ServerConfig},
};
use crate::progress::now;

/// How often the server looks for requests of the operator.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// How often the list of runs that have ended is updated while a run is served.
const ENDED_EVERY: Duration = Duration::from_secs(10);

/// The delay before the server tries again after an error.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// Serves the runs of a `runs.toml`, one after another, until it is asked to stop.
///
/// # Errors
/// If the configuration is not valid, or another server uses the folder. The error of a run ends that run alone.
pub fn serve_runs(config: &Path, control: &Control) -> Result<()> {
    let config = RunsConfig::read(config)?;
    // Before anything is claimed.
    config.identity()?;
    let runs = Arc::new(Runs::with_config(config.clone())?);
    let _lock = lock(&config.folder)?;
    notify::watchdog(control);
    let mut page = None;
    if let Some(address) = config.dashboard {
        let identity = config.identity()?;
        let (first, runs) = (Dashboard::idle(&config.folder, &identity), Some(Arc::clone(&runs)));
        let (served, url) = Page::serve(first, address, &config.folder, Some(&identity), runs)?;
        tracing::info!("dashboard: {url}");
        page = Some(served);
    }
    let ended = EndedRuns::default();
    while !control.is_stopping() {
        runs.update_ended(&ended);
        runs.delete_aborted();
        let turn = runs.next().and_then(|next| match next {
            Some(run) => serve_one(&config, (&runs, &ended), &run, control, &mut page),
            None => wait_for_run(&config, (&runs, &ended), control, page.as_ref()),
        });
        if let Err(error) = turn {
            // The disk may be full for a moment, or the operator was quicker.
            tracing::warn!("{error:#}; trying again");
            thread::sleep(AFTER_ERROR);
        }
    }
    tracing::info!("stopped; the next start resumes");
    Ok(())
}

/// Serves one run until it ends, or is to be served no longer, and records that.
fn serve_one(
    config: &RunsConfig,
    (runs, ended): (&Runs, &EndedRuns),
    run: &QueuedRun,
    control: &Control,
    page: &mut Option<Page>,
) -> Result<()> {
    let name = &run.name;
    // Commands that look whether it is served hold the lock for a moment.
    let _serving = run.lock_within(Duration::from_secs(1))?;
    // Faults of this machine are not the run's.
    config.identity()?;
    TcpListener::bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    if run.last().state == RunState::Queued {
        runs.change(name, &[RunState::Queued], RunState::Running, "")?;
    }
    tracing::info!("serving the run {name:?}");
    let (inner, is_over) = (control.child(), AtomicBool::new(false));
    if run.last().state == RunState::Finishing {
        inner.finish();
    }
    let outcome = thread::scope(|scope| {
        scope.spawn(|| watch((runs, ended), name, &inner, &is_over));
        let _over = Over(&is_over);
        configured(config, ended, run).and_then(|run| serve_run(&run, &config.folder, &inner, page))
    });
    match outcome {
        Ok(Outcome::Finished) => {
            // Unless the operator has aborted it meanwhile.
            if SERVED.contains(&runs.get(name)?.last().state) {
                runs.change(name, &SERVED, RunState::Finished, "")?;
                tracing::info!("the run {name:?} is finished");
            }
        }
        Ok(Outcome::Stopped) => {
            // A server that stops resumes the run at its next start.
            let stopped = runs.get(name)?;
            if let StateChange { state, reason, .. } = stopped.last()
                && !SERVED.contains(state)
            {
                let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                let fact =
                    format!("the operator has {} the run{reason}", if *state == RunState::Queued { "resumed" } else { state.name() });
                tracing::info!("{name}: {fact}");
                Events::open(&run.folder)?.note(Kind::Stopped, &fact);
            }
        }
        Err(error) => {
            tracing::error!("the run {name:?} has failed: {error:#}");
            // Unless the operator has decided otherwise meanwhile.
            if SERVED.contains(&runs.get(name)?.last().state) {
                runs.change(name, &SERVED, RunState::Failed, &format!("{error:#}"))?;
            }
        }
    }
    Ok(())
}

/// The configuration of a run, with the keys and addresses of this server.
fn configured(config: &RunsConfig, ended: &EndedRuns, run: &QueuedRun) -> Result<ServerConfig> {
    let mut of_run = ServerConfig::read(&run.config())?;
    (of_run.keys, of_run.listen, of_run.dashboard) = (Some(config.keys.clone()), config.listen, config.dashboard);
    of_run.ended = ended.clone();
    Ok(of_run)
}

/// The states in which a run is served.
const SERVED: [RunState; 2] = [RunState::Running, RunState::Finishing];

/// Ends [`watch`], also if the server of the run panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Passes the operator's requests on to the server of a run, and updates the list of the other runs that have ended.
fn watch((runs, ended): (&Runs, &EndedRuns), name: &str, control: &Control, is_over: &AtomicBool) {
    let (mut is_unreadable, mut updated) = (false, now());
    while !is_over.load(Relaxed) {
        if updated.elapsed() > ENDED_EVERY {
            runs.update_ended(ended);
            updated = now();
        }
        match runs.get(name).map(|run| run.last().state) {
            Ok(RunState::Running) => is_unreadable = false,
            Ok(RunState::Finishing) => control.finish(),
            // Also one that was paused and resumed meanwhile: it may have been changed.
            Ok(_) => control.stop(),
            Err(error) if !is_unreadable => {
                is_unreadable = true;
                tracing::warn!("cannot read the state of the run {name:?}: {error:#}");
            }
            Err(_) => {}
        }
        thread::sleep(POLL_EVERY);
    }
}

/// Answers sites with the reason why there is no run, until there is one.
fn wait_for_run(config: &RunsConfig, (runs, ended): (&Runs, &EndedRuns), control: &Control, page: Option<&Page>) -> Result<()> {
    let paused = || -> Result<Vec<String>> {
        let runs = runs.list()?.into_iter().filter(|run| run.last().state == RunState::Paused);
        Ok(runs.map(|run| run.name).collect())
    };
    let reason_of = |paused: &[String]| match paused {
        [] => "no run is queued".to_owned(),
        names => format!("no run is queued; paused: {}", names.join(", ")),
    };
    let names = paused()?;
    let reason = reason_of(&names);
    let listener = GrpcServer::without_run(config.listen, config.identity()?, config.keys.join("revoked.pem"), &reason);
    let link = listener.with(|server| server.ended = ended.clone()).start(|fact| tracing::warn!("{fact}"))?;
    let shown = advice(&runs.list()?);
    if let Some(page) = page {
        page.waits(&shown, link.revocation_status());
    }
    tracing::info!("listening on {}: {reason}; add one with asyndgan run submit", link.address());
    notify::ready();
    while !control.is_stopping() && runs.next()?.is_none() && paused()? == names && advice(&runs.list()?) == shown {
        thread::sleep(POLL_EVERY);
    }
    Ok(())
}

/// What the operator can do while no run is served.
fn advice(runs: &[QueuedRun]) -> String {
    let resumable = runs.iter().filter(|run| matches!(run.last().state, RunState::Paused | RunState::Failed));
    let each = resumable.map(|run| format!("{}: {} (asyndgan run resume {})", run.last().state.name(), run.name, run.name));
    each.chain(["no run is queued: add a run with asyndgan run submit".to_owned()]).collect::<Vec<_>>().join("; ")
}

impl RunsConfig {
    fn identity(&self) -> Result<Identity> {
        Ok(Identity::read(&self.keys.join("server.pem"))?)
    }
}

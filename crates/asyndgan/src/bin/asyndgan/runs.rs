//! `asyndgan run`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Result;
use asyndgan::consortium::{Amendment, QueuedRun, RunAction, RunProgress, RunState, Runs, SiteProgress, serve_runs, show_events};
use asyndgan::progress::unix_ms;
use clap::{Args, Subcommand};

use crate::{
    stdout::{print, print_note, print_while_read},
    stop,
};

pub(crate) const EXAMPLES: &str = "Examples:
  asyndgan init runs && asyndgan run serve --config runs.toml
  asyndgan run submit run.toml                     add a run to the queue
  asyndgan run list
  asyndgan run pause pilot --reason \"new network cards\"
  asyndgan run resume pilot
  asyndgan run amend pilot --replace north=west --reason \"north has left\"
  asyndgan run logs pilot --follow

The sites need no new configuration for the next run: with keep_running = true in site.toml they wait for it.";

/// A site that takes part is listed as awaited after this time: every round waits for its sites.
const AWAITED_AFTER_MS: u64 = 10_000;
/// How often `logs --follow` looks for new events.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct At {
    /// The configuration of the server; `asyndgan init runs` writes one.
    #[arg(long, default_value = "runs.toml")]
    config: PathBuf,
}

#[derive(Args)]
pub(crate) struct Named {
    /// The run, as `asyndgan run list` names it.
    name: String,
    #[command(flatten)]
    at: At,
}

#[derive(Args)]
pub(crate) struct Reasoned {
    #[command(flatten)]
    run: Named,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Subcommand)]
pub(crate) enum RunCommand {
    /// Serve the runs of the queue, one after another, and wait for more.
    Serve(At),
    /// Add a run to the queue.
    Submit {
        /// The run's configuration; `asyndgan init server` writes one.
        run: PathBuf,
        #[command(flatten)]
        at: At,
    },
    /// List all runs with their states and rounds.
    List(At),
    /// Show a run: its folder, its sites, the generator when it is finished, and all states with their reasons.
    Show(Named),
    /// Print what happened in a run: sites that joined and left, refused connections, starts and stops.
    Logs {
        #[command(flatten)]
        run: Named,
        /// Wait for new events.
        #[arg(long)]
        follow: bool,
    },
    /// Stop serving a run until it is resumed from its last checkpoint. The server continues with the next run.
    Pause(Reasoned),
    /// Put a paused or failed run back into the queue.
    Resume(Reasoned),
    /// Change a run that is paused: its sites, or a limit or timeout of the server. Finished rounds stay.
    Amend {
        #[command(flatten)]
        run: Reasoned,
        /// Give the place of a site to another one. Both names can be the same, for a site with other data.
        #[arg(long, value_name = "SITE=SITE", value_parser = replacement)]
        replace: Vec<Amendment>,
        /// Continue without a site, and delete its masks.
        #[arg(long, value_name = "SITE", value_parser = dropped)]
        drop: Vec<Amendment>,
        /// Change a limit or timeout of the server, such as `response_timeout_minutes=30`.
        #[arg(long, value_name = "NAME=VALUE", value_parser = limit)]
        limit: Vec<Amendment>,
    },
    /// End a run without a result.
    Abort(Reasoned),
    /// End a run with the rounds that are done, and write its generator.
    Finish(Reasoned),
}

pub(crate) fn run(command: RunCommand) -> Result<()> {
    match command {
        RunCommand::Serve(at) => serve_runs(&at.config, &stop::on_signal()?),
        RunCommand::Submit { run, at } => {
            let runs = Runs::open(&at.config)?;
            let name = runs.submit(&run)?;
            print_note(&format!("queued as {name}, in {}", runs.get(&name)?.folder.display()));
            warn_of_certificates(&runs, &name)
        }
        RunCommand::List(at) => print(&table(&Runs::open(&at.config)?)?),
        RunCommand::Show(run) => print(&shown(&run.runs()?, &run.open()?)?),
        RunCommand::Logs { run, follow } => logs(&run.open()?.folder, follow),
        RunCommand::Pause(run) => run.act(RunAction::Pause),
        RunCommand::Resume(run) => run.act(RunAction::Resume),
        RunCommand::Amend { run, replace, drop, limit } => {
            let amendments = [replace, drop, limit].concat();
            let (runs, name) = (run.run.runs()?, &run.run.name);
            runs.amend(name, &amendments, &run.reason)?;
            print_note(&format!("{name}: changed; it takes effect when the run is served again"));
            warn_of_certificates(&runs, name)
        }
        RunCommand::Abort(run) => run.act(RunAction::Abort),
        RunCommand::Finish(run) => run.act(RunAction::Finish),
    }
}

fn replacement(text: &str) -> Result<Amendment, String> {
    let (site, by) = text.split_once('=').ok_or("use SITE=SITE")?;
    Ok(Amendment::Replace { site: site.into(), by: by.into() })
}

#[allow(clippy::unnecessary_wraps, reason = "a parser of clap")]
fn dropped(site: &str) -> Result<Amendment, String> {
    Ok(Amendment::Drop { site: site.into() })
}

fn limit(text: &str) -> Result<Amendment, String> {
    let (key, value) = text.split_once('=').ok_or("use NAME=VALUE")?;
    Ok(Amendment::Set { key: key.into(), value: value.into() })
}

impl Named {
    fn runs(&self) -> Result<Runs> {
        Runs::open(&self.at.config)
    }

    fn open(&self) -> Result<QueuedRun> {
        self.runs()?.get(&self.name)
    }
}

impl Reasoned {
    fn act(&self, action: RunAction) -> Result<()> {
        let name = &self.run.name;
        let before = self.run.runs()?.act(name, action, &self.reason)?;
        print_note(&format!("{name}: {}, was {}", action.to().name(), before.name()));
        Ok(())
    }
}

/// Names the sites that cannot join.
fn warn_of_certificates(runs: &Runs, name: &str) -> Result<()> {
    for site in runs.sites_without_certificate(name)? {
        print_note(&format!("warning: {site} has no valid certificate, so it cannot join: asyndgan keys sign, or keys issue"));
    }
    Ok(())
}

fn rounds(progress: Option<&RunProgress>) -> String {
    progress.map_or_else(|| "-".into(), |progress| format!("{} of {}", progress.rounds_done, progress.rounds))
}

/// The queue as a whole, for the notes of its runs.
struct Queue {
    is_served: bool,
    /// The run that is being served.
    first: Option<String>,
}

impl Queue {
    fn of(runs: &Runs, all: &[QueuedRun]) -> Self {
        let first = all.iter().find(|run| is_running(run)).map(|run| run.name.clone());
        Self { is_served: runs.is_served(), first }
    }
}

fn is_running(run: &QueuedRun) -> bool {
    matches!(run.last().state, RunState::Running | RunState::Finishing)
}

/// Why a run is in its state, or what it waits for.
fn note(run: &QueuedRun, queue: &Queue, progress: Option<&RunProgress>) -> String {
    let is_queued = run.last().state == RunState::Queued;
    if !is_running(run) && !is_queued {
        return short(&run.last().reason);
    }
    if !queue.is_served {
        return "no server serves the queue now: asyndgan run serve".into();
    }
    if is_queued {
        return queue.first.as_ref().map_or_else(String::new, |first| format!("waits until {first} has ended or is paused"));
    }
    let waits_for = progress.map(waits_for).unwrap_or_default();
    if waits_for.is_empty() { String::new() } else { format!("waits for {}", waits_for.join(", ")) }
}

/// The first line of a text, which an error or a site can make long.
fn short(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(100).collect()
}

/// The sites that a run waits for and that are not connected, or have not answered for a while.
fn waits_for(progress: &RunProgress) -> Vec<String> {
    let awaited = |site: &SiteProgress| {
        let since = site.awaited_since_unix_ms?;
        match site.connected {
            true if unix_ms().saturating_sub(since) < AWAITED_AFTER_MS => None,
            true => Some(format!("{} for {}", site.name, age(since))),
            false => Some(format!("{} for {} ({})", site.name, age(since), short(&site.note))),
        }
    };
    progress.sites.iter().filter_map(awaited).collect()
}

fn age(since_unix_ms: u64) -> String {
    match unix_ms().saturating_sub(since_unix_ms) / 1000 {
        s @ 0..90 => format!("{s} s"),
        s @ 90..5_400 => format!("{} min", s / 60),
        s @ 5_400..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

fn table(runs: &Runs) -> Result<String> {
    let all = runs.list()?;
    let queue = Queue::of(runs, &all);
    let mut text = format!("{:24} {:10} {:>8} {:>18}  {}\n", "run", "state", "for", "rounds", "note");
    for run in &all {
        let last = run.last();
        let progress = RunProgress::read(&run.folder);
        let (state, rounds, note) = (last.state.name(), rounds(progress.as_ref()), note(run, &queue, progress.as_ref()));
        writeln!(text, "{:24} {state:10} {:>8} {rounds:>18}  {note}", run.name, age(last.unix_ms))?;
    }
    Ok(text)
}

fn shown(runs: &Runs, run: &QueuedRun) -> Result<String> {
    let progress = RunProgress::read(&run.folder);
    let (name, sites) = run.described()?;
    let mut text = format!("run        {}\n", run.folder.file_name().unwrap_or_default().display());
    if name != run.name || name != run.folder.file_name().unwrap_or_default().to_string_lossy() {
        writeln!(text, "name       {name}")?;
    }
    write!(text, "folder     {}\nrounds     {}", run.folder.display(), rounds(progress.as_ref()))?;
    let is_served = run.is_served();
    if let Some(at) = progress.as_ref().and_then(|progress| progress.last_round_unix_ms).filter(|_| is_served) {
        write!(text, ", the last one {} ago", age(at))?;
    }
    writeln!(text)?;
    let note = note(run, &Queue::of(runs, &runs.list()?), progress.as_ref());
    if !note.is_empty() {
        writeln!(text, "note       {note}")?;
    }
    if let Some(generator) = run.generator() {
        writeln!(text, "generator  {}", generator.display())?;
    }
    writeln!(text, "\nsites")?;
    let served = progress.filter(|_| is_served).map(|progress| progress.sites).unwrap_or_default();
    for (name, is_dropped) in sites {
        let state = served.iter().find(|site| site.name == name);
        let (connected, note) = match state {
            _ if is_dropped => ("dropped", ""),
            Some(site) if site.connected => ("connected", site.note.as_str()),
            Some(site) => ("not connected", site.note.strip_prefix("not connected yet").unwrap_or(&site.note)),
            None => ("", ""),
        };
        writeln!(text, "{}", format!("  {name:12} {connected:13}  {note}").trim_end())?;
    }
    writeln!(text, "\nstates")?;
    for change in &run.states {
        writeln!(text, "  {:10} {:>8} ago  {}", change.state.name(), age(change.unix_ms), change.reason)?;
    }
    Ok(text)
}

fn logs(folder: &Path, follow: bool) -> Result<()> {
    let mut from = 0;
    loop {
        let (text, end) = show_events(folder, from)?;
        if !print_while_read(&text)? || !follow {
            return Ok(());
        }
        from = end;
        thread::sleep(FOLLOW_EVERY);
    }
}

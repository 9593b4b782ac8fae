//! `asyndgan run`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use asyndgan::consortium::{Amendment, QueuedRun, RoundCount, RunAction, RunState, Runs, serve_runs, show_events};
use clap::{Args, Subcommand};

use crate::{
    stdout::{print, print_note},
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
    /// Show a run: its folder, its states and the reasons.
    Show(Named),
    /// Print what happened in a run: sites that joined and left, refused connections, starts and stops.
    Logs {
        #[command(flatten)]
        run: Named,
        /// Wait for new events.
        #[arg(long)]
        follow: bool,
    },
    /// Stop serving a run until it is resumed. It continues from its last checkpoint; the runs behind it are served.
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
            print_note(&format!("queued: {name}"));
            warn_of_certificates(&runs, &name)
        }
        RunCommand::List(at) => print(&table(&Runs::open(&at.config)?.list()?)),
        RunCommand::Show(run) => print(&shown(&run.open()?)?),
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

fn rounds(folder: &Path) -> String {
    RoundCount::read(folder).map_or_else(|| "-".into(), |count| format!("{} of {}", count.rounds_done, count.rounds))
}

/// Why a run is in its state, or the sites that it waits for.
fn note(run: &QueuedRun) -> String {
    let waits_for = RoundCount::read(&run.folder).map(|count| count.waits_for).filter(|sites| !sites.is_empty());
    match (run.last().state, waits_for) {
        (RunState::Running | RunState::Finishing, Some(sites)) => format!("waits for {}", sites.join(", ")),
        // Only the first line: an error can have several.
        _ => run.last().reason.lines().next().unwrap_or_default().chars().take(100).collect(),
    }
}

fn age(unix_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64);
    match now.saturating_sub(unix_ms) / 1000 {
        s @ 0..90 => format!("{s} s"),
        s @ 90..5_400 => format!("{} min", s / 60),
        s @ 5_400..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

fn table(runs: &[QueuedRun]) -> String {
    let mut text = format!("{:24} {:10} {:>8} {:>18}  {}\n", "run", "state", "for", "rounds", "note");
    for run in runs {
        let last = run.last();
        let (state, note) = (last.state.name(), note(run));
        let _ = writeln!(text, "{:24} {state:10} {:>8} {:>18}  {note}", run.name, age(last.unix_ms), rounds(&run.folder));
    }
    text
}

fn shown(run: &QueuedRun) -> Result<String> {
    let mut text = format!("run     {}\nfolder  {}\nrounds  {}\n", run.name, run.folder.display(), rounds(&run.folder));
    for change in &run.states {
        writeln!(text, "{:10} {:>8} ago  {}", change.state.name(), age(change.unix_ms), change.reason)?;
    }
    Ok(text)
}

fn logs(folder: &Path, follow: bool) -> Result<()> {
    let mut from = 0;
    loop {
        let (text, end) = show_events(folder, from)?;
        print(&text)?;
        if !follow {
            return Ok(());
        }
        from = end;
        thread::sleep(FOLLOW_EVERY);
    }
}

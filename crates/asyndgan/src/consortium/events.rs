//! The event log of a server's run: one line per event, kept across restarts.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use asyndgan_files::append_private_lines;
use asyndgan_transport::AbsenceReason;
use serde::{Deserialize, Serialize};

use super::dates::time;

/// One event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Event {
    /// When: milliseconds since 1970, by the server's clock.
    unix_ms: u64,
    kind: Kind,
    /// The site that it is about.
    site: String,
    /// A human-readable description.
    fact: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A site takes part.
    Joined,
    /// A site was dismissed or disconnected.
    Left,
    /// A site came back without its checkpoint.
    StateLost,
    /// A site does not join.
    Absent,
    /// A site has left in order.
    Retired,
    /// The operator has changed who takes part.
    Amended,
    /// A connection was refused.
    Refused,
    /// The server waits for its sites.
    Listening,
    /// The rounds begin or resume.
    Begun,
    /// The server was stopped.
    Stopped,
    /// The run is finished.
    Finished,
    /// An error has ended the run.
    Failed,
}

/// The file of events. Clones write to the same file.
#[derive(Debug, Clone)]
pub(super) struct Events {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

impl Events {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = path_in(folder);
        let file = append_private_lines(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, file: Arc::new(Mutex::new(file)) })
    }

    /// Adds an event of a site. The run goes on if it cannot be written.
    pub(super) fn add(&self, kind: Kind, site: &str, fact: &str) {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64);
        let event = Event { unix_ms, kind, site: site.into(), fact: fact.into() };
        let line = serde_json::to_string(&event).unwrap_or_default() + "\n";
        let written = self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        if let Err(error) = written {
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }

    /// Adds an event that is not about one site.
    pub(super) fn note(&self, kind: Kind, fact: &str) {
        self.add(kind, "", fact);
    }

    /// The events that changed the run's result, across all starts of the server.
    pub(super) fn that_count(folder: &Path) -> Result<Vec<String>> {
        let path = path_in(folder);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok());
        Ok(events
            .filter(|e| matches!(e.kind, Kind::StateLost | Kind::Retired | Kind::Amended))
            .map(|e| format!("{} {}", e.site, e.fact))
            .collect())
    }
}

fn path_in(folder: &Path) -> PathBuf {
    folder.join("events.jsonl")
}

/// The events of a run as lines of text, from the byte `from` of the file on; and where the file ends now.
///
/// # Errors
/// If the file cannot be read. A run that has not begun has no events.
pub fn show_events(folder: &Path, from: usize) -> Result<(String, usize)> {
    let path = path_in(folder);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    // The last line may be half written.
    let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let new = String::from_utf8_lossy(bytes.get(from..end).unwrap_or_default());
    let mut text = String::new();
    for event in new.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok()) {
        let site = if event.site.is_empty() { "-" } else { &event.site };
        writeln!(text, "{} UTC  {site:12} {}", time((event.unix_ms / 1000) as i64), event.fact)?;
    }
    Ok((text, end.max(from)))
}

/// What happened to a site that came back without its checkpoint.
pub(super) fn lost_state(round: u64, restored: u64) -> String {
    let with = if restored == 0 { "a fresh discriminator".to_owned() } else { format!("its checkpoint of round {restored}") };
    format!("came back without its checkpoint, and resumes after round {round} with {with}")
}

/// What happened to a site that left in order.
pub(super) fn retired(round: u64, reason: &str) -> String {
    format!("takes no part from round {} on: {reason}", round + 1)
}

/// Why a site does not join.
pub(super) fn absent(reason: AbsenceReason) -> &'static str {
    match reason {
        AbsenceReason::AwaitsApproval => "its administrator has not approved this run; ask the hospital",
        AbsenceReason::Refused => "its policy or its data does not allow this run; its log names the reason",
        AbsenceReason::Finished => "it has finished this run or left it; see asyndgan run amend --replace to let it take part again",
        AbsenceReason::OtherImages => "its images are not those that it began the run with; see asyndgan run amend --replace",
        _ => "it does not join; its log names the reason",
    }
}

/// How all sites go back to a checkpoint, because one of them was started again.
pub(super) fn rollback(from: u64, to: u64) -> String {
    format!("goes back from round {from} to round {to}, the last checkpoint that the server and all sites have")
}

/// How a run begins here: with its first round, or where it was.
pub(super) fn starting(rounds_done: u64) -> String {
    if rounds_done == 0 { "starts with round 1".into() } else { format!("resumes after round {rounds_done}") }
}

/// An error without the number of the site that it is about.
pub(super) fn without_number(error: &str) -> String {
    let rest = error.strip_prefix("site ").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start());
    rest.unwrap_or(error).to_owned()
}

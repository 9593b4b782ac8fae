//! The event log of a server's run: one line per event, kept across restarts.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use asyndgan_files::append_private;
use serde::{Deserialize, Serialize};

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
    /// A site has left in order.
    Retired,
}

/// The file of events.
pub(super) struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("events.jsonl");
        let file = append_private(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, file })
    }

    pub(super) fn add(&mut self, kind: Kind, site: &str, fact: &str) -> Result<()> {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64);
        let event = Event { unix_ms, kind, site: site.into(), fact: fact.into() };
        let line = serde_json::to_string(&event)? + "\n";
        self.file.write_all(line.as_bytes()).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// The events that changed the run's result, across all starts of the server.
    pub(super) fn that_count(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok());
        Ok(events.filter(|e| matches!(e.kind, Kind::StateLost | Kind::Retired)).map(|e| format!("{} {}", e.site, e.fact)).collect())
    }
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

/// How a run begins here: with its first round, or where it was.
pub(super) fn starting(rounds_done: u64) -> String {
    if rounds_done == 0 { "starts with round 1".into() } else { format!("resumes after round {rounds_done}") }
}

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use asyndgan_files::append_private;
use asyndgan_protocol::{MessageKind, RunDescription, SiteId};
use serde::{Deserialize, Serialize};

use crate::{Error, RunStamp, lines::Lines};

/// The number of messages of one kind and their total size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Number of messages.
    pub messages: u64,
    /// Total encoded size.
    pub bytes: u64,
}

/// One message as a line of the ledger file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerLine {
    /// The site that sent or received the message.
    pub site: SiteId,
    /// The kind of message.
    pub kind: MessageKind,
    /// The round that the message belongs to, if any.
    pub round: Option<u64>,
    /// The encoded size.
    pub bytes: u64,
}

/// Counts the messages between the server and each site by kind. The ledger file also lists the round of each message.
#[derive(Debug, Default)]
pub struct Ledger {
    totals: BTreeMap<(SiteId, MessageKind), Traffic>,
    file: Option<(PathBuf, File)>,
    /// Written into every line.
    pub(crate) stamp: RunStamp,
}

const HEADING: &str = "site,kind,round,bytes,note,run,server,name\n";

impl Ledger {
    /// A ledger that appends every message as a line to a CSV file, and counts the lines that are already there.
    ///
    /// # Errors
    /// [`Error::Record`], or [`Error::Ledger`] for a line that is not an entry.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Record { path: path.into(), source };
        let mut ledger = Self::default();
        let mut file = append_private(path).map_err(io)?;
        let bytes = read(path, |line| ledger.add(line))?;
        file.set_len(bytes).map_err(io)?;
        if bytes == 0 {
            file.write_all(HEADING.as_bytes()).map_err(io)?;
        }
        ledger.file = Some((path.into(), file));
        Ok(ledger)
    }

    /// The lines of a ledger file, without an incomplete last line of a killed process.
    ///
    /// # Errors
    /// [`Error::Record`], or [`Error::Ledger`] for a line that is not an entry.
    pub fn lines(path: &Path) -> Result<Vec<LedgerLine>, Error> {
        let mut lines = Vec::new();
        read(path, |line| lines.push(line))?;
        Ok(lines)
    }

    /// Sets the run and the server's certificate (DER), if it has one, that every following line refers to.
    pub fn set_run(&mut self, run: &RunDescription, server_certificate: Option<&[u8]>) {
        self.stamp = RunStamp::new(run, server_certificate);
    }

    /// Counts one message.
    ///
    /// # Errors
    /// [`Error::Record`] when the file cannot be written.
    pub fn count(&mut self, line: LedgerLine) -> Result<(), Error> {
        self.count_with_note(line, "")
    }

    /// Counts one message, with a note.
    ///
    /// # Errors
    /// [`Error::Record`] when the file cannot be written.
    pub fn count_with_note(&mut self, line: LedgerLine, note: &'static str) -> Result<(), Error> {
        self.add(line);
        if let Some((path, file)) = &mut self.file {
            let LedgerLine { site, kind, round, bytes } = line;
            let round = round.map_or(String::new(), |r| r.to_string());
            // In one piece: a process that is killed leaves whole lines, but for the last.
            let RunStamp { name, run, server } = &self.stamp;
            let name = name.replace('"', "\"\"");
            file.write_all(format!("{},{kind},{round},{bytes},{note},{run},{server},\"{name}\"\n", site.0 + 1).as_bytes())
                .map_err(|source| Error::Record { path: path.clone(), source })?;
        }
        Ok(())
    }

    fn add(&mut self, line: LedgerLine) {
        let traffic = self.totals.entry((line.site, line.kind)).or_default();
        traffic.messages += 1;
        traffic.bytes += line.bytes;
    }

    /// All totals, by site and kind.
    pub fn entries(&self) -> impl Iterator<Item = (SiteId, MessageKind, Traffic)> {
        self.totals.iter().map(|(&(site, kind), &traffic)| (site, kind, traffic))
    }
}

/// Passes the lines of a ledger file to `each`, one at a time. Returns their length in bytes, with the heading.
fn read(path: &Path, mut each: impl FnMut(LedgerLine)) -> Result<u64, Error> {
    let mut lines = Lines::open(path)?;
    let mut number = 0;
    while let Some(line) = lines.next_line()? {
        number += 1;
        let unreadable = || Error::Ledger { path: path.into(), line: number };
        let text = std::str::from_utf8(line).map_err(|_| unreadable())?;
        if number > 1 {
            each(parse(text).ok_or_else(unreadable)?);
        } else if text != HEADING.trim_end() {
            return Err(unreadable());
        }
    }
    Ok(lines.bytes())
}

fn parse(line: &str) -> Option<LedgerLine> {
    let mut parts = line.split(',');
    let site = SiteId(parts.next()?.parse::<u32>().ok()?.checked_sub(1)?);
    let kind = serde_json::from_value(parts.next()?.into()).ok()?;
    let round = match parts.next()? {
        "" => None,
        round => Some(round.parse().ok()?),
    };
    let bytes = parts.next()?.parse().ok()?;
    // A note, the run, the server, and a name that may hold anything.
    parts.nth(3).is_some().then_some(LedgerLine { site, kind, round, bytes })
}

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use asyndgan_protocol::{MessageKind, SiteId};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Messages of one kind and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// How many.
    pub messages: u64,
    /// How large together, as encoded.
    pub bytes: u64,
}

/// One message as the ledger's file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerLine {
    /// Whose, or for whom.
    pub site: SiteId,
    /// Of which kind.
    pub kind: MessageKind,
    /// About which round, if about one.
    pub round: Option<u64>,
    /// How large, as encoded.
    pub bytes: u64,
}

/// What travelled between the server and each site, by kind of message; in a file also by round.
#[derive(Debug, Default)]
pub struct Ledger {
    totals: BTreeMap<(SiteId, MessageKind), Traffic>,
    file: Option<(PathBuf, File)>,
}

const HEADING: &str = "site,kind,round,bytes\n";

impl Ledger {
    /// A ledger that writes every message as a line of a CSV file, and goes on with what is there.
    ///
    /// # Errors
    /// [`Error::Record`].
    pub fn kept_in(path: &Path) -> Result<Self, Error> {
        let io = |cause| Error::Record { path: path.into(), cause };
        let mut ledger = Self::default();
        if let Ok(text) = std::fs::read_to_string(path) {
            // A line that was being written when its process was killed.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(whole as u64)).map_err(io)?;
            for line in Self::lines(path)? {
                ledger.add(line);
            }
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            file.write_all(HEADING.as_bytes()).map_err(io)?;
        }
        ledger.file = Some((path.into(), file));
        Ok(ledger)
    }

    /// The lines of a ledger's file; one that was being written when its process was killed is left out.
    ///
    /// # Errors
    /// [`Error::Record`].
    pub fn lines(path: &Path) -> Result<Vec<LedgerLine>, Error> {
        let io = |cause| Error::Record { path: path.into(), cause };
        let text = std::fs::read_to_string(path).map_err(io)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Ok(whole.lines().filter_map(parse).collect())
    }

    /// Counts one message.
    ///
    /// # Errors
    /// [`Error::Record`] when the file cannot be written.
    pub fn count(&mut self, line: LedgerLine) -> Result<(), Error> {
        self.add(line);
        if let Some((path, file)) = &mut self.file {
            let LedgerLine { site, kind, round, bytes } = line;
            let round = round.map_or(String::new(), |r| r.to_string());
            // In one piece: a process that is killed leaves whole lines, but for the last.
            file.write_all(format!("{},{kind},{round},{bytes}\n", site.0 + 1).as_bytes())
                .map_err(|cause| Error::Record { path: path.clone(), cause })?;
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

fn parse(line: &str) -> Option<LedgerLine> {
    let mut parts = line.split(',');
    let site = SiteId(parts.next()?.parse::<u32>().ok()?.checked_sub(1)?);
    let kind = serde_json::from_value(parts.next()?.into()).ok()?;
    let round = match parts.next()? {
        "" => None,
        round => Some(round.parse().ok()?),
    };
    let bytes = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(LedgerLine { site, kind, round, bytes })
}

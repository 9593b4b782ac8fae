use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use asyndgan_files::{Access, append_private, write};
use asyndgan_protocol::{History, MessageKind, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Receipts, RunStamp};

/// One thing that left the site; or a start from a checkpoint, which reveals nothing by itself and is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Counts from 0.
    pub number: u64,
    /// Milliseconds since 1970, by the site's clock.
    pub unix_ms: u64,
    /// What it was.
    pub kind: MessageKind,
    /// About which round, if about one.
    pub round: Option<u64>,
    /// What a new answer depends on; it does not leave. None for all else, an answer that is sent again included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Shown>,
    /// Which run, with which server.
    #[serde(flatten)]
    pub stamp: RunStamp,
    /// How large.
    pub bytes: u64,
    /// SHA-256 of what left.
    pub sha256: String,
    /// SHA-256 of this entry and of the link before it: whoever changes or removes an entry breaks the chain after it.
    pub link: String,
}

/// What an answer depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The site's own cases whose real images were shown.
    pub cases: Vec<u32>,
    /// A digest of the synthetic images ([`asyndgan_protocol::synthetic_digest`]).
    pub synthetic: u64,
}

impl JournalEntry {
    fn linked(mut self, before: &str) -> Self {
        self.link = before.into();
        let text = serde_json::to_string(&self).unwrap_or_default();
        self.link = hex(&Sha256::digest(text));
        self
    }
}

/// A site's record of everything that left it: append-only, every entry chained to the one before, and written before it leaves.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    number: u64,
    link: String,
    /// Written into every entry.
    pub(crate) stamp: RunStamp,
}

impl Journal {
    /// Opens or begins a journal. An entry that was being written when the site was killed, and so never left, is cut off.
    ///
    /// # Errors
    /// [`Error::Record`], or [`Error::Journal`] when the chain is broken.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |cause| Error::Record { path: path.into(), cause };
        let mut file = append_private(path).map_err(io)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(io)?;
        let entries = chained(path, &text[..whole])?;
        let link = entries.last().map_or(String::new(), |e| e.link.clone());
        let journal = Self { path: path.into(), file, number: entries.len() as u64, link, stamp: RunStamp::default() };
        Self::check_head(path, &entries)?;
        Ok(journal)
    }

    /// Checks a journal and returns its entries.
    ///
    /// # Errors
    /// [`Error::Record`], or [`Error::Journal`] that names the first entry that was changed or is missing.
    pub fn verify(path: &Path) -> Result<Vec<JournalEntry>, Error> {
        let text = std::fs::read_to_string(path).map_err(|cause| Error::Record { path: path.into(), cause })?;
        // A last entry that is torn was being written, and never left.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let entries = chained(path, whole)?;
        Self::check_head(path, &entries)?;
        Ok(entries)
    }

    /// Where it stands how far a journal was at the last checkpoint; without that file, entries cut off at the end do not show.
    pub fn head_path(path: &Path) -> PathBuf {
        path.with_extension("head")
    }

    /// Entries at the end can be missing without a broken chain: what was there at the last checkpoint lies beside.
    fn check_head(path: &Path, entries: &[JournalEntry]) -> Result<(), Error> {
        let Ok(text) = std::fs::read_to_string(Self::head_path(path)) else { return Ok(()) };
        let head = text.trim().split_once(' ').and_then(|(n, link)| Some((n.parse::<usize>().ok()?, link)));
        let unknown = || Error::Journal { path: Self::head_path(path), entry: 0, fact: "it does not say how far the journal was".into() };
        let (count, link) = head.ok_or_else(unknown)?;
        let found = count.checked_sub(1).and_then(|last| entries.get(last)).map_or("", |e| e.link.as_str());
        if found == link {
            return Ok(());
        }
        let entry = entries.len().min(count.saturating_sub(1)) as u64;
        Err(Error::Journal {
            path: path.into(),
            entry,
            fact: format!("there were {count} entries at the last checkpoint, and this one ended otherwise or is missing"),
        })
    }

    /// Entries, and the last one's link.
    pub(crate) fn head(&self) -> (u64, &str) {
        (self.number, &self.link)
    }

    /// How often a site has answered, and about which cases, by its journal: limits go on where they were. `patients` has the patient of each
    /// case.
    ///
    /// # Errors
    /// As [`Journal::verify`] and [`Receipts::verify`]: a site that cannot know what it has answered answers nothing more. A journal that is
    /// shorter than its receipts, as one restored from a backup, is such a case.
    pub fn history(path: &Path, patients: Vec<u32>) -> Result<History, Error> {
        let mut history = History::new(patients);
        let entries = if path.exists() { Self::verify(path)? } else { Vec::new() };
        let receipts = Receipts::path_of(path);
        if receipts.exists() {
            Receipts::verify(&receipts, &entries, None)?;
        }
        for entry in entries {
            match (entry.kind, entry.round, entry.shown) {
                (MessageKind::Start, ..) => history.add_restore(),
                (_, Some(round), Some(Shown { cases, synthetic })) => history.add(round, synthetic, &cases),
                _ => {}
            }
        }
        Ok(history)
    }

    /// Writes down what is about to leave; of a new answer with what it depends on.
    ///
    /// # Errors
    /// [`Error::Record`]: then it must not leave.
    pub fn append(&mut self, kind: MessageKind, round: Option<u64>, shown: Option<Shown>, what: &[u8]) -> Result<(), Error> {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64);
        let (number, bytes, sha256) = (self.number, what.len() as u64, hex(&Sha256::digest(what)));
        let stamp = self.stamp.clone();
        let entry = JournalEntry { number, unix_ms, kind, round, shown, stamp, bytes, sha256, link: String::new() }.linked(&self.link);
        let line = serde_json::to_string(&entry).unwrap_or_default() + "\n";
        self.file.write_all(line.as_bytes()).map_err(|cause| Error::Record { path: self.path.clone(), cause })?;
        self.number += 1;
        self.link = entry.link;
        Ok(())
    }

    /// Makes sure that the entries so far survive a power failure, and notes how many there are.
    ///
    /// # Errors
    /// [`Error::Record`].
    pub fn sync(&mut self) -> Result<(), Error> {
        let text = format!("{} {}\n", self.number, self.link);
        let save = || self.file.sync_data().and_then(|()| write(&Self::head_path(&self.path), Access::Private, text.as_bytes()));
        save().map_err(|cause| Error::Record { path: self.path.clone(), cause })
    }
}

fn chained(path: &Path, text: &str) -> Result<Vec<JournalEntry>, Error> {
    let mut entries: Vec<JournalEntry> = Vec::new();
    for (number, line) in (0..).zip(text.lines()) {
        let broken = |fact: &str| Error::Journal { path: path.into(), entry: number, fact: fact.into() };
        let entry: JournalEntry = serde_json::from_str(line).map_err(|_| broken("it is no entry"))?;
        let before = entries.last().map_or("", |e| e.link.as_str());
        if entry.number != number {
            return Err(broken("it, or one before it, is missing or out of place"));
        }
        if entry.clone().linked(before) != entry {
            return Err(broken("it was changed, or does not belong to the one before it"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use asyndgan_files::{Access, append_private, write};
use asyndgan_protocol::{AnswerDigest, History, MessageKind, hex};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Receipts, RunStamp, lines::Lines};

/// One message that left the site, or a start from a checkpoint. A start sends nothing, but it counts towards the
/// limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The number of the entry, from 0.
    pub number: u64,
    /// Milliseconds since the Unix epoch, by the site's clock.
    pub unix_ms: u64,
    /// The kind of message.
    pub kind: MessageKind,
    /// The round that the message belongs to, if any.
    pub round: Option<u64>,
    /// The inputs of a new answer, which are not sent. `None` for everything else, including an answer that is sent
    /// again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<ShownCases>,
    /// Random bytes beside [`JournalEntry::shown`], as hexadecimal digits. The server receives the link of the last
    /// entry; without these bytes, it could find the cases by trying all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// The run and the server.
    #[serde(flatten)]
    pub stamp: RunStamp,
    /// The size of the message.
    pub bytes: u64,
    /// SHA-256 of the message.
    pub sha256: String,
    /// SHA-256 of this entry and the previous link: changing or removing an entry breaks the chain after it.
    pub link: String,
}

/// The inputs of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownCases {
    /// The site's cases whose real images were used.
    pub cases: Vec<u32>,
    /// The digest of the answer ([`asyndgan_protocol::SiteAction::Step`]), as hexadecimal digits: the same digest is
    /// the same answer.
    pub answer: String,
}

impl JournalEntry {
    fn linked(mut self, before: &str) -> Self {
        self.link = before.into();
        let text = serde_json::to_string(&self).unwrap_or_default();
        self.link = hex(&Sha256::digest(text));
        self
    }
}

/// A site's append-only record of everything it sends. Every entry is chained to the previous one, and is written
/// before the message is sent.
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
    /// Opens or creates a journal. Removes an incomplete last entry: the site was killed while writing it, so it was
    /// never sent.
    ///
    /// # Errors
    /// [`Error::Record`], or [`Error::Journal`] when the chain is broken.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Record { path: path.into(), source };
        let file = append_private(path).map_err(io)?;
        let Chain { entries, link, bytes } = read(path, |_| ())?;
        file.set_len(bytes).map_err(io)?;
        Ok(Self { path: path.into(), file, number: entries, link, stamp: RunStamp::default() })
    }

    /// Checks a journal and returns its entries.
    ///
    /// # Errors
    /// [`Error::Record`], or [`Error::Journal`] with the first entry that was changed or is missing.
    pub fn verify(path: &Path) -> Result<Vec<JournalEntry>, Error> {
        let mut entries = Vec::new();
        Self::verify_each(path, |entry| entries.push(entry))?;
        Ok(entries)
    }

    /// As [`Journal::verify`], for a journal of any length: passes its entries on in order, and keeps none in memory.
    ///
    /// # Errors
    /// As [`Journal::verify`], after the entries before the first one that was changed or is missing.
    pub fn verify_each(path: &Path, each: impl FnMut(JournalEntry)) -> Result<(), Error> {
        read(path, each).map(drop)
    }

    /// The file with the journal's length at the last checkpoint. Without it, entries cut off at the end cannot be
    /// detected.
    pub fn head_path(path: &Path) -> PathBuf {
        path.with_extension("head")
    }

    /// The number of entries, and the last one's link.
    pub(crate) fn head(&self) -> (u64, &str) {
        (self.number, &self.link)
    }

    /// Reads from the journal how often a site has answered, and about which cases, so that limits hold across
    /// restarts. `patients` contains the patient of each case.
    ///
    /// # Errors
    /// As [`Journal::verify`] and [`Receipts::verify`]: a site that does not know what it has answered must not answer
    /// again. This includes a journal that is shorter than its receipts, such as one restored from a backup.
    pub fn history(path: &Path, patients: Vec<u32>) -> Result<History, Error> {
        let mut history = History::new(patients);
        let exists = |path: &Path| path.try_exists().map_err(|source| Error::Record { path: path.into(), source });
        let receipts = Receipts::path_of(path);
        let mut each = |entry: &JournalEntry| match (entry.kind, entry.round, &entry.shown) {
            (MessageKind::Start, ..) => history.add_restore(),
            (_, Some(round), Some(ShownCases { cases, answer })) => history.add(round, digest_of(answer), cases),
            _ => {}
        };
        match (exists(path)?, exists(&receipts)?) {
            (true, true) => drop(Receipts::verify_journal(&receipts, path, None, each)?),
            (true, false) => Self::verify_each(path, |entry| each(&entry))?,
            (false, true) => drop(Receipts::verify(&receipts, &[], None)?),
            (false, false) => {}
        }
        Ok(history)
    }

    /// Records a message before it is sent; a new answer with its inputs.
    ///
    /// # Errors
    /// [`Error::Record`]: the message must not be sent.
    pub fn append(&mut self, kind: MessageKind, round: Option<u64>, shown: Option<ShownCases>, what: &[u8]) -> Result<(), Error> {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64);
        let (number, bytes, sha256) = (self.number, what.len() as u64, hex(&Sha256::digest(what)));
        let salt = shown.is_some().then(|| salt(&self.path)).transpose()?;
        let stamp = self.stamp.clone();
        let entry =
            JournalEntry { number, unix_ms, kind, round, shown, salt, stamp, bytes, sha256, link: String::new() }.linked(&self.link);
        let line = serde_json::to_string(&entry).unwrap_or_default() + "\n";
        self.file.write_all(line.as_bytes()).map_err(|source| Error::Record { path: self.path.clone(), source })?;
        self.number += 1;
        self.link = entry.link;
        Ok(())
    }

    /// Flushes all entries to disk, so that they survive a power failure, and stores their number.
    ///
    /// # Errors
    /// [`Error::Record`].
    pub fn sync(&mut self) -> Result<(), Error> {
        let text = format!("{} {}\n", self.number, self.link);
        let save = || self.file.sync_data().and_then(|()| write(&Self::head_path(&self.path), Access::Private, text.as_bytes()));
        save().map_err(|source| Error::Record { path: self.path.clone(), source })
    }
}

/// The digest that these hexadecimal digits name; that of the text for any other text.
fn digest_of(digits: &str) -> AnswerDigest {
    let byte = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or_else(|| Sha256::digest(digits).into())
}

/// Random bytes as hexadecimal digits, for an entry of the journal at `path`.
fn salt(path: &Path) -> Result<String, Error> {
    let mut bytes = [0; 16];
    let drawn = SystemRandom::new().fill(&mut bytes);
    drawn.map_err(|_| Error::Record { path: path.into(), source: io::Error::other("the system has no random numbers") })?;
    Ok(hex(&bytes))
}

/// The end of an intact chain.
#[derive(Default)]
struct Chain {
    entries: u64,
    /// The last entry's link.
    link: String,
    /// The length of the entries in the file.
    bytes: u64,
}

/// Passes the entries of a journal to `each`, one at a time. Checks the chain, and with the head file that no entries
/// were cut off at the end, which does not break it. Leaves out an incomplete last entry: it was never sent.
fn read(path: &Path, mut each: impl FnMut(JournalEntry)) -> Result<Chain, Error> {
    let head = read_head(&Journal::head_path(path))?;
    let mut lines = Lines::open(path)?;
    let mut chain = Chain::default();
    let broken = |entry, fact: String| Err(Error::Journal { path: path.into(), entry, fact });
    let shortened = |entry, count| {
        broken(entry, format!("the journal had {count} entries at the last checkpoint, but this entry was changed or is missing"))
    };
    while let Some(line) = lines.next_line()? {
        let number = chain.entries;
        let Ok(entry) = serde_json::from_slice::<JournalEntry>(line) else {
            return broken(number, "it is not a journal entry of this version".into());
        };
        if entry.number != number {
            return broken(number, "this entry or an earlier one is missing or out of order".into());
        }
        if entry.clone().linked(&chain.link) != entry {
            return broken(number, "it was changed, or does not follow the previous entry".into());
        }
        chain.entries += 1;
        chain.link.clone_from(&entry.link);
        if let Some((count, link)) = &head
            && *count == chain.entries
            && *link != chain.link
        {
            return shortened(number, *count);
        }
        each(entry);
    }
    chain.bytes = lines.bytes();
    match head {
        Some((count, _)) if count > chain.entries => shortened(chain.entries, count),
        _ => Ok(chain),
    }
}

/// The number of entries at the last checkpoint and the last one's link; `None` without the file.
fn read_head(path: &Path) -> Result<Option<(u64, String)>, Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Record { path: path.into(), source }),
    };
    let head = text.trim_end_matches('\n').split_once(' ').and_then(|(count, link)| Some((count.parse().ok()?, link.to_owned())));
    head.map(Some).ok_or_else(|| Error::Journal { path: path.into(), entry: 0, fact: "its content is not a journal head".into() })
}

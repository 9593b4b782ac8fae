use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use asyndgan_files::{append_private, create_private_folder};
use asyndgan_protocol::{JournalHead, JournalReceipt, hex};
use serde::{Deserialize, Serialize};

use crate::{
    Certificates, Error, Identity, Journal, JournalEntry,
    keys::{CertificateFacts, SERVER, is_issued_by, verify_signature},
    stamp::fingerprint,
};

/// A journal head, signed by the site and countersigned by the server. Both keep a copy, so that neither can later deny
/// the state of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The run's identity, in hexadecimal.
    pub run: String,
    /// The head of the journal.
    pub head: JournalHead,
    /// The site's certificate (DER).
    pub site_certificate: Vec<u8>,
    /// The server's signature over the run, the head and the site's signature.
    pub server_signature: Vec<u8>,
    /// The server's certificate (DER).
    pub server_certificate: Vec<u8>,
}

/// A site's own part of a head.
pub(crate) fn signed_head(identity: &Identity, run: &str, entries: u64, link: &str, rounds_done: u64) -> Result<JournalHead, Error> {
    let mut head = JournalHead { entries, link: link.into(), rounds_done, signature: Vec::new() };
    head.signature = identity.sign(head_text(run, &head).as_bytes())?;
    Ok(head)
}

fn head_text(run: &str, head: &JournalHead) -> String {
    format!("asyndgan journal head v1\n{run}\n{}\n{}\n{}\n", head.entries, head.link, head.rounds_done)
}

fn receipt_text(run: &str, head: &JournalHead) -> String {
    format!("asyndgan journal receipt v1\n{}{}\n", head_text(run, head), hex(&head.signature))
}

impl Receipt {
    /// The server's confirmation of a head, if the site signed it.
    pub(crate) fn countersigned(identity: &Identity, run: &str, head: JournalHead, site_certificate: &[u8]) -> Result<Self, Error> {
        if head.link.len() != 64 || !head.link.bytes().all(|b| b.is_ascii_hexdigit()) || head.signature.len() > 128 {
            return Err(Error::Receipt { fact: "the journal head is malformed".into() });
        }
        if !verify_signature(site_certificate, head_text(run, &head).as_bytes(), &head.signature) {
            return Err(Error::Receipt { fact: "the journal head is not signed by the site".into() });
        }
        let server_signature = identity.sign(receipt_text(run, &head).as_bytes())?;
        let server_certificate = identity.certificate().to_vec();
        Ok(Self { run: run.into(), head, site_certificate: site_certificate.into(), server_signature, server_certificate })
    }

    /// A head that the site sent, with the confirmation that came back.
    pub(crate) fn confirmed(
        run: &str,
        head: JournalHead,
        site_certificate: &[u8],
        receipt: &JournalReceipt,
        server_certificate: &[u8],
    ) -> Result<Self, Error> {
        let (site_certificate, server_certificate) = (site_certificate.into(), server_certificate.into());
        let receipt = Self { run: run.into(), head, site_certificate, server_signature: receipt.signature.clone(), server_certificate };
        receipt.check().map_err(|fact| Error::Receipt { fact })?;
        Ok(receipt)
    }

    /// Whether both signatures belong to their certificates.
    fn check(&self) -> Result<(), String> {
        if !verify_signature(&self.site_certificate, head_text(&self.run, &self.head).as_bytes(), &self.head.signature) {
            return Err("the site's signature is not valid".into());
        }
        if !verify_signature(&self.server_certificate, receipt_text(&self.run, &self.head).as_bytes(), &self.server_signature) {
            return Err("the server's signature is not valid".into());
        }
        Ok(())
    }
}

impl Receipt {
    /// Checks the certificates against a site's bundle; returns what is wrong with them, if anything.
    fn foreign(&self, bundle: &Certificates) -> Option<String> {
        let roles = [(&self.site_certificate, bundle.facts().name.as_str()), (&self.server_certificate, SERVER)];
        roles.into_iter().find_map(|(certificate, name)| {
            if !is_issued_by(certificate, &bundle.authority) {
                return Some("it contains a certificate that the consortium's authority did not issue".to_owned());
            }
            let found = CertificateFacts::from_der(certificate).map_or_else(|fact| fact, |facts| facts.name);
            (found != name).then(|| format!("it is signed by {found}, expected {name}"))
        })
    }
}

/// A file of receipts, one per line, in the order of their arrival.
#[derive(Debug)]
pub struct Receipts {
    path: PathBuf,
    file: fs::File,
    /// The number of confirmed journal entries.
    entries: u64,
    count: usize,
}

/// The result of checking a journal against its receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// Number of checked receipts.
    pub receipts: usize,
    /// Number of journal entries that the server has confirmed.
    pub entries: u64,
    /// Rounds done at the last confirmation.
    pub rounds_done: u64,
    /// SHA-256 of the server's certificate in the last confirmation, in hexadecimal.
    pub server: String,
}

/// A site sends one head per checkpoint; an honest site does not exceed this number.
const RECEIPTS_MAX: usize = 10_000;

impl Receipts {
    /// The path of a journal's receipts.
    pub fn path_of(journal: &Path) -> PathBuf {
        journal.with_extension("receipts")
    }

    /// Opens or creates a file of receipts.
    ///
    /// # Errors
    /// [`Error::Record`], or [`Error::Receipt`] for a damaged line.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Record { path: path.into(), source };
        create_private_folder(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))).map_err(io)?;
        let file = append_private(path).map_err(io)?;
        // A line that was being written when its process was killed.
        let text = fs::read_to_string(path).map_err(io)?;
        file.set_len(text.rfind('\n').map_or(0, |end| end + 1) as u64).map_err(io)?;
        let receipts = Self::read(path)?;
        let entries = receipts.iter().map(|r| r.head.entries).max().unwrap_or(0);
        Ok(Self { path: path.into(), file, entries, count: receipts.len() })
    }

    /// Adds a receipt, which must confirm a longer journal than the earlier ones.
    ///
    /// # Errors
    /// [`Error::Receipt`], or [`Error::Record`].
    pub fn add(&mut self, receipt: &Receipt) -> Result<(), Error> {
        if receipt.head.entries <= self.entries || self.count >= RECEIPTS_MAX {
            let (new, old) = (receipt.head.entries, self.entries);
            let fact = format!("cannot confirm a journal of {new} entries: {old} entries are already confirmed by {} receipts", self.count);
            return Err(Error::Receipt { fact });
        }
        let line = serde_json::to_string(receipt).unwrap_or_default() + "\n";
        let write = || -> io::Result<()> {
            let before = self.file.metadata()?.len();
            let written = (&self.file).write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
            if written.is_err() {
                // On a full disk, part of the line was written, and the next one must not continue it.
                self.file.set_len(before)?;
            }
            written
        };
        write().map_err(|source| Error::Record { path: self.path.clone(), source })?;
        (self.entries, self.count) = (receipt.head.entries, self.count + 1);
        Ok(())
    }

    fn read(path: &Path) -> Result<Vec<Receipt>, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::Record { path: path.into(), source })?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |(number, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|e| Error::Receipt { fact: format!("{}: line {}: {e}", path.display(), number + 1) })
        };
        whole.lines().enumerate().map(parse).collect()
    }

    /// Checks a journal's entries against the receipts in a file: every confirmed entry must be present and unchanged,
    /// and belong to the same run and server. With the site's bundle, the receipts must be signed by this site and by
    /// the server, with certificates of the bundle's authority. Without it, only the signatures themselves are checked,
    /// but not who signed.
    ///
    /// # Errors
    /// [`Error::Receipt`] with the entry that is missing or was changed, or [`Error::Record`].
    pub fn verify(path: &Path, entries: &[JournalEntry], bundle: Option<&Certificates>) -> Result<Option<Confirmation>, Error> {
        verify_ends(path, &Self::read(path)?, entries.len() as u64, |number| entries.get(number as usize), bundle)
    }

    /// As [`Receipts::verify`], for a journal of any length: reads its file one entry at a time, and passes the entries
    /// on to `each`. Entries that are written meanwhile do not matter.
    ///
    /// # Errors
    /// As [`Receipts::verify`] and [`Journal::verify`].
    pub fn verify_journal(
        path: &Path,
        journal: &Path,
        bundle: Option<&Certificates>,
        mut each: impl FnMut(&JournalEntry),
    ) -> Result<Option<Confirmation>, Error> {
        // Before the journal: entries and receipts that are added meanwhile do not matter.
        let receipts = Self::read(path)?;
        let confirmed = confirmed_entries(&receipts);
        let (mut entries, mut ends) = (0, BTreeMap::new());
        Journal::verify_each(journal, |entry| {
            entries += 1;
            each(&entry);
            if confirmed.contains(&(entry.number + 1)) {
                ends.insert(entry.number, entry);
            }
        })?;
        verify_ends(path, &receipts, entries, |number| ends.get(&number), bundle)
    }
}

/// The numbers of journal entries that receipts confirm.
fn confirmed_entries(receipts: &[Receipt]) -> BTreeSet<u64> {
    receipts.iter().map(|receipt| receipt.head.entries).collect()
}

/// As [`Receipts::verify`]; `end` returns the entries with which the confirmed parts of the journal end.
fn verify_ends<'a>(
    path: &Path,
    receipts: &[Receipt],
    entries: u64,
    end: impl Fn(u64) -> Option<&'a JournalEntry>,
    bundle: Option<&Certificates>,
) -> Result<Option<Confirmation>, Error> {
    let refused = |number: usize, fact: String| Err(Error::Receipt { fact: format!("{}: receipt {}: {fact}", path.display(), number + 1) });
    for (number, receipt) in receipts.iter().enumerate() {
        if let Err(fact) = receipt.check() {
            return refused(number, fact);
        }
        if let Some(fact) = bundle.and_then(|bundle| receipt.foreign(bundle)) {
            return refused(number, fact);
        }
        let last = receipt.head.entries.checked_sub(1).and_then(&end);
        match last {
            None => {
                let confirmed = receipt.head.entries;
                return refused(number, format!("the server confirmed {confirmed} entries, and the journal has {entries}"));
            }
            Some(entry) if entry.link != receipt.head.link => {
                let number_of_entry = receipt.head.entries - 1;
                return refused(number, format!("entry {number_of_entry}, or one before it, was changed after the server confirmed it"));
            }
            Some(entry) if entry.stamp.run != receipt.run || entry.stamp.server != fingerprint(&receipt.server_certificate) => {
                return refused(number, "it belongs to another run or another server than the entry that it confirms".into());
            }
            Some(_) => {}
        }
    }
    Ok(receipts.iter().max_by_key(|r| r.head.entries).map(|last| Confirmation {
        receipts: receipts.len(),
        entries: last.head.entries,
        rounds_done: last.head.rounds_done,
        server: fingerprint(&last.server_certificate),
    }))
}

//! A site's journal of everything that left it.

use std::{collections::VecDeque, fmt::Write as _, path::Path};

use anyhow::{Context, Result};
use asyndgan_protocol::MessageKind;
use asyndgan_transport::{Certificates, Confirmation, Error, Journal, JournalEntry, Receipts};

use super::dates::time;

/// Lists the latest entries of a journal, as a table for a terminal.
///
/// # Errors
/// If the journal cannot be read, or its chain is broken.
pub fn show_journal(file: &Path, last: usize) -> Result<String> {
    let mut latest = VecDeque::new();
    Journal::verify_each(file, |entry| {
        latest.push_back(entry);
        if latest.len() > last {
            latest.pop_front();
        }
    })?;
    let mut text = String::new();
    writeln!(text, "{:>8}  {:20}  {:10} {:>8} {:>12}  sha256", "entry", "time (UTC)", "kind", "round", "bytes")?;
    for e in &latest {
        // Rounds count from 1, as everywhere; a start names the rounds that were done before it.
        let round =
            e.round.map_or(String::new(), |r| if e.kind == MessageKind::Start { format!("after {r}") } else { (r + 1).to_string() });
        let when = time(e.unix_ms as i64 / 1000);
        writeln!(text, "{:>8}  {when:20}  {:10} {round:>8} {:>12}  {}", e.number, e.kind, e.bytes, e.sha256)?;
    }
    Ok(text)
}

/// Checks the hash chain of a journal and the server's receipts: `receipts`, or the file next to the journal. With the
/// site's bundle, which need not have its private key, the certificates of the receipts must be issued by its
/// authority.
///
/// # Errors
/// If the chain is broken, or a receipt is invalid; the error names the entry that was changed or is missing.
pub fn verify_journal(file: &Path, receipts: Option<&Path>, bundle: Option<&Path>) -> Result<String> {
    let (mut entries, mut bytes, mut link) = (0, 0, String::new());
    let count = |entry: &JournalEntry| {
        entries += 1;
        bytes += entry.bytes;
        link.clone_from(&entry.link);
    };
    let path = receipts.map_or_else(|| Receipts::path_of(file), Path::to_path_buf);
    let bundle = bundle.map(Certificates::read).transpose()?;
    let confirmed = if path.is_file() {
        Some(Receipts::verify_journal(&path, file, bundle.as_ref(), count))
    } else {
        let mut count = count;
        Journal::verify_each(file, |entry| count(&entry))?;
        None
    };
    let verified = format!("verified: {entries} entries, chain intact, {bytes} bytes left the site; the last link is {link}");
    let confirmed = match confirmed {
        None => {
            format!("{} is missing: no entry is confirmed by the server; compare with the receipts in the server's folder", path.display())
        }
        Some(Err(error @ Error::Receipt { .. })) => {
            return Err(error).with_context(|| format!("the receipts cannot be checked, but the journal itself is sound: {verified}"));
        }
        Some(confirmed) => match confirmed? {
            None => "the server has not confirmed any entry yet".into(),
            Some(confirmation) => described(&confirmation, entries, bundle.is_some()),
        },
    };
    let mut text = format!("{verified}\n{confirmed}\n");
    let head = Journal::head_path(file);
    if !head.is_file() {
        writeln!(text, "{} is missing: entries cut off at the end can only be detected with the receipts", head.display())?;
    }
    Ok(text)
}

/// Describes how many entries of a journal the server has confirmed, and who signed that.
fn described(confirmation: &Confirmation, entries: u64, with_bundle: bool) -> String {
    let Confirmation { receipts, entries: confirmed, rounds_done, server } = confirmation;
    // A checkpoint is signed before its round's answer leaves.
    let round = rounds_done.saturating_sub(1);
    let signers =
        if with_bundle { ", certificates issued by the consortium's authority" } else { "; use --bundle to check who signed them" };
    let rest = if *confirmed < entries {
        "; the server confirms entries at each checkpoint, so those after the last one are not confirmed, also in a finished run"
    } else {
        ""
    };
    format!(
        "the server has confirmed {confirmed} of {entries} entries, up to round {round} ({receipts} receipts, signatures valid{signers}){rest}; \
         the SHA-256 of its certificate is {server}"
    )
}

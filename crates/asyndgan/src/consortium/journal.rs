//! A site's journal of everything that left it.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context, Result};
use asyndgan_transport::{Certificates, Confirmation, Journal, JournalEntry, Receipts};

use super::dates::time;

/// Lists the latest entries of a journal, as a table for a terminal.
///
/// # Errors
/// If the journal cannot be read, or its chain is broken.
pub fn show_journal(file: &Path, last: usize) -> Result<String> {
    let entries = Journal::verify(file)?;
    let mut text = String::new();
    writeln!(text, "{:>8}  {:20}  {:10} {:>8} {:>12}  sha256", "entry", "time (UTC)", "kind", "round", "bytes")?;
    for e in &entries[entries.len().saturating_sub(last)..] {
        let round = e.round.map_or(String::new(), |r| r.to_string());
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
    let entries = Journal::verify(file)?;
    let bytes: u64 = entries.iter().map(|e| e.bytes).sum();
    let link = entries.last().map_or("", |e| &e.link);
    let mut text = String::new();
    writeln!(text, "verified: {} entries, chain intact, {bytes} bytes left the site; the last link is {link}", entries.len())?;
    let confirmed = confirmation(file, receipts, bundle, &entries)
        .with_context(|| format!("the receipts cannot be checked, but the journal itself is sound: {}", text.trim_end()))?;
    writeln!(text, "{confirmed}")?;
    let head = Journal::head_path(file);
    if !head.is_file() {
        writeln!(text, "{} is missing: entries cut off at the end can only be detected with the receipts", head.display())?;
    }
    Ok(text)
}

/// Describes how many entries of a journal the server has confirmed.
fn confirmation(journal: &Path, receipts: Option<&Path>, bundle: Option<&Path>, entries: &[JournalEntry]) -> Result<String> {
    let path = receipts.map_or_else(|| Receipts::path_of(journal), Path::to_path_buf);
    if !path.is_file() {
        return Ok(format!(
            "{} is missing: no entry is confirmed by the server; compare with the receipts in the server's folder",
            path.display()
        ));
    }
    let bundle = bundle.map(Certificates::read).transpose()?;
    Ok(match Receipts::verify(&path, entries, bundle.as_ref())? {
        None => "the server has not confirmed any entry yet".into(),
        Some(Confirmation { receipts, entries: confirmed, rounds_done, server }) => format!(
            "the server has confirmed {confirmed} of {} entries, up to round {} ({receipts} receipts, signatures valid{}); later entries are \
             confirmed at the next checkpoint, the last ones of a finished run never; the SHA-256 of its certificate is {server}",
            entries.len(),
            // A checkpoint is signed before its round's answer leaves.
            rounds_done.saturating_sub(1),
            if bundle.is_some() {
                ", certificates issued by the consortium's authority"
            } else {
                "; use --bundle to check who signed them"
            }
        ),
    })
}

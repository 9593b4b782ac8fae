use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use asyndgan_protocol::{MessageKind, SiteId};
use asyndgan_transport::{Confirmed, Identity, Journal, JournalEntry, Ledger, Receipts, Traffic};
use clap::Subcommand;

use super::server::alternatives;
use crate::{figures::bars, stdout::print};

/// Prints the traffic of a run, and the traffic that other methods would have caused.
pub(crate) fn ledger(folder: &Path, plot: Option<&Path>) -> Result<()> {
    let lines = Ledger::lines(&folder.join("ledger.csv"))?;
    let mut totals = BTreeMap::<(SiteId, MessageKind), Traffic>::new();
    let mut rounds = 0;
    for line in &lines {
        let total = totals.entry((line.site, line.kind)).or_default();
        total.messages += 1;
        total.bytes += line.bytes;
        rounds = rounds.max(line.round.map_or(0, |r| r + 1));
    }
    let mut text = String::new();
    writeln!(text, "{:10} {:10} {:>10} {:>14} {:>12}", "site", "message", "count", "bytes", "bytes each")?;
    for ((site, kind), t) in &totals {
        let way = if kind.leaves_a_site() { "from" } else { "to" };
        writeln!(
            text,
            "{:10} {kind:10} {:>10} {:>14} {:>12}  {way} the site",
            site.to_string(),
            t.messages,
            t.bytes,
            t.bytes / t.messages.max(1)
        )?;
    }
    let all: u64 = totals.values().map(|t| t.bytes).sum();
    writeln!(text, "total: {all} bytes in {} messages, {rounds} rounds started\n", lines.len())?;

    let alternatives = alternatives(folder)?;
    writeln!(text, "the same training with other methods, estimated by formula (4 bytes per value):")?;
    let ways = alternatives.ways();
    for way in &ways {
        writeln!(text, "{:18} {:>12}  {}", way.name, megabytes(way.bytes), way.formula)?;
    }
    writeln!(text)?;
    for verdict in alternatives.verdicts() {
        writeln!(text, "{verdict}")?;
    }
    print(&text)?;
    if let Some(path) = plot {
        ensure!(path.extension().is_some_and(|e| e == "png" || e == "svg"), "{} must end in .png or .svg", path.display());
        let mut rows = vec![("measured".to_owned(), all as f64 / 1e6)];
        rows.extend(ways.iter().map(|way| (way.name.to_owned(), way.bytes / 1e6)));
        bars(path, "megabytes transferred for the same training", &rows)?;
    }
    Ok(())
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

#[derive(Subcommand)]
pub(crate) enum JournalCommand {
    /// Check the hash chain and the server's receipts. Prints the entry that was changed or is missing, or up
    /// to which round the server has confirmed the journal.
    Verify {
        /// Journal file: journal.jsonl in a site's folder.
        file: PathBuf,
        /// Receipts file, for example the server's copy. Default: the file next to the journal.
        #[arg(long)]
        receipts: Option<PathBuf>,
        /// The site's bundle. Certificates in the receipts must be issued by its authority.
        #[arg(long)]
        bundle: Option<PathBuf>,
        /// The site's private key, where the bundle has certificates alone.
        #[arg(long, requires = "bundle")]
        key: Option<PathBuf>,
    },
    /// Print the latest entries.
    Show {
        /// Journal file.
        file: PathBuf,
        /// Number of entries.
        #[arg(long, default_value_t = 20)]
        last: usize,
    },
}

pub(crate) fn journal(command: JournalCommand) -> Result<()> {
    let (JournalCommand::Verify { file, .. } | JournalCommand::Show { file, .. }) = &command;
    let entries = Journal::verify(file)?;
    let mut text = String::new();
    if let JournalCommand::Show { last, .. } = command {
        writeln!(text, "{:>8}  {:20}  {:10} {:>8} {:>12}  sha256", "entry", "time (UTC)", "kind", "round", "bytes")?;
        for e in &entries[entries.len().saturating_sub(last)..] {
            let round = e.round.map_or(String::new(), |r| r.to_string());
            writeln!(
                text,
                "{:>8}  {:20}  {:10} {round:>8} {:>12}  {}",
                e.number,
                super::doctor::time(e.unix_ms as i64 / 1000),
                e.kind,
                e.bytes,
                e.sha256
            )?;
        }
        return print(&text);
    }
    let bytes: u64 = entries.iter().map(|e| e.bytes).sum();
    let link = entries.last().map_or("", |e| &e.link);
    writeln!(text, "verified: {} entries, chain intact, {bytes} bytes left the site; the last link is {link}", entries.len())?;
    if let JournalCommand::Verify { receipts, bundle, key, .. } = &command {
        print(&text)?;
        text = confirmation(file, receipts.as_deref(), bundle.as_deref(), key.as_deref(), &entries)? + "\n";
    }
    let head = Journal::head_path(file);
    if !head.is_file() {
        writeln!(text, "{} is missing: entries cut off at the end can only be detected with the receipts", head.display())?;
    }
    print(&text)
}

/// Describes how many entries of a journal the server has confirmed.
fn confirmation(
    journal: &Path,
    receipts: Option<&Path>,
    bundle: Option<&Path>,
    key: Option<&Path>,
    entries: &[JournalEntry],
) -> Result<String> {
    let path = receipts.map_or_else(|| Receipts::path_of(journal), Path::to_path_buf);
    if !path.is_file() {
        return Ok(format!(
            "{} is missing: no entry is confirmed by the server; compare with the receipts in the server's folder",
            path.display()
        ));
    }
    let read = |bundle: &Path| key.map_or_else(|| Identity::read(bundle), |key| Identity::read_with_key(bundle, key));
    let identity = bundle.map(read).transpose()?;
    Ok(match Receipts::verify(&path, entries, identity.as_ref())? {
        None => "the server has not confirmed any entry yet".into(),
        Some(Confirmed { receipts, entries: confirmed, rounds_done, server }) => format!(
            "the server has confirmed {confirmed} of {} entries, up to round {} ({receipts} receipts, signatures valid{}); later entries are \
             confirmed at the next checkpoint, the last ones of a finished run never; the SHA-256 of its certificate is {server}",
            entries.len(),
            // A checkpoint is signed before its round's answer leaves.
            rounds_done.saturating_sub(1),
            if identity.is_some() {
                ", certificates issued by the consortium's authority"
            } else {
                "; use --bundle to check who signed them"
            }
        ),
    })
}

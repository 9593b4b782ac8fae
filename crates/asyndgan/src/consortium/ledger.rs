//! The traffic of a run.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use anyhow::{Result, ensure};
use asyndgan_protocol::{MessageKind, SiteId};
use asyndgan_transport::{Ledger, Traffic};

use super::server::alternatives;
use crate::figures::bars;

/// Describes the traffic of a run, and the traffic that other methods would have caused; draws it to `plot`, a PNG or
/// SVG file.
///
/// # Errors
/// If the folder has no ledger, or a file cannot be read or written.
pub fn ledger(folder: &Path, plot: Option<&Path>) -> Result<String> {
    if let Some(path) = plot {
        ensure!(path.extension().is_some_and(|e| e == "png" || e == "svg"), "{} must end in .png or .svg", path.display());
    }
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
    if let Some(path) = plot {
        let mut rows = vec![("measured".to_owned(), all as f64 / 1e6)];
        rows.extend(ways.iter().map(|way| (way.name.to_owned(), way.bytes / 1e6)));
        bars(path, "megabytes transferred for the same training", &rows)?;
    }
    Ok(text)
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

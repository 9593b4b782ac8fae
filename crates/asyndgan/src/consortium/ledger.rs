//! The traffic of a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use anyhow::{Result, ensure};
use asyndgan_protocol::{MessageKind, SiteId};
use asyndgan_transport::{Ledger, Traffic};

use super::{compare::Alternatives, runs::RunProgress, server::alternatives, server_config::ServerConfig};
use crate::figures::bars;

/// Describes the traffic of a run, and the traffic that other methods would have caused; draws it to `plot`, a PNG or
/// SVG file.
///
/// # Errors
/// If the folder has no ledger, or a file cannot be read or written.
pub fn ledger(folder: &Path, plot: Option<&Path>) -> Result<String> {
    if let Some(path) = plot {
        let is_known = path.extension().is_some_and(|ending| ending == "png" || ending == "svg");
        ensure!(is_known, "{}: the name of a plot ends in .png or .svg", path.display());
        ensure!(path.extension().is_some_and(|e| e == "png" || e == "svg"), "{} must end in .png or .svg", path.display());
    }
    let path = folder.join("ledger.csv");
    ensure!(path.exists(), "{} does not exist: name the folder of a run, such as run or runs/NAME, or that of a site", path.display());
    let lines = Ledger::lines(&path)?;
    let mut totals = BTreeMap::<(SiteId, MessageKind), Traffic>::new();
    let mut rounds = 0;
    for line in &lines {
        let total = totals.entry((line.site, line.kind)).or_default();
        total.messages += 1;
        total.bytes += line.bytes;
        rounds = rounds.max(line.round.map_or(0, |r| r + 1));
    }
    let names = site_names(folder)?;
    let mut text = String::new();
    writeln!(text, "{:10} {:10} {:>10} {:>14} {:>12}", "site", "message", "count", "bytes", "bytes each")?;
    for ((site, kind), t) in &totals {
        let way = if kind.leaves_a_site() { "from" } else { "to" };
        writeln!(
            text,
            "{:10} {kind:10} {:>10} {:>14} {:>12}  {way} the site",
            names.of(*site),
            t.messages,
            t.bytes,
            t.bytes / t.messages.max(1)
        )?;
    }
    let all: u64 = totals.values().map(|t| t.bytes).sum();
    writeln!(text, "total: {all} bytes in {} messages, {rounds} rounds started\n", lines.len())?;

    // A site that has not begun the run has none.
    let alternatives = alternatives(folder)?.map(|alternatives| alternatives.after(rounds));
    let ways = alternatives.as_ref().map(Alternatives::ways).unwrap_or_default();
    if let Some(alternatives) = &alternatives {
        writeln!(text, "the same rounds with other methods, estimated by formula (a weight has 4 bytes, a value of a shared image 2):")?;
        for way in &ways {
            writeln!(text, "{:18} {:>12}  {}", way.name, megabytes(way.bytes), way.formula)?;
        }
        writeln!(text)?;
        for verdict in alternatives.verdicts() {
            writeln!(text, "{verdict}")?;
        }
    }
    if let Some(path) = plot {
        let mut rows = vec![("measured".to_owned(), all as f64 / 1e6)];
        rows.extend(ways.iter().map(|way| (way.name.to_owned(), way.bytes / 1e6)));
        bars(path, "megabytes transferred for the same training", &rows)?;
    }
    Ok(text)
}

/// The names of a run's sites, as far as its folder has them.
enum SiteNames {
    /// It is the folder of a site, with its own traffic alone.
    This,
    /// By their places in the run.
    All(Vec<String>),
}

impl SiteNames {
    fn of(&self, site: SiteId) -> String {
        match self {
            Self::This => "this site".into(),
            Self::All(names) => names.get(site.0 as usize).cloned().unwrap_or_else(|| site.to_string()),
        }
    }
}

fn site_names(folder: &Path) -> Result<SiteNames> {
    if folder.join("journal.jsonl").exists() {
        return Ok(SiteNames::This);
    }
    let progress = RunProgress::read(folder);
    let mut names: Vec<String> = progress.map_or_else(Vec::new, |progress| progress.sites.into_iter().map(|site| site.name).collect());
    // Traffic is counted by place.
    let config = folder.join("run.toml");
    let amendments = if config.exists() { ServerConfig::read(&config)?.amendments } else { Vec::new() };
    let replaced: BTreeSet<SiteId> = amendments.iter().filter(|change| !change.is_dropped).map(|change| change.site).collect();
    for site in replaced {
        if let Some(name) = names.get_mut(site.0 as usize) {
            name.push_str(" and earlier");
        }
    }
    Ok(SiteNames::All(names))
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

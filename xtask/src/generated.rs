//! Text between markers in README and guide, which is generated from records.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use asyndgan_paper::{AuditRecord, Experiment, Profile, Published, Settings, TradeOffRecord, results_summary, results_table};
use serde::de::DeserializeOwned;

use crate::{bench::record::Record, root};

/// Where published runs are.
pub(crate) const RESULTS: &str = "data/results";

/// Where the records of audits are.
const AUDITS: &str = "data/results/audits";

/// Where the records of trade-offs between privacy and Dice are.
pub(crate) const TRADE_OFFS: &str = "data/results/trade-offs";

/// Where the records of comparisons with PyTorch are.
pub(crate) const SPEED: &str = "data/results/speed";

/// The run that README shows.
const EXAMPLE: &str = "table2-phantoms-desk";

/// A file of the repository, and its expected content.
struct Generated {
    path: PathBuf,
    text: String,
}

/// Every file with generated text, as the records and settings of this checkout make it.
fn all() -> Result<Vec<Generated>> {
    let published = published()?;
    let mut files = Vec::new();
    for (name, run) in &published {
        let mut text = run.page();
        if let Some(task) = &run.table.configuration.task {
            let file = format!("{name}-task.toml");
            let _ = writeln!(text, "- task.toml: [{file}]({file})");
            let task = toml::to_string_pretty(task).with_context(|| format!("the task of {name} cannot be written as TOML"))?;
            files.push(Generated { path: root().join(RESULTS).join(file), text: task });
        }
        files.push(Generated { path: root().join(RESULTS).join(format!("{name}.md")), text });
    }
    let table = |folder: &str| ("results", results_table(&published, folder));
    let summary = ("results", results_summary(&published, "data/results/"));
    files.push(page("README.md", &[("example", example(&published)?), summary])?);
    files.push(page("data/results/README.md", &[table("")])?);
    files.push(page("crates/asyndgan/guide/reproduce.md", &[table("../../../data/results/")])?);
    files.push(page("crates/asyndgan/guide/privacy.md", &[("trade-offs", trade_offs()?), ("audits", audits()?)])?);
    files.push(page("crates/asyndgan/guide/settings.md", &[("settings", settings())])?);
    files.push(page("crates/asyndgan/guide/performance.md", &[("speed", speed()?)])?);
    Ok(files)
}

/// The published runs, by name.
fn published() -> Result<Vec<(String, Published)>> {
    records(RESULTS)
}

/// The published audits, each under the name of its record.
fn audits() -> Result<String> {
    let found = records::<AuditRecord>(AUDITS)?.into_iter().map(|(name, audit)| {
        let [used, others] = audit.patients;
        let tested = if (1..used).contains(&audit.tested) { format!(" ({} tested)", audit.tested) } else { String::new() };
        format!("### {name}\n\n{used} patients at the sites{tested}, {others} held out.\n\n{}", audit.as_markdown())
    });
    Ok(found.collect::<Vec<_>>().join("\n"))
}

/// The published trade-offs, each with its plot under the name of its record.
fn trade_offs() -> Result<String> {
    let found = records::<TradeOffRecord>(TRADE_OFFS)?.into_iter().map(|(name, record)| {
        format!(
            "### {name}\n\n<img src=\"../../../{TRADE_OFFS}/{name}.svg\" alt=\"{} by epsilon\">\n\n{}",
            record.metric,
            record.as_markdown()
        )
    });
    Ok(found.collect::<Vec<_>>().join("\n"))
}

/// The published comparisons with PyTorch, each with its plot under the name of its record.
fn speed() -> Result<String> {
    let found = records::<Record>(SPEED)?.into_iter().map(|(name, record)| {
        let plot = root().join(SPEED).join(format!("{name}.svg"));
        let plot = if plot.is_file() {
            format!("\n<img src=\"../../../{SPEED}/{name}.svg\" alt=\"Seconds per round against sites, batch, size and width\">\n")
        } else {
            String::new()
        };
        format!("### {name}\n\n{}{plot}", record.page())
    });
    Ok(found.collect::<Vec<_>>().join("\n"))
}

/// The records of a folder, by name.
fn records<T: DeserializeOwned>(folder: &str) -> Result<Vec<(String, T)>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(root().join(folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error).with_context(|| format!("cannot read {folder}")),
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let record = serde_json::from_str(&text)
            .with_context(|| format!("{} was written by a different version: publish it again", path.display()))?;
        found.push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), record));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// A page with generated text between its markers.
fn page(path: &str, texts: &[(&str, String)]) -> Result<Generated> {
    let path = root().join(path);
    let mut page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for (marker, text) in texts {
        page = replaced(&page, marker, text).with_context(|| path.display().to_string())?;
    }
    Ok(Generated { path, text: page })
}

/// What README shows of a table: the rows and the synthetic images of the run on phantoms.
fn example(published: &[(String, Published)]) -> Result<String> {
    let found = published.iter().find(|(name, _)| name == EXAMPLE);
    let (_, run) = found.with_context(|| format!("README shows {RESULTS}/{EXAMPLE}.json, which does not exist"))?;
    let picture = run.pictures.iter().find(|(file, _)| file.ends_with("synthetic.png"));
    let (file, _) = picture.with_context(|| format!("{EXAMPLE} was published without its synthetic images"))?;
    Ok(format!(
        "{}\n\n{}\n\n<img src=\"{RESULTS}/{file}\" width=\"420\" alt=\"Synthetic images beside real ones\">\n",
        run.table.title(),
        run.table.rows_as_markdown()
    ))
}

fn replaced(old: &str, marker: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {marker}: generated, do not edit -->\n"), format!("<!-- end of {marker} -->\n"));
    let (head, rest) = old.split_once(&begin).with_context(|| format!("no line {begin:?}"))?;
    let (_, tail) = rest.split_once(&end).with_context(|| format!("no line {end:?}"))?;
    Ok(format!("{head}{begin}\n{text}\n{end}{tail}"))
}

/// The settings with their documentation, and their values in each profile.
fn settings() -> String {
    let columns = [
        (Experiment::Table1, Profile::Desk),
        (Experiment::Table2, Profile::Desk),
        (Experiment::Table1, Profile::Paper),
        (Experiment::Table2, Profile::Paper),
    ];
    let values = columns.map(|(experiment, profile)| Settings::new(experiment, profile).plain());
    let mut out = String::from("|setting|meaning|desk, table1|desk, table2|paper, table1|paper, table2|\n|---|---|---|---|---|---|\n");
    for (name, meaning) in Settings::documentation() {
        let cells = values.each_ref().map(|of| of[&name].to_string().replace('"', ""));
        let _ = writeln!(out, "|`{name}`|{meaning}|{}|", cells.join("|"));
    }
    out
}

/// Regenerates all generated text.
pub(crate) fn write() -> Result<()> {
    for Generated { path, text } in all()? {
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        write_whole(&path, text.as_bytes())?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

/// Writes a file atomically.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension("partial");
    fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path)).with_context(|| format!("cannot write {}", path.display()))
}

/// Fails if generated text is out of date.
pub(crate) fn check() -> Result<()> {
    for Generated { path, text } in all()? {
        let same = fs::read_to_string(&path).is_ok_and(|old| old == text);
        ensure!(same, "{} is out of date: run `cargo xtask fix` to generate it again", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let old = "a\n<!-- x: generated, do not edit -->\nold\n<!-- end of x -->\nb\n";
        let new = replaced(old, "x", "|new|\n").expect("markers");
        assert_eq!(new, "a\n<!-- x: generated, do not edit -->\n\n|new|\n\n<!-- end of x -->\nb\n");
        assert_eq!(replaced(&new, "x", "|new|\n").expect("markers"), new);
        assert!(replaced("no markers", "x", "").is_err());
    }

    #[test]
    fn every_setting_is_documented() {
        let plain = Settings::new(Experiment::Table2, Profile::Desk).plain();
        let names: Vec<String> = Settings::documentation().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), plain.len());
        assert!(Settings::documentation().iter().all(|(name, meaning)| plain.contains_key(name) && !meaning.is_empty()));
    }
}

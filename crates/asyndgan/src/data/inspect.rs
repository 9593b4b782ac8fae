//! Describes the contents of a folder: a listing, a list of problems, and a contact sheet.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use anyhow::{Result, ensure};
use asyndgan_medio::{CaseFiles, DataSet, Split, Subject, dicom, read_annotations};

use super::prepare::lies_in;
use crate::{
    figures::{SHEET_ROWS, contact_sheet},
    progress::Progress,
};

/// Maximum number of labels that are listed one by one; if there are more, only their number is printed.
const LABELS_LISTED: usize = 8;

/// What a folder contains.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The listing, for people.
    pub text: String,
    /// What has to be fixed before the folder can be prepared.
    pub problems: Vec<String>,
}

/// Lists the contents of a folder, and draws a contact sheet, which shows the images themselves.
///
/// # Errors
/// If the folder is not a data set, or the contact sheet cannot be drawn.
pub fn inspect(folder: &Path, picture: &Path, layer: Option<String>) -> Result<Inspection> {
    ensure!(picture.extension().is_some_and(|e| e == "png"), "{} must end in .png", picture.display());
    ensure!(!lies_in(picture, folder), "{} is in the inspected folder; choose another location", picture.display());
    let mut set = DataSet::find(folder)?;
    set.layer = layer;
    let mut out = String::new();
    writeln!(out, "{}: {}", folder.display(), set.layout)?;
    let held_out = set.cases.iter().filter(|c| c.split == Split::Test).count();
    writeln!(
        out,
        "{} cases, {held_out} of them held out by the folder's own split; channels: {}",
        set.cases.len(),
        set.channels.join(", ")
    )?;
    if !set.labels.is_empty() {
        let named: Vec<String> = set.labels.iter().map(|(l, name)| format!("{l} {name}")).collect();
        writeln!(out, "labels: {}", named.join(", "))?;
    }
    if let Some(ignore) = set.ignore {
        writeln!(out, "label {ignore} is the ignore label: its voxels are not annotated")?;
    }
    let (mut problems, mut shown, mut skipped) = (set.unusable(), Vec::new(), Vec::new());
    skipped.extend(set.skipped.iter().filter(|p| !p.is_problem).cloned());
    let mut bar = Progress::new("inspect cases", set.cases.len() as u64);
    for (i, case) in set.cases.iter().enumerate() {
        for folder in case.images.iter().filter(|path| path.is_dir()) {
            // What cannot be read is an error of the case.
            skipped.extend(dicom::skipped(folder).unwrap_or_default());
        }
        match inspect_case(&set, case) {
            Ok(InspectedCase { line, first }) => {
                writeln!(out, "  {line}")?;
                if shown.len() < SHEET_ROWS {
                    shown.push(first.shown());
                }
            }
            Err(error) if case.missing.is_empty() => problems.push(format!("{}: {error:#}", case.id)),
            Err(_) => {}
        }
        bar.set(i as u64 + 1);
    }
    drop(bar);
    if !skipped.is_empty() {
        writeln!(out, "skipped files:")?;
        for one in &skipped {
            writeln!(out, "  {}: {}", one.path.display(), one.reason)?;
        }
    }
    if !shown.is_empty() {
        match contact_sheet(&shown, picture) {
            Ok(()) => writeln!(out, "contact sheet: {} (it shows the images themselves)", picture.display())?,
            Err(error) => problems.push(format!("cannot draw {}: {error:#}", picture.display())),
        }
    }
    Ok(Inspection { text: out, problems })
}

/// The result of inspecting a case.
struct InspectedCase {
    /// The line for the listing.
    line: String,
    /// Its first channel.
    first: Subject,
}

/// Reads every channel.
fn inspect_case(set: &DataSet, case: &CaseFiles) -> Result<InspectedCase> {
    let first = set.read(case, &[0])?;
    // A channel that cannot be read is a problem, too.
    for channel in 1..case.images.len() {
        set.read(case, &[channel])?;
    }
    let mut line = format!("{}: {}", case.id, grid(&first).iter().map(usize::to_string).collect::<Vec<_>>().join(" x "));
    if let Subject::Volume { channels, .. } = &first {
        let mm: Vec<String> = channels[0].spacing_mm().iter().map(|s| format!("{s:.3}")).collect();
        write!(line, ", {} mm", mm.join(" x "))?;
    }
    let counts = counts(&first);
    match counts.len() {
        0 => line.push_str(", nothing labelled"),
        n if n > LABELS_LISTED => write!(line, ", {n} instances")?,
        _ => {
            let listed: Vec<String> = counts.iter().map(|(l, n)| format!("{l}: {n}")).collect();
            write!(line, ", labelled elements: {}", listed.join(", "))?;
        }
    }
    if let (Some(path), [rows, columns]) =
        (case.labels.as_ref().filter(|p| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("xml"))), &grid(&first)[..])
    {
        let found = read_annotations(path, *rows, *columns, set.layer.as_deref())?;
        write!(
            line,
            ", {} regions: {} degenerate, {} overlapping, {} hidden by others, {} excluded",
            found.regions, found.degenerate, found.overlapping, found.hidden, found.excluded
        )?;
    }
    Ok(InspectedCase { line, first })
}

fn grid(subject: &Subject) -> Vec<usize> {
    match subject {
        Subject::Volume { channels, .. } => channels[0].voxels.shape().into(),
        Subject::Picture { planes, .. } => planes.shape()[1..].into(),
    }
}

fn counts(subject: &Subject) -> BTreeMap<u32, usize> {
    let labels: Vec<u32> = match subject {
        Subject::Volume { labels: Some(labels), .. } => labels.voxels.iter().copied().collect(),
        Subject::Picture { labels: Some(labels), .. } => labels.iter().copied().collect(),
        _ => Vec::new(),
    };
    let mut counts = BTreeMap::new();
    labels.into_iter().filter(|&l| l > 0).for_each(|l| *counts.entry(l).or_default() += 1);
    counts
}

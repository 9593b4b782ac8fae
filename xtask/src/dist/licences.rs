//! The licences of the crates in the program.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};

use super::crates::{Crate, linked};

/// Writes the licences of all crates of others, each text once, with the crates that it applies to.
///
/// # Errors
/// If a crate has neither a licence file nor an SPDX expression whose text is known.
pub(super) fn write(path: &Path) -> Result<()> {
    let mut texts = BTreeMap::<String, Vec<String>>::new();
    for of in linked()?.iter().filter(|of| of.checksum.is_some()) {
        for text in texts_of(of)? {
            texts.entry(text).or_default().push(format!("{} {} ({})", of.name, of.version, of.licence));
        }
    }
    let mut sections: Vec<_> = texts.into_iter().collect();
    sections.sort_by(|a, b| a.1.cmp(&b.1));
    let line = "=".repeat(80);
    let sections = sections.into_iter().map(|(text, crates)| format!("{}\n\n{text}\n\n{line}\n\n", crates.join("\n")));
    let text = format!("The program asyndgan contains these crates of others.\n\n{line}\n\n{}", sections.collect::<String>());
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The licence files of a crate; without any, the texts that its SPDX expression names.
fn texts_of(of: &Crate) -> Result<Vec<String>> {
    let mut files: Vec<_> = fs::read_dir(&of.folder)
        .with_context(|| format!("cannot read {}", of.folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && path.file_name().is_some_and(|name| is_licence(&name.to_string_lossy())))
        .collect();
    files.sort();
    if !files.is_empty() {
        return files.iter().map(|path| Ok(String::from_utf8_lossy(&fs::read(path)?).trim().to_owned())).collect();
    }
    let about = || format!("{} {}: {}", of.name, of.version, of.licence);
    let expression = spdx::Expression::parse_mode(&of.licence, spdx::ParseMode::LAX).with_context(about)?;
    let ids = expression.requirements().filter_map(|part| part.req.license.id());
    Ok(ids.map(|id| format!("{}\n\n{}", of.licence, id.text().trim())).collect())
}

fn is_licence(name: &str) -> bool {
    let name = name.to_uppercase();
    ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"].iter().any(|start| name.starts_with(start))
}

//! The licences of what is in a program or library.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::crates::{Crate, linked};

/// Parts of a crate's sources that are not in a program.
const NOT_LINKED: [&str; 6] = ["tests", "test", "benches", "examples", "fuzz", "target"];

/// Writes the licences of everything in a program or library of this workspace, each text once, with what it applies
/// to.
///
/// # Errors
/// If a crate has neither a licence file nor an SPDX expression whose texts are known.
pub(super) fn write(of: &str, path: &Path) -> Result<()> {
    let mut texts = BTreeMap::<String, Vec<String>>::new();
    for of in linked(of)?.iter().filter(|of| of.checksum.is_some()) {
        for text in texts_of(of)? {
            texts.entry(text).or_default().push(format!("{} {} ({})", of.name, of.version, of.licence));
        }
    }
    texts.entry(standard_library()?).or_default().push("the standard library of Rust (MIT OR Apache-2.0)".to_owned());
    let mut sections: Vec<_> = texts.into_iter().collect();
    sections.sort_by(|a, b| a.1.cmp(&b.1));
    let line = "=".repeat(80);
    let sections = sections.into_iter().map(|(text, parts)| format!("{}\n\n{text}\n\n{line}\n\n", parts.join("\n")));
    let text = format!("{of} contains these works of others.\n\n{line}\n\n{}", sections.collect::<String>());
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The licence files of a crate and of what it includes; without any, the texts that its SPDX expression names.
fn texts_of(of: &Crate) -> Result<Vec<String>> {
    let mut files = Vec::new();
    find(&of.folder, &mut files)?;
    files.sort();
    if !files.is_empty() {
        return files.iter().map(|path| Ok(String::from_utf8_lossy(&fs::read(path)?).trim().to_owned())).collect();
    }
    let about = || format!("{} {}: {}", of.name, of.version, of.licence);
    let expression = spdx::Expression::parse_mode(&of.licence, spdx::ParseMode::LAX).with_context(about)?;
    let mut texts = Vec::new();
    for part in expression.requirements() {
        let licence = part.req.license.id().with_context(about)?;
        ensure!(part.req.addition.is_none(), "{}: exceptions need a licence file", about());
        texts.push(format!("{}\n\n{}", of.licence, licence.text().trim()));
    }
    Ok(texts)
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !NOT_LINKED.contains(&name.as_str()) {
                find(&path, files)?;
            }
        } else if is_licence(&name) && path.extension().is_none_or(|extension| extension != "rs" && extension != "py") {
            files.push(path);
        }
    }
    Ok(())
}

/// The notice of Rust's own standard library, which comes with the compiler.
fn standard_library() -> Result<String> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("cannot start rustc")?;
    let documents = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join("share/doc");
    for name in ["rust/COPYRIGHT-library.html", "rust/COPYRIGHT", "rust/LICENSE-MIT", "rustc/LICENSE-MIT"] {
        if let Ok(text) = fs::read_to_string(documents.join(name)) {
            return Ok(text.trim().to_owned());
        }
    }
    let mit =
        spdx::license_id("MIT").context("a known licence")?.text().replace("<year> <copyright holders>", "The Rust Project Contributors");
    Ok(mit.trim().to_owned())
}

fn is_licence(name: &str) -> bool {
    let name = name.to_uppercase();
    ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE", "OFL", "UFL"].iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_within_crates_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("THIRD-PARTY");
        write("asyndgan", &path).expect("written");
        let text = fs::read_to_string(&path).expect("read");
        // Libraries in C, and fonts, in crates of other authors.
        for author in ["Eric Biggers", "Julian Seward", "fiat-crypto", "SIL OPEN FONT LICENSE", "standard library of Rust"] {
            assert!(text.contains(author), "{author}");
        }
    }
}

//! What README and guide name must exist: links, paths, settings, commands; and prose must be of readable width.

mod commands;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_paper::Settings;
use clap::Parser as _;

use self::commands::commands;
use crate::{Cli, root};

/// Characters of a line of prose, at most.
pub(crate) const WIDTH_MAX: usize = 120;
/// Lines of README.md, at most.
const README_LINES_MAX: usize = 180;

/// Checks every page.
pub(crate) fn check() -> Result<()> {
    let mut pages = vec![root().join("README.md"), root().join("crates/README.md")];
    for folder in ["data", "crates/asyndgan/guide"] {
        markdown(&root().join(folder), &mut pages)?;
    }
    for page in &pages {
        let text = fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
        checked(page, &text).with_context(|| page.display().to_string())?;
    }
    let readme = fs::read_to_string(root().join("README.md"))?;
    ensure!(readme.lines().count() <= README_LINES_MAX, "README.md has more than {README_LINES_MAX} lines");
    let is_table = |line: &str| line.starts_with('|');
    let is_short = |line: &str| line.chars().count() <= WIDTH_MAX || is_table(line);
    ensure!(readme.lines().all(is_short), "README.md has a line of more than {WIDTH_MAX} characters");
    examples(&readme)
}

fn markdown(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            markdown(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
    Ok(())
}

fn checked(page: &Path, text: &str) -> Result<()> {
    for target in links(text) {
        link(page, text, target)?;
    }
    for span in code_spans(text) {
        let path = span.split(':').next().unwrap_or_default();
        let is_path = ["crates/", "data/", "xtask/", "tests/"].iter().any(|top| path.starts_with(top)) && !path.contains([' ', '*']);
        // What users put there themselves is not committed.
        let is_theirs = ["data/brats2018", "data/monuseg"].iter().any(|theirs| path == *theirs || path.starts_with(&format!("{theirs}/")));
        ensure!(!is_path || is_theirs || root().join(path).exists(), "{path} does not exist");
    }
    for part in text.split("--set ").skip(1) {
        let name: String = part.chars().take_while(|c| c.is_ascii_lowercase() || "._".contains(*c) || c.is_ascii_digit()).collect();
        ensure!(part.starts_with("SECTION.NAME") || Settings::exists(&name), "--set {name}: there is no such setting");
    }
    for command in commands(text, "cargo xtask") {
        // A synopsis is no command.
        if let Err(error) = Cli::try_parse_from(&command)
            && !matches!(error.kind(), clap::error::ErrorKind::DisplayHelp)
        {
            bail!("{}: {error}", command.join(" "));
        }
    }
    // Pages that are generated from a record are not wrapped.
    let generated = page.with_extension("json").exists();
    for (number, line) in prose(text).filter(|_| !generated) {
        ensure!(line.chars().count() <= WIDTH_MAX, "line {number} has more than {WIDTH_MAX} characters");
    }
    Ok(())
}

/// Lines that are neither in a code block nor of a table, a heading or a picture, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(i, line)| {
        if line.trim_start().starts_with("```") {
            inside = !inside;
            return None;
        }
        (!inside && !line.starts_with(['|', '#', '!'])).then_some((i + 1, line))
    })
}

/// Text without code blocks.
fn outside_of_code(text: &str) -> String {
    let mut inside = false;
    let kept = text.split_inclusive('\n').filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    kept.collect()
}

/// Targets of links, reference definitions and pictures. A link's text may go over two lines, its target not.
fn links(text: &str) -> Vec<&str> {
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    let references = text.lines().filter(|line| line.starts_with('[')).filter_map(|line| line.split_once("]: ").map(|(_, target)| target));
    let pictures = text.split("src=\"").skip(1).filter_map(|rest| rest.split_once('"').map(|(target, _)| target));
    inline.chain(references).chain(pictures).collect()
}

fn code_spans(text: &str) -> Vec<String> {
    outside_of_code(text).split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The file is there, and the heading in it.
fn link(page: &Path, text: &str, target: &str) -> Result<()> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = page.parent().unwrap_or(Path::new("")).join(file);
    ensure!(file.is_empty() || path.exists(), "the link to {target} leads nowhere");
    if let Some(anchor) = anchor {
        let linked = if file.is_empty() { text.to_owned() } else { fs::read_to_string(&path)? };
        let found = outside_of_code(&linked).lines().any(|line| line.starts_with('#') && slug(line) == anchor);
        ensure!(found, "the link to {target} names a heading that is not there");
    }
    Ok(())
}

/// The anchor that GitHub gives a heading.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Rust in README is the tested example of a crate.
fn examples(readme: &str) -> Result<()> {
    for block in readme.split("```rust\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let mut found = false;
        for entry in fs::read_dir(root().join("crates"))? {
            // The README of a crate is the documentation of its library, whose examples are tests.
            let library = fs::read_to_string(entry?.path().join("README.md")).unwrap_or_default();
            found |= library.contains(block);
        }
        ensure!(found, "README.md has an example that no crate's README has, so no test runs it:\n{block}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_in_a_page_is_found() {
        let page = root().join("README.md");
        let good = "# A b\n[r]: clippy.toml\n<img src=\"LICENSE-MIT\">\n[x](Cargo.toml) [y](#a-b) `data/golden` `data/brats2018/x`\n```\ncargo xtask tidy   # fine\n[z](no)\n```\n";
        checked(&page, &good.replace("[z](no)\n", "")).expect("all there");
        let wrong = |from: &str, to: &str| checked(&page, &good.replace("[z](no)\n", "").replace(from, to)).is_err();
        assert!(wrong("Cargo.toml", "Cargo.yaml"));
        assert!(wrong("clippy.toml", "clippy.yaml"));
        assert!(wrong("LICENSE-MIT", "LICENCE"));
        assert!(wrong("#a-b", "#b-a"));
        assert!(wrong("data/golden", "data/silver"));
        assert!(wrong("cargo xtask tidy", "cargo xtask untidy"));
        assert!(wrong("cargo xtask tidy", "cargo xtask reproduce fig5 --set no_such_setting=1"));
        assert!(wrong("# A b\n", &format!("# A b\n{}\n", "x".repeat(121))));
    }

    #[test]
    fn a_heading_has_the_anchor_that_github_gives_it() {
        assert_eq!(slug("## What is read, and by *which* library?"), "what-is-read-and-by-which-library");
    }
}

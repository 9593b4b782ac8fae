//! `cargo xtask tidy`: checks the rules of the workspace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{cargo, docs, generated, root};

/// Which of our crates each may import, tests included; all others are forbidden.
const MAY_IMPORT: [(&str, &[&str]); 17] = [
    ("asyndgan-files", &[]),
    ("asyndgan-libtorch", &[]),
    ("asyndgan-medio", &["asyndgan-files"]),
    ("asyndgan-metrics", &[]),
    ("asyndgan-privacy", &[]),
    ("asyndgan-protocol", &[]),
    ("asyndgan-task", &[]),
    ("asyndgan-data", &["asyndgan-files", "asyndgan-medio", "asyndgan-metrics", "asyndgan-task"]),
    ("asyndgan-paper", &["asyndgan-task"]),
    ("asyndgan-models", &["asyndgan-files", "asyndgan-libtorch"]),
    ("asyndgan-transport", &["asyndgan-files", "asyndgan-protocol"]),
    (
        "asyndgan-training",
        &[
            "asyndgan-data",
            "asyndgan-files",
            "asyndgan-libtorch",
            "asyndgan-models",
            "asyndgan-privacy",
            "asyndgan-protocol",
            "asyndgan-task",
        ],
    ),
    ("asyndgan-evaluator", &["asyndgan-data", "asyndgan-libtorch", "asyndgan-metrics", "asyndgan-models", "asyndgan-task"]),
    (
        "asyndgan",
        &[
            "asyndgan-data",
            "asyndgan-evaluator",
            "asyndgan-files",
            "asyndgan-libtorch",
            "asyndgan-medio",
            "asyndgan-metrics",
            "asyndgan-models",
            "asyndgan-paper",
            "asyndgan-privacy",
            "asyndgan-protocol",
            "asyndgan-task",
            "asyndgan-training",
            "asyndgan-transport",
        ],
    ),
    ("asyndgan-metrics-py", &["asyndgan-metrics"]),
    ("e2e", &["asyndgan-paper"]),
    ("xtask", &["asyndgan-paper"]),
];
/// Crates that must never reach libtorch, a socket library or an async runtime, at any depth.
const PURE: [&str; 8] = [
    "asyndgan-files",
    "asyndgan-task",
    "asyndgan-medio",
    "asyndgan-data",
    "asyndgan-metrics",
    "asyndgan-privacy",
    "asyndgan-protocol",
    "asyndgan-paper",
];
const IMPURE: [&str; 5] = ["torch-sys", "tch", "tokio", "tonic", "rustls"];
/// What the top level shows, besides dotfiles.
const TOP: [&str; 12] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "crates",
    "data",
    "rustfmt.toml",
    "target",
    "tests",
    "xtask",
];

pub(crate) fn tidy() -> Result<()> {
    let output = cargo(&["metadata", "--format-version", "1"]).output().context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let graph = Graph::from_metadata(&metadata);
    imports(&graph)?;
    pure(&graph)?;
    let ndarrays = graph.used_by_us("ndarray");
    ensure!(ndarrays.len() == 1, "our crates use several versions of ndarray, so arrays of one would not fit another: {ndarrays:?}");
    top()?;
    comments()?;
    readme()?;
    generated::check()?;
    docs::check()
}

/// The resolved dependency graph.
struct Graph {
    names: BTreeMap<String, String>,
    needs: BTreeMap<String, Vec<String>>,
}

impl Graph {
    fn from_metadata(metadata: &serde_json::Value) -> Self {
        let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
        let list = |v: &serde_json::Value| v.as_array().cloned().unwrap_or_default();
        let names = list(&metadata["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
        let needs = list(&metadata["resolve"]["nodes"])
            .iter()
            .map(|n| (text(&n["id"]), list(&n["dependencies"]).iter().map(text).collect()))
            .collect();
        Self { names, needs }
    }

    fn id(&self, name: &str) -> Result<&String> {
        let found = self.names.iter().find(|(_, n)| *n == name).map(|(id, _)| id);
        found.with_context(|| format!("{name} is not a package of the workspace"))
    }

    /// The versions of a package that our crates use themselves.
    fn used_by_us(&self, name: &str) -> BTreeSet<&str> {
        let ours = self.needs.iter().filter(|(id, _)| is_ours(&self.names[*id]));
        ours.flat_map(|(_, needs)| needs).filter(|id| self.names[*id] == name).map(String::as_str).collect()
    }

    fn direct(&self, name: &str) -> Result<Vec<&str>> {
        Ok(self.needs[self.id(name)?].iter().map(|id| self.names[id].as_str()).collect())
    }

    fn reached(&self, name: &str) -> Result<Vec<&str>> {
        let mut open = vec![self.id(name)?];
        let mut seen = Vec::new();
        while let Some(id) = open.pop() {
            if !seen.contains(&id) {
                seen.push(id);
                open.extend(&self.needs[id]);
            }
        }
        Ok(seen.into_iter().map(|id| self.names[id].as_str()).collect())
    }
}

/// Comments are as wide as other prose; code in them may be wider.
fn comments() -> Result<()> {
    let listed = Command::new("git").args(["ls-files", "*.rs"]).current_dir(root()).output().context("cannot run git")?;
    for name in String::from_utf8_lossy(&listed.stdout).lines() {
        let text = fs::read_to_string(root().join(name)).with_context(|| format!("cannot read {name}"))?;
        let mut in_code = false;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//")) {
            in_code ^= line.contains("```");
            let fits = in_code || line.chars().count() <= docs::WIDTH_MAX;
            ensure!(fits, "{name}:{}: a comment of more than {} characters", number + 1, docs::WIDTH_MAX);
        }
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    name == "asyndgan" || name.starts_with("asyndgan-")
}

fn imports(graph: &Graph) -> Result<()> {
    for name in graph.names.values().filter(|n| is_ours(n)) {
        ensure!(
            MAY_IMPORT.iter().any(|(ours, _)| ours == name),
            "{name} has no line in MAY_IMPORT (xtask/src/tidy.rs): add the crates that it may import"
        );
    }
    for (name, allowed) in MAY_IMPORT {
        for import in graph.direct(name)?.into_iter().filter(|n| is_ours(n)) {
            ensure!(allowed.contains(&import), "{name} imports {import}, which crates/README.md forbids");
        }
    }
    Ok(())
}

fn pure(graph: &Graph) -> Result<()> {
    for name in PURE.into_iter().chain(["xtask", "e2e", "asyndgan-transport"]) {
        // The transport may one day hold sockets, but never libtorch.
        let forbidden = if name == "asyndgan-transport" { &IMPURE[..2] } else { &IMPURE[..] };
        for reached in graph.reached(name)? {
            ensure!(!forbidden.contains(&reached), "{name} reaches {reached}: crates/README.md forbids it");
        }
    }
    Ok(())
}

fn top() -> Result<()> {
    for entry in fs::read_dir(root())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(name.starts_with('.') || TOP.contains(&name.as_str()), "{name} does not belong at the top level");
    }
    Ok(())
}

/// The code map lists every crate, bench and example.
fn readme() -> Result<()> {
    let map = fs::read_to_string(root().join("crates/README.md")).context("crates/README.md")?;
    for entry in fs::read_dir(root().join("crates"))? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ensure!(map.contains(&format!("`{name}`")), "crates/README.md does not list {name}");
        for folder in ["benches", "examples"] {
            for file in fs::read_dir(path.join(folder)).into_iter().flatten() {
                let file = file?.path();
                let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                ensure!(map.contains(&format!("`{stem}")), "crates/README.md does not list {}", file.display());
            }
        }
    }
    Ok(())
}

//! The crates that the program is built from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{cargo, root};

/// One crate in the program.
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) version: String,
    /// An SPDX expression.
    pub(super) licence: String,
    /// Its sources on this machine.
    pub(super) folder: PathBuf,
    /// SHA-256 of its archive on crates.io; none for crates of this workspace.
    pub(super) checksum: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `None` for what is linked; "dev" and "build" are not.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// All crates that are linked into a crate of this workspace, itself included, by name.
pub(super) fn linked(into: &str) -> Result<Vec<Crate>> {
    let arguments = ["metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"];
    let output = cargo(&arguments).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let Metadata { packages, resolve } = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let nodes: BTreeMap<&str, &Node> = resolve.nodes.iter().map(|node| (&*node.id, node)).collect();
    let program = packages.iter().find(|package| package.name == into).with_context(|| format!("cargo metadata lists no {into}"))?;
    let mut found = BTreeSet::new();
    let mut waiting = vec![&*program.id];
    while let Some(id) = waiting.pop() {
        if found.insert(id) {
            let dependencies = nodes.get(id).into_iter().flat_map(|node| &node.deps);
            waiting.extend(dependencies.filter(|d| d.dep_kinds.iter().any(|kind| kind.kind.is_none())).map(|d| &*d.pkg));
        }
    }
    let lock: Lock = toml::from_str(&fs::read_to_string(root().join("Cargo.lock"))?).context("Cargo.lock")?;
    let mut linked = Vec::new();
    for package in packages.iter().filter(|package| found.contains(&*package.id)) {
        let Package { name, version, license, manifest_path, .. } = package;
        let locked = lock.package.iter().find(|locked| locked.name == *name && locked.version == *version);
        linked.push(Crate {
            name: name.clone(),
            version: version.clone(),
            // Older crates separate alternatives by a slash.
            licence: license.clone().with_context(|| format!("{name} {version} names no licence"))?.replace('/', " OR "),
            folder: manifest_path.parent().context("a manifest is in a folder")?.to_path_buf(),
            checksum: locked.and_then(|locked| locked.checksum.clone()),
        });
    }
    linked.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(linked)
}

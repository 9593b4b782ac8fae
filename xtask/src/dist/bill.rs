//! The software bill of materials, in the JSON format of `CycloneDX`.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{VERSION, crates::linked};
use crate::setup;

/// Writes the crates in the program and the libraries beside it.
pub(super) fn write(path: &Path) -> Result<()> {
    let crates = linked("asyndgan")?;
    let others = crates.iter().filter(|of| of.name != "asyndgan").map(|of| {
        let mut component = component(&of.name, &of.version, &of.licence, &format!("pkg:cargo/{}@{}", of.name, of.version));
        if let Some(checksum) = &of.checksum {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        component
    });
    let libraries = setup::wheels().map(|(name, version, sha256)| {
        let licence = if name == "torch" { "BSD-3-Clause" } else { "LicenseRef-NVIDIA-CUDA-EULA" };
        let mut component = component(name, version, licence, &format!("pkg:pypi/{name}@{version}"));
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
        component
    });
    // A part of the wheel of torch with a licence of its own.
    let openmp = component("libgomp", "1", "GPL-3.0-or-later WITH GCC-exception-3.1", "pkg:generic/libgomp@1");
    let program = component("asyndgan", VERSION, "MIT OR Apache-2.0", &format!("pkg:cargo/asyndgan@{VERSION}"));
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": program },
        "components": others.chain(libraries).chain([openmp]).collect::<Vec<Value>>(),
    });
    fs::write(path, serde_json::to_vec_pretty(&bill)?).with_context(|| format!("cannot write {}", path.display()))
}

fn component(name: &str, version: &str, licence: &str, purl: &str) -> Value {
    let kind = if name == "asyndgan" { "application" } else { "library" };
    json!({ "type": kind, "name": name, "version": version, "purl": purl, "licenses": [{ "expression": licence }] })
}

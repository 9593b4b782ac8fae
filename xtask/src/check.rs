//! Tests and checks: `test`, `ci` (read-only, cheapest first), and its twin `fix`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};

use crate::{build::build_program, cargo, root, setup, succeed, tidy};

pub(crate) fn test() -> Result<()> {
    // The end-to-end tests start the program; it must be there, and fast.
    build_program()?;
    succeed(cargo(&["test", "--workspace"]))
}

pub(crate) fn ci(tested: bool) -> Result<()> {
    step("format");
    succeed(cargo(&["fmt", "--all", "--check"]))?;
    if Command::new("typos").arg("--version").output().is_ok() {
        step("typos");
        let mut typos = Command::new("typos");
        typos.current_dir(root());
        succeed(typos)?;
    }
    step("tidy");
    tidy::tidy()?;
    setup::ensure_libtorch()?;
    step("clippy");
    succeed(cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    step("documentation");
    succeed(cargo(&["doc", "--quiet", "--workspace", "--no-deps"]))?;
    if !tested {
        step("tests");
        test()?;
    }
    for experiment in ["fig5", "table1"] {
        smoke(experiment, experiment, &[])?;
    }
    let beside = smoke("table2", "table2", &["--jobs", "2"])?;
    let alone = smoke("table2", "table2-alone", &["--jobs", "1", "--arms", "SynAll,AsynDgan"])?;
    for arm in ["SynAll", "AsynDgan"] {
        for network in ["generator", "segmenter"] {
            let path = Path::new("seed-0").join(arm).join(network).with_extension("safetensors");
            let same = std::fs::read(beside.join(&path))? == std::fs::read(alone.join(&path))?;
            ensure!(same, "{}: other bits with a step beside it", path.display());
        }
    }
    Ok(())
}

/// Does a smoke run from nothing, and returns its folder.
fn smoke(experiment: &str, name: &str, options: &[&str]) -> Result<PathBuf> {
    step(&format!("smoke run of {experiment} {}", options.join(" ")));
    let out = root().join("target/ci").join(name);
    if out.exists() {
        std::fs::remove_dir_all(&out)?;
    }
    let shown = out.to_string_lossy();
    let arguments = ["run", "--quiet", "--package", "xtask", "--", "reproduce", experiment, "--profile", "smoke", "--out", &shown];
    succeed(cargo(&[&arguments, options].concat()))?;
    Ok(out)
}

pub(crate) fn fix() -> Result<()> {
    succeed(cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"]))?;
    succeed(cargo(&["fmt", "--all"]))
}

fn step(name: &str) {
    eprintln!("--- {name}");
}

//! Tests and checks: `test`, `ci` (read-only, cheapest first), and its twin `fix`.

use std::process::Command;

use anyhow::Result;

use crate::{cargo, root, setup, succeed, tidy};

pub(crate) fn test() -> Result<()> {
    setup::ensure_libtorch()?;
    // The end-to-end tests start the program; it must be there, and fast.
    succeed(cargo(&["build", "--quiet", "--release", "--package", "asyndgan"]))?;
    succeed(cargo(&["test", "--workspace"]))
}

pub(crate) fn ci() -> Result<()> {
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
    step("tests");
    test()?;
    for (experiment, jobs) in [("fig5", "1"), ("table1", "1"), ("table2", "2")] {
        step(&format!("smoke run of {experiment}"));
        let out = root().join("target/ci").join(experiment);
        if out.exists() {
            std::fs::remove_dir_all(&out)?;
        }
        let out = out.to_string_lossy().into_owned();
        let smoke = ["reproduce", experiment, "--profile", "smoke", "--jobs", jobs, "--out", &out];
        succeed(cargo(&[&["run", "--quiet", "--package", "xtask", "--"], &smoke[..]].concat()))?;
    }
    Ok(())
}

pub(crate) fn fix() -> Result<()> {
    succeed(cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"]))?;
    succeed(cargo(&["fmt", "--all"]))
}

fn step(name: &str) {
    eprintln!("--- {name}");
}

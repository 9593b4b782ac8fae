//! The Python package asyndgan-flare.

use std::{fs, path::Path};

use anyhow::{Result, ensure};

use super::{VERSION, made, python::PythonEnvironment};
use crate::{build::build_program, root, succeed};

/// The package, relative to the workspace.
const PACKAGE: &str = "crates/asyndgan/python/asyndgan-flare";

/// Builds the wheel, and tests it, among others with a run inside FLARE's simulator.
pub(super) fn build(tools: &PythonEnvironment, out: &Path) -> Result<()> {
    let package = root().join(PACKAGE);
    let init = fs::read_to_string(package.join("asyndgan_flare/__init__.py"))?;
    ensure!(init.contains(&format!("__version__ = \"{VERSION}\"")), "the version of asyndgan-flare is not {VERSION}");
    let paths = [package.as_os_str(), "--outdir".as_ref(), out.as_os_str()];
    tools.run("python", ["-m", "build", "--wheel"].map(AsRef::as_ref).into_iter().chain(paths))?;
    let wheel = made(out, "asyndgan_flare-", ".whl")?;
    let user = PythonEnvironment::new("dist-flare-test", &["pytest", "mypy", "tensorboard", &wheel.to_string_lossy()])?;
    user.run(
        "python",
        ["-m", "mypy", "--strict", "--package", "asyndgan_flare", "--config-file"]
            .map(AsRef::as_ref)
            .into_iter()
            .chain([package.join("pyproject.toml").as_os_str()]),
    )?;
    let mut tests = user.command("python")?;
    tests.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider"]).arg(package.join("tests")).env("ASYNDGAN_PROGRAM", build_program()?);
    succeed(tests)
}

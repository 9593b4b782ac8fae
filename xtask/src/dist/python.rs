//! Python environments that build packages and test them.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{as_if_not_from_cargo, succeed, target};

/// A fresh Python virtual environment.
pub(super) struct PythonEnvironment {
    folder: PathBuf,
}

impl PythonEnvironment {
    pub(super) fn new(name: &str, packages: &[&str]) -> Result<Self> {
        let folder = target().join(name);
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "--clear"]).arg(&folder);
        succeed(venv).context("no environment can be created (Debian: apt-get install python3-venv)")?;
        let environment = Self { folder };
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        environment.run("python", install.iter().chain(packages))?;
        Ok(environment)
    }

    /// One of its programs, to start in the folder of the environment, where no source of a package is found.
    pub(super) fn command(&self, program: &str) -> Result<Command> {
        let programs = self.folder.join("bin");
        let path = env::join_paths([programs.clone()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())))?;
        let mut command = Command::new(programs.join(program));
        command.env("VIRTUAL_ENV", &self.folder).env("PATH", path).current_dir(&self.folder);
        Ok(as_if_not_from_cargo(command))
    }

    pub(super) fn run<A: AsRef<std::ffi::OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = A>) -> Result<()> {
        let mut command = self.command(program)?;
        command.args(arguments);
        succeed(command)
    }

    /// Where its packages are.
    pub(super) fn site_packages(&self) -> Result<PathBuf> {
        let output = self.command("python")?.args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).output();
        let output = output.context("cannot start python")?;
        Ok(Path::new(String::from_utf8_lossy(&output.stdout).trim()).to_path_buf())
    }
}

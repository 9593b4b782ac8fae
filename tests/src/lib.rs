//! Helpers shared by the end-to-end tests: the program, and folders for its runs.

pub mod consortium;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use asyndgan_paper::{Experiment, Profile, Run, Settings};

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The program `asyndgan`, built once.
///
/// # Panics
/// If it cannot be built.
pub fn program() -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| {
        // As every other command builds it: in another environment, cargo would build half of it again.
        let built = Command::new("cargo").args(["run", "--quiet", "--package", "xtask", "--", "program"]).current_dir(root()).output();
        let built = built.expect("cargo starts");
        assert!(built.status.success(), "asyndgan cannot be built: {}", String::from_utf8_lossy(&built.stderr));
        PathBuf::from(String::from_utf8_lossy(&built.stdout).trim())
    });
    let mut command = Command::new(path);
    command.env("ASYNDGAN_PROGRESS", "lines");
    command
}

/// The description of a smoke run.
pub fn smoke(experiment: Experiment, data: Option<PathBuf>) -> Run {
    let settings = Settings::new(experiment, Profile::Smoke);
    Run { data, ..Run::phantoms(experiment, Profile::Smoke, settings) }
}

/// Writes the description of a run into a folder.
///
/// # Panics
/// If the folder cannot be written.
pub fn describe(folder: &Path, run: &Run) {
    let text = serde_json::to_string(run).expect("a run can be written");
    std::fs::write(folder.join("run.json"), text).expect("the folder can be written");
}

/// Runs one step of a run.
///
/// # Panics
/// If the program cannot be started.
pub fn step(folder: &Path, arguments: &[&str]) -> Output {
    program().args(arguments).arg("--run").arg(folder).output().expect("the program starts")
}

/// Runs one step that must succeed.
///
/// # Panics
/// If it fails.
pub fn done(folder: &Path, arguments: &[&str]) {
    let output = step(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

//! Builds the program, with progress lines.

use std::{
    io::{IsTerminal as _, stderr},
    path::PathBuf,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{cargo, now, setup, target};

/// Interval of progress lines if the output is not a terminal.
const EVERY: Duration = Duration::from_mins(1);

/// Sets libtorch up and builds the program; returns where it is.
///
/// A terminal shows cargo's own progress, a log file one line per minute.
pub(crate) fn build_program() -> Result<PathBuf> {
    setup::ensure_libtorch()?;
    let program = target().join("release/asyndgan");
    let hint = if program.is_file() { "" } else { "; the first build takes about seven minutes on 2 cores" };
    eprintln!("building asyndgan{hint}");
    let terminal = stderr().is_terminal();
    let mut command = cargo(&["build", "--release", "--package", "asyndgan"]);
    if !terminal {
        command.arg("--quiet");
    }
    let began = now();
    let mut child = command.spawn().context("cannot start cargo")?;
    let mut reported = 0;
    let status = loop {
        if let Some(status) = child.try_wait().context("cannot wait for cargo")? {
            break status;
        }
        thread::sleep(Duration::from_millis(100));
        let minutes = began.elapsed().as_secs() / EVERY.as_secs();
        if !terminal && minutes > reported {
            reported = minutes;
            eprintln!("building asyndgan: {minutes} min");
        }
    };
    ensure!(status.success(), "cargo build failed ({status})");
    Ok(program)
}

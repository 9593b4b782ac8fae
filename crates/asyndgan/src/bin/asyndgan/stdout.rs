//! What the program prints.

use std::io::{ErrorKind, Write as _, stderr, stdout};

use anyhow::{Context, Result};
use asyndgan::progress;

/// Prints the whole text to standard output. A reader that stops early, like `head`, is not an error.
pub(crate) fn print(text: &str) -> Result<()> {
    match stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(()),
    }
}

/// Prints a line to standard error, independent of the log level. A closed pipe is not an error.
pub(crate) fn print_note(text: &str) {
    progress::suspend(|| _ = writeln!(stderr(), "{text}"));
}

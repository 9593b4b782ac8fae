use std::io::{ErrorKind, Write as _, stdout};

use anyhow::{Context, Result};

/// Prints the whole text. A reader that stops early, like `head`, is not an error.
pub(crate) fn print(text: &str) -> Result<()> {
    match stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(()),
    }
}

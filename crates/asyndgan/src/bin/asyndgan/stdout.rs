//! What the program prints.

use std::io::{ErrorKind, Write as _, stderr, stdout};

use anyhow::{Context, Result};
use asyndgan::progress;
use asyndgan_protocol::is_hidden;

/// Prints the whole text to standard output. A reader that stops early, like `head`, is not an error.
pub(crate) fn print(text: &str) -> Result<()> {
    print_while_read(text).map(drop)
}

/// As [`print`]; returns whether the text has a reader.
pub(crate) fn print_while_read(text: &str) -> Result<bool> {
    match stdout().write_all(printable(text).as_bytes()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// Prints a line to standard error, independent of the log level. A closed pipe is not an error.
pub(crate) fn print_note(text: &str) {
    progress::suspend(|| _ = writeln!(stderr(), "{}", printable(text)));
}

/// A text without characters that control the terminal or hide other text: errors contain what the other end sent.
fn printable(text: &str) -> String {
    text.replace(|c| is_hidden(c) && !matches!(c, '\n' | '\t'), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_text_cannot_control_the_terminal() {
        assert_eq!(printable("a\u{1b}]52;c;eA==\u{7}b\u{202e}\tc\r\n"), "a]52;c;eA==b\tc\n");
    }
}

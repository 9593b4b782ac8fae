//! The certificates of a consortium.

use std::{fmt::Write as _, path::Path};

use anyhow::Result;
use asyndgan_transport::Authority;

use super::dates::date;

/// Lists the certificates that an authority has issued, as a table for a terminal.
///
/// # Errors
/// If the folder is not that of an authority.
pub fn certificates(keys: &Path) -> Result<String> {
    let mut text = format!("{:>6}  {:24}  {:10}  state\n", "serial", "name", "expires");
    for issued in Authority::open(keys)?.issued() {
        let state = if issued.revoked { "revoked" } else { "valid" };
        writeln!(text, "{:>6}  {:24}  {:10}  {state}", issued.serial, issued.name, date(issued.not_after))?;
    }
    Ok(text)
}

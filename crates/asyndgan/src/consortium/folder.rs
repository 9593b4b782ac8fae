use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use asyndgan_files::{append_private, create_private_folder};
use asyndgan_paper::Run;

use crate::run::describe;

/// Locks a folder for this process.
pub(super) fn lock(folder: &Path) -> Result<fs::File> {
    create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let lock = append_private(&folder.join("site.lock")).with_context(|| format!("cannot write to {}", folder.display()))?;
    lock.try_lock().with_context(|| format!("another process is using {}: wait until it ends, or stop it", folder.display()))?;
    Ok(lock)
}

/// Whether an error of [`lock`] is that another process uses the folder.
pub(super) fn is_locked(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(fs::TryLockError::WouldBlock)))
}

/// Creates the run folder with its description, or checks that an existing one describes the same run.
pub(super) fn claim(folder: &Path, run: &Run) -> Result<()> {
    create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    describe(folder, run, false)
}

/// The name of a run's folder: letters, digits, `.`, `_` and `-`.
pub(super) fn folder_name(name: &str) -> Result<String> {
    let kept = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.trim().chars().map(kept).collect();
    let name = name.trim_start_matches(['.', '-', '_']).to_owned();
    ensure!(!name.is_empty() && name.len() <= 64, "a run's name has 1 to 64 characters, and begins with a letter or a digit");
    Ok(name)
}

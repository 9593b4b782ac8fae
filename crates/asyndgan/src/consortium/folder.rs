use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context, Result, ensure};
use asyndgan_files::{Lock, create_private_folder};
use asyndgan_paper::Run;

use crate::{files::lock_folder, run::write_description};

/// The lock of a site's folder, and of a server's queue while it is served.
pub(super) const LOCK: &str = "site.lock";

/// Checks that root does not create files that the user of a service cannot read.
///
/// # Errors
/// If root gives the command, and the folder belongs to another user.
pub fn check_owner(folder: &Path) -> Result<()> {
    let of = |path: &Path| fs::metadata(path).ok().map(|facts| facts.uid());
    let owner = folder.ancestors().find_map(of);
    let user = of(Path::new("/proc/self"));
    ensure!(
        user != Some(0) || owner.is_none_or(|owner| owner == 0),
        "{} does not belong to root: give this command as its owner, for example with runuser -u asyndgan -- asyndgan ...",
        folder.display()
    );
    Ok(())
}

/// Creates a private folder, and locks it for this process.
pub(super) fn lock(folder: &Path) -> Result<Lock> {
    create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    lock_folder(folder, LOCK)
}

/// Creates the run folder with its description, or checks that an existing one describes the same run.
pub(super) fn create_run_folder(folder: &Path, run: &Run) -> Result<()> {
    create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    write_description(folder, run, false)
}

/// The name of a run's folder: letters, digits, `.`, `_` and `-`.
pub(super) fn folder_name(name: &str) -> Result<String> {
    let kept = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.trim().chars().map(kept).collect();
    let name = name.trim_start_matches(['.', '-', '_']).to_owned();
    ensure!(!name.is_empty() && name.len() <= 64, "a run's name has 1 to 64 characters, and begins with a letter or a digit");
    Ok(name)
}

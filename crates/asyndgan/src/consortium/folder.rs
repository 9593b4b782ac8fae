use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use asyndgan_files::{append_private, create_private_folder};
use asyndgan_paper::Run;

use crate::run_folder::write_json;

/// Locks a folder for this process.
pub(super) fn lock(folder: &Path) -> Result<fs::File> {
    create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let lock = append_private(&folder.join("site.lock")).with_context(|| format!("cannot write to {}", folder.display()))?;
    lock.try_lock().with_context(|| format!("another process is using {}: wait until it ends, or stop it", folder.display()))?;
    Ok(lock)
}

/// Creates the run folder with its description, or checks that an existing one describes the same run.
pub(super) fn claim(folder: &Path, run: &Run) -> Result<()> {
    let path = folder.join("run.json");
    if !path.exists() {
        create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        return write_json(&path, run);
    }
    let before: Run = crate::run_folder::read_json(&path)?;
    if before != *run {
        bail!("{} describes a run with different settings: choose another folder, or delete this one", path.display());
    }
    Ok(())
}

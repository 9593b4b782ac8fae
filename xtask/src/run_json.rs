//! A run's description on disk: a folder belongs to one description, so that going on never mixes two.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use asyndgan_paper::Run;

/// Makes the folder with its description, or checks that it has the same one already.
pub(crate) fn claim(folder: &Path, run: &Run) -> Result<()> {
    let path = folder.join("run.json");
    let text = serde_json::to_string_pretty(run)? + "\n";
    match fs::read_to_string(&path) {
        Ok(old) if old == text => Ok(()),
        Ok(_) => bail!("{} describes a run with other settings: delete that folder, or choose another with --out", path.display()),
        Err(_) => {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            let beside = folder.join("run.partial");
            fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path)).with_context(|| format!("cannot write {}", path.display()))
        }
    }
}

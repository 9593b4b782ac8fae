//! The run description on disk. A folder belongs to one description, apart from further seeds, so that resuming never
//! mixes two runs; and to one command at a time.

use std::path::Path;

use anyhow::{Context, Result};
use asyndgan_files::{Lock, create_private_folder};
use asyndgan_paper::Run;

use crate::{files::lock_folder, run::write_description};

/// Creates the folder with its description, or checks that it already has the same one, apart from further seeds. No
/// other command can use the folder until the returned lock is dropped.
pub(super) fn lock_run_folder(folder: &Path, run: &Run) -> Result<Lock> {
    // An existing folder keeps its mode: others may work beside this run.
    if !folder.is_dir() {
        create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let lock = lock_folder(folder, "command.lock")?;
    write_description(folder, run, true)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use asyndgan_paper::{Experiment, Profile, Settings};

    use super::*;

    #[test]
    fn a_folder_is_of_one_description_and_of_one_command_at_a_time() {
        let place = tempfile::tempdir().expect("a folder");
        let run = Run::phantoms(Experiment::Fig5, Profile::Smoke, Settings::new(Experiment::Fig5, Profile::Smoke));
        let held = lock_run_folder(place.path(), &run).expect("free");
        assert!(lock_run_folder(place.path(), &run).is_err_and(|error| error.to_string().contains("another process is using")));
        drop(held);
        // A program that another test is just starting may still hold what it inherits.
        let busy = || lock_run_folder(place.path(), &run).is_err_and(|error| error.to_string().contains("another process is using"));
        let _ = (0..1000).take_while(|_| busy()).map(|_| std::thread::sleep(std::time::Duration::from_millis(1))).count();
        // Before anything is computed, corrected settings replace those of a first start that failed.
        let corrected = Run { seeds: vec![0, 1, 2], ..run.clone() };
        drop(lock_run_folder(place.path(), &corrected).expect("nothing is computed"));
        drop(lock_run_folder(place.path(), &run).expect("nothing is computed"));
        let proof = asyndgan_paper::Step::Prepare.proof(place.path(), run.experiment);
        std::fs::create_dir_all(proof.parent().expect("in a folder")).expect("created");
        std::fs::write(proof, "{}").expect("written");
        let other = Run { seeds: vec![1], ..run.clone() };
        assert!(lock_run_folder(place.path(), &other).is_err_and(|error| error.to_string().contains("different settings")));
        drop(lock_run_folder(place.path(), &run).expect("free again"));
        // Written in another way, by an earlier version: the same values.
        let compact = serde_json::to_string(&run).expect("JSON");
        std::fs::write(place.path().join("run.json"), compact).expect("written");
        drop(lock_run_folder(place.path(), &run).expect("the same run"));
    }
}

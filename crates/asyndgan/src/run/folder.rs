use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_data::TestSet;
use asyndgan_files::Lock;
use asyndgan_paper::{Arm, Prepared, Run, Step};
use tch::Device;

use super::provenance::provenance;
use crate::{
    configure, data,
    device::device,
    files::{lock_folder, lock_folder_shared, read_json, read_record, write_json},
};

/// The lock of a run folder, and of an arm's folder in it.
const LOCK: &str = "run.lock";

/// The folder of a run, locked while this is held.
#[derive(Debug)]
pub struct RunFolder {
    pub(crate) path: PathBuf,
    pub(crate) run: Run,
    pub(crate) device: Device,
    /// Held for as long as this process works in the folder.
    locks: Vec<Lock>,
}

impl RunFolder {
    /// Opens the folder for exclusive use by this process.
    ///
    /// # Errors
    /// If the folder has no valid `run.json`, or another process uses it.
    pub fn open(path: &Path) -> Result<Self> {
        Self::with_lock(path, lock_folder)
    }

    /// Opens the folder to read finished results; other processes may run steps of arms at the same time.
    ///
    /// # Errors
    /// As [`RunFolder::open`].
    pub fn open_to_read(path: &Path) -> Result<Self> {
        Self::with_lock(path, lock_folder_shared)
    }

    /// Opens the folder for the steps of one arm and seed; other arms and seeds may run at the same time.
    ///
    /// # Errors
    /// As [`RunFolder::open`]; if the run has no such arm or seed.
    pub fn open_arm(path: &Path, arm: Arm, seed: u64) -> Result<Self> {
        let mut folder = Self::open_to_read(path)?;
        folder.check_arm(arm, seed)?;
        folder.locks.push(lock_folder(&folder.arm(arm, seed)?, LOCK)?);
        Ok(folder)
    }

    fn with_lock(path: &Path, lock: impl Fn(&Path, &str) -> Result<Lock>) -> Result<Self> {
        ensure!(path.join("run.json").is_file(), "{} is not a run folder: it contains no run.json", path.display());
        let run: Run = read_json(&path.join("run.json"))?;
        run.check().with_context(|| path.join("run.json").display().to_string())?;
        let device = device(&run.device)?;
        let locks = vec![lock(path, LOCK)?];
        asyndgan_models::set_threads(run.settings.compute.site_threads);
        Ok(Self { path: path.into(), run, device, locks })
    }

    fn check_arm(&self, arm: Arm, seed: u64) -> Result<()> {
        let sites = if self.proof(Step::Prepare).exists() { self.prepared()?.sites.len() as u32 } else { self.run.settings.data.sites };
        let Run { experiment, seeds, .. } = &self.run;
        ensure!(self.run.possible_arms(sites).contains(&arm), "{} has no arm {arm} with {sites} sites", experiment.name());
        ensure!(
            seeds.contains(&seed),
            "{} has no seed {seed}: its seeds are {seeds:?}; --seeds of the experiment adds some",
            self.path.display()
        );
        Ok(())
    }

    pub(crate) fn prepared(&self) -> Result<Prepared> {
        read_record(&self.proof(Step::Prepare))
    }

    pub(crate) fn proof(&self, step: Step) -> PathBuf {
        step.proof(&self.path, self.run.experiment)
    }

    /// The folder of an arm and seed, created if it does not exist.
    pub(crate) fn arm(&self, arm: Arm, seed: u64) -> Result<PathBuf> {
        let folder = Step::folder(&self.path, arm, seed);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    /// The software and hardware that compute an arm's steps, for the records.
    pub(crate) fn provenance(&self, arm: Arm) -> BTreeMap<String, String> {
        let (server, site) = (configure::server_threads(&self.run, arm), self.run.settings.compute.site_threads);
        let threads = if server == site { format!("{site}") } else { format!("{site} per site, {server} on the server") };
        provenance(self.device, &threads)
    }

    /// The folder of a site's prepared cases; sites count from 1.
    pub(crate) fn site(&self, site: u32) -> PathBuf {
        data::site_folder(&self.path.join("prepared"), site as usize)
    }

    /// The prepared held-out cases.
    pub(crate) fn test(&self) -> Result<TestSet> {
        Ok(TestSet::open(&data::test_folder(&self.path.join("prepared")))?)
    }
}

/// Writes the description of a run into its folder, or checks that the folder already has the same one. With `correct`,
/// another description replaces it as long as nothing was computed, because the first start may have failed because of
/// its settings. Further seeds can be added at any time, and left out again until they are begun.
pub(crate) fn write_description(folder: &Path, run: &Run, correct: bool) -> Result<()> {
    let path = folder.join("run.json");
    if !path.exists() {
        return write_json(&path, run);
    }
    let before: Run = read_json(&path)?;
    if before == *run {
        return Ok(());
    }
    if correct {
        // No step may begin with the other description.
        let _lock = lock_folder(folder, LOCK)?;
        if differs_in_seeds(folder, &before, run) {
            let estimate = Step::Estimate.proof(folder, run.experiment);
            if estimate.exists() {
                fs::remove_file(&estimate).with_context(|| format!("cannot delete {}", estimate.display()))?;
            }
            return write_json(&path, run);
        }
        if !has_results(folder, &before)? {
            return write_json(&path, run);
        }
    }
    let shown = path.display();
    if before.seeds.starts_with(&run.seeds) && *run == (Run { seeds: run.seeds.clone(), ..before.clone() }) {
        let seeds = before.seeds.len();
        bail!("{shown} describes a run with {seeds} seeds: choose another folder, or use --seeds {seeds} or more");
    }
    bail!("{shown} describes a run with different settings: choose another folder, or delete this one")
}

/// Whether two runs differ in their last seeds alone, and nothing is computed for those that are left out.
fn differs_in_seeds(folder: &Path, before: &Run, run: &Run) -> bool {
    let common = before.seeds.len().min(run.seeds.len());
    let is_begun = |seed: &u64| folder.join(format!("seed-{seed}")).exists();
    *run == Run { seeds: run.seeds.clone(), ..before.clone() }
        && common > 0
        && before.seeds[..common] == run.seeds[..common]
        && !before.seeds[common..].iter().any(is_begun)
}

/// Whether a step of a run was done or begun.
fn has_results(folder: &Path, run: &Run) -> Result<bool> {
    if Step::Prepare.proof(folder, run.experiment).exists() || Step::Estimate.proof(folder, run.experiment).exists() {
        return Ok(true);
    }
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        if entry?.file_name().to_string_lossy().starts_with("seed-") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use asyndgan_paper::{Experiment, Profile, Settings};

    use super::*;

    #[test]
    fn a_run_description_is_replaced_before_there_are_results_and_seeds_are_added_later() {
        let place = tempfile::tempdir().expect("a folder");
        let run = |seed| {
            let settings = Settings::new(Experiment::Table2, Profile::Smoke);
            Run { seeds: vec![seed], ..Run::phantoms(Experiment::Table2, Profile::Smoke, settings) }
        };
        write_description(place.path(), &run(7), true).expect("new");
        assert!(write_description(place.path(), &run(8), false).is_err(), "a server's folder");
        write_description(place.path(), &run(8), true).expect("nothing is computed");
        fs::create_dir(place.path().join("seed-8")).expect("created");
        assert!(write_description(place.path(), &run(7), true).is_err());
        write_description(place.path(), &run(8), true).expect("the same run");
        let more = Run { seeds: vec![8, 9], ..run(8) };
        assert!(write_description(place.path(), &more, false).is_err(), "a server's folder");
        let estimate = Step::Estimate.proof(place.path(), Experiment::Table2);
        fs::write(&estimate, "{}").expect("written");
        write_description(place.path(), &more, true).expect("a further seed");
        assert!(!estimate.exists(), "it is of fewer seeds");
        write_description(place.path(), &run(8), true).expect("nothing is computed for the further seed");
        write_description(place.path(), &more, true).expect("a further seed");
        fs::create_dir(place.path().join("seed-9")).expect("created");
        let fewer = write_description(place.path(), &run(8), true).expect_err("a seed less").to_string();
        assert!(fewer.ends_with("use --seeds 2 or more"), "{fewer}");
        let first = Run { seeds: vec![9], ..run(8) };
        assert!(write_description(place.path(), &first, true).is_err(), "another first seed");
        let other = Run { seeds: vec![8, 9, 10], validate: true, ..more.clone() };
        assert!(write_description(place.path(), &other, true).is_err(), "a further seed and another setting");
        write_description(place.path(), &more, true).expect("the same run");
    }

    #[test]
    fn arms_are_worked_on_beside_each_other_and_one_arm_once() {
        let place = tempfile::tempdir().expect("a folder");
        let settings = Settings::new(Experiment::Table2, Profile::Smoke);
        let run = Run { seeds: vec![0, 1], ..Run::phantoms(Experiment::Table2, Profile::Smoke, settings) };
        write_json(&place.path().join("run.json"), &run).expect("written");
        for (absent, seed) in [(Arm::RealSubset(0), 0), (Arm::RealSubset(99), 0), (Arm::SynSubset(1), 0), (Arm::SynAll, 2)] {
            assert!(RunFolder::open_arm(place.path(), absent, seed).is_err(), "{absent} {seed}");
        }
        assert!(!place.path().join("seed-2").exists() && !place.path().join("seed-0").exists());
        let arm = |arm, seed| RunFolder::open_arm(place.path(), arm, seed);
        let held =
            (arm(Arm::SynAll, 0).expect("free"), arm(Arm::AsynDgan, 0).expect("another arm"), arm(Arm::SynAll, 1).expect("another seed"));
        for refused in [arm(Arm::SynAll, 0), RunFolder::open(place.path())] {
            assert!(refused.is_err_and(|error| error.to_string().contains("another process is using")));
        }
        drop(held);
        let whole = RunFolder::open(place.path()).expect("free again");
        assert!(arm(Arm::SynAll, 0).is_err());
        drop(whole);
    }
}

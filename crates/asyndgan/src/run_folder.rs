use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_data::TestSet;
use asyndgan_files::Access;
use asyndgan_paper::{Arm, Prepared, Run, Step};
use serde::{Serialize, de::DeserializeOwned};
use tch::Device;

use crate::{configure, provenance::provenance, shelf};

/// A run folder: its description and the paths in it.
pub(crate) struct RunFolder {
    pub(crate) path: PathBuf,
    pub(crate) run: Run,
    pub(crate) device: Device,
    /// Held for as long as this process works in the folder.
    locks: Vec<fs::File>,
}

impl RunFolder {
    /// Opens the folder for exclusive use by this process.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::locked(path, fs::File::try_lock)
    }

    /// Opens the folder to read finished results; other processes may run steps of arms at the same time.
    pub(crate) fn open_to_read(path: &Path) -> Result<Self> {
        Self::locked(path, fs::File::try_lock_shared)
    }

    /// Opens the folder for the steps of one arm and seed; other arms and seeds may run at the same time.
    pub(crate) fn open_arm(path: &Path, arm: Arm, seed: u64) -> Result<Self> {
        let mut folder = Self::open_to_read(path)?;
        folder.locks.push(hold(&folder.arm(arm, seed)?, fs::File::try_lock)?);
        Ok(folder)
    }

    fn locked(path: &Path, take: impl Fn(&fs::File) -> Result<(), fs::TryLockError>) -> Result<Self> {
        ensure!(path.join("run.json").is_file(), "{} is not a run folder: it contains no run.json", path.display());
        let run: Run = read_json(&path.join("run.json"))?;
        run.check().with_context(|| path.join("run.json").display().to_string())?;
        let device = device(&run.device)?;
        let locks = vec![hold(path, take)?];
        asyndgan_models::set_threads(run.settings.site_threads);
        Ok(Self { path: path.into(), run, device, locks })
    }

    pub(crate) fn prepared(&self) -> Result<Prepared> {
        read_json(&self.proof(Step::Prepare))
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
        let (server, site) = (configure::server_threads(&self.run, arm), self.run.settings.site_threads);
        let threads = if server == site { format!("{site}") } else { format!("{site} per site, {server} on the server") };
        provenance(self.device, &threads)
    }

    /// The folder of a site's prepared cases; sites count from 1.
    pub(crate) fn site(&self, site: u32) -> PathBuf {
        shelf::site_folder(&self.path.join("prepared"), site as usize)
    }

    /// The prepared held-out cases.
    pub(crate) fn test(&self) -> Result<TestSet> {
        Ok(TestSet::open(&shelf::test_folder(&self.path.join("prepared")))?)
    }
}

/// The lock of a folder, taken in one of two ways.
fn hold(folder: &Path, take: impl Fn(&fs::File) -> Result<(), fs::TryLockError>) -> Result<fs::File> {
    // Also for reading: some network file systems share no lock of a file that is only written.
    let open = fs::File::options().read(true).write(true).create(true).truncate(false).open(folder.join("run.lock"));
    let lock = open.with_context(|| format!("cannot write into {}", folder.display()))?;
    match take(&lock) {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => bail!("another process is using {}: wait for it to finish, or stop it", folder.display()),
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", folder.display())),
    }
}

/// Removes a folder, if it is there.
pub(crate) fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The device with this name.
pub(crate) fn device(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" => Ok(Device::cuda_if_available()),
        "cuda" if tch::Cuda::is_available() => Ok(Device::Cuda(0)),
        "cuda" => {
            bail!("CUDA is not available (libtorch without CUDA, or no usable GPU): run `cargo xtask setup --cuda`, or use device cpu")
        }
        other => bail!("{other} is not a device: use auto, cpu or cuda"),
    }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| {
        let hint = if path.exists() { "" } else { ": run the previous steps first" };
        format!("cannot read {}{hint}", path.display())
    })?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} was written by a different version or is damaged: delete it and run its step again", path.display()))
}

/// Writes a text file atomically.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    asyndgan_files::write(path, Access::Shared, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write_text(path, &(serde_json::to_string_pretty(value)? + "\n"))
}

#[cfg(test)]
mod tests {
    use asyndgan_paper::{Experiment, Profile, Settings};

    use super::*;

    #[test]
    fn arms_are_worked_on_beside_each_other_and_one_arm_once() {
        let place = tempfile::tempdir().expect("a folder");
        let settings = Settings::new(Experiment::Table2, Profile::Smoke);
        write_json(&place.path().join("run.json"), &Run::phantoms(Experiment::Table2, Profile::Smoke, settings)).expect("written");
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

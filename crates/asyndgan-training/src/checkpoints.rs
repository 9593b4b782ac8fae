use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use asyndgan_files::create_private_folder;
use asyndgan_models::{read_tensors, write_tensors};
use tch::Tensor;

use crate::Error;

/// One role's checkpoints in a folder: `ROLE-ROUND.safetensors`, the last few kept.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
    role: String,
    kept: usize,
    damaged: Vec<PathBuf>,
}

impl Checkpoints {
    pub(crate) fn open(folder: &Path, role: String, kept: usize) -> Result<Self, Error> {
        create_private_folder(folder).map_err(|source| Error::Io { path: folder.into(), source })?;
        Ok(Self { folder: folder.into(), role, kept, damaged: Vec::new() })
    }

    /// Whether a folder has checkpoints of a role. Nothing is changed.
    pub(crate) fn exist_in(folder: &Path, role: &str) -> Result<bool, Error> {
        let there = Self { folder: folder.into(), role: role.into(), kept: 0, damaged: Vec::new() };
        Ok(!there.rounds()?.is_empty())
    }

    /// Rounds with an intact checkpoint, ascending; damaged files are renamed to `.damaged`.
    pub(crate) fn sound(&mut self) -> Result<Vec<u64>, Error> {
        let mut sound = Vec::new();
        for round in self.rounds()? {
            let path = self.path(round);
            match read_tensors(&path) {
                Ok(_) => sound.push(round),
                Err(asyndgan_models::Error::Unreadable { .. }) => {
                    let aside = path.with_extension("damaged");
                    fs::rename(&path, &aside).map_err(|source| Error::Io { path, source })?;
                    self.damaged.push(aside);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sound)
    }

    /// Damaged checkpoints, under their new names.
    pub(crate) fn damaged(&self) -> &[PathBuf] {
        &self.damaged
    }

    fn rounds(&self) -> Result<Vec<u64>, Error> {
        let prefix = format!("{}-", self.role);
        let round = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix(&prefix)?.strip_suffix(".safetensors")?.parse().ok()
        };
        let io = |source| Error::Io { path: self.folder.clone(), source };
        let entries: Vec<fs::DirEntry> = fs::read_dir(&self.folder).and_then(Iterator::collect).map_err(io)?;
        let mut rounds: Vec<u64> = entries.into_iter().filter_map(round).collect();
        rounds.sort_unstable();
        Ok(rounds)
    }

    pub(crate) fn write(&self, round: u64, tensors: &BTreeMap<String, Tensor>) -> Result<(), Error> {
        write_tensors(&self.path(round), tensors)?;
        // Later checkpoints are from an attempt that was rolled back. They stay until the run has passed them.
        let rounds: Vec<u64> = self.rounds()?.into_iter().filter(|&r| r <= round).collect();
        for &old in &rounds[..rounds.len().saturating_sub(self.kept)] {
            let path = self.path(old);
            fs::remove_file(&path).map_err(|source| Error::Io { path, source })?;
        }
        Ok(())
    }

    pub(crate) fn read(&self, round: u64) -> Result<BTreeMap<String, Tensor>, Error> {
        Ok(read_tensors(&self.path(round))?)
    }

    fn path(&self, round: u64) -> PathBuf {
        self.folder.join(format!("{}-{round:08}.safetensors", self.role))
    }
}

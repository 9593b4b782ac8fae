use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use asyndgan_files::{append_private, sync_folder};
use asyndgan_privacy::{Composition, SubsampledGaussian};
use serde::{Deserialize, Serialize};

use crate::Error;

/// A step with differential privacy, as a line of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PrivateStep {
    /// The run's identity ([`asyndgan_protocol::RunDescription::id`]).
    pub run: String,
    /// The round, from 0.
    pub round: u64,
    /// SHA-256, in hexadecimal, of the discriminator before the step, from which the patients of the step follow.
    pub state: String,
    /// SHA-256, in hexadecimal, of that state, the clipped sum of gradients and the noise. A repeated step with the
    /// same key has the same result, and costs nothing.
    pub key: String,
    /// The probability with which each patient takes part.
    pub sampling_rate: f64,
    /// The standard deviation of the noise, as a multiple of the clipping norm.
    pub noise_multiplier: f64,
}

impl PrivateStep {
    fn mechanism(&self) -> Result<SubsampledGaussian, asyndgan_privacy::Error> {
        SubsampledGaussian::new(self.sampling_rate, self.noise_multiplier)
    }
}

/// The steps with differential privacy on one site's patients, in a file. It is shared by all runs on these patients,
/// and locked while it is open.
///
/// Each step is flushed to disk before its result is used, so the ledger never has fewer steps than were taken.
#[derive(Debug)]
pub struct PrivacyLedger {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
    /// The key of each step, by run, round and state.
    keys: BTreeMap<(String, u64, String), String>,
    /// The number of steps of each run.
    runs: BTreeMap<String, u64>,
    spent: Composition,
}

impl PrivacyLedger {
    /// Opens or creates a ledger. Removes an incomplete last line: the process was killed while writing it, so the step
    /// was not taken.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::PrivacyLedger`] for a line that is not a step, [`Error::PrivacyLedgerInUse`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.into(), source };
        let mut file = append_private(path).map_err(io)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::PrivacyLedgerInUse { path: path.into() },
            TryLockError::Error(source) => io(source),
        })?;
        sync_folder(path).map_err(io)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io)?;
        let length = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(length as u64).map_err(io)?;
        let (keys, runs, spent) = (BTreeMap::new(), BTreeMap::new(), Composition::new());
        let mut ledger = Self { path: path.into(), file, length: length as u64, keys, runs, spent };
        for (step, mechanism) in steps(path, &text[..length])? {
            ledger.add(step, mechanism);
        }
        Ok(ledger)
    }

    /// The steps of a ledger file, without an incomplete last line.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::PrivacyLedger`] for a line that is not a step.
    pub fn read(path: &Path) -> Result<Vec<PrivateStep>, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), source })?;
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        Ok(steps(path, whole)?.into_iter().map(|(step, _)| step).collect())
    }

    /// The steps that were taken.
    pub fn spent(&self) -> &Composition {
        &self.spent
    }

    /// The number of steps of a run.
    pub fn steps_of(&self, run: &str) -> u64 {
        self.runs.get(run).copied().unwrap_or(0)
    }

    /// Whether a step with this run, round and key was taken before.
    pub fn contains(&self, step: &PrivateStep) -> bool {
        self.keys.get(&(step.run.clone(), step.round, step.state.clone())) == Some(&step.key)
    }

    /// Records a step before it is taken. A step that was taken before is not recorded again. Returns whether the step
    /// is new.
    ///
    /// # Errors
    /// [`Error::Io`]: the step must not be taken. [`Error::Privacy`] if it is not a valid step.
    /// [`Error::NotReproducible`] if a step from the same state was taken with another result: both would use the same
    /// sample of patients, which costs more than two independent samples.
    pub fn record(&mut self, step: PrivateStep) -> Result<bool, Error> {
        if self.contains(&step) {
            return Ok(false);
        }
        if self.keys.contains_key(&(step.run.clone(), step.round, step.state.clone())) {
            return Err(Error::NotReproducible { round: step.round });
        }
        let mechanism = step.mechanism()?;
        let line = serde_json::to_string(&step).map_err(|e| self.io(e.into()))? + "\n";
        if let Err(source) = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()) {
            // A partial line would spoil the next one. A whole line that may not be on disk is removed as well.
            self.file.set_len(self.length).map_err(|e| self.io(e))?;
            return Err(self.io(source));
        }
        self.length += line.len() as u64;
        self.add(step, mechanism);
        Ok(true)
    }

    fn add(&mut self, step: PrivateStep, mechanism: SubsampledGaussian) {
        // A key that is listed twice was counted twice when it was written.
        self.spent.add(mechanism, 1);
        *self.runs.entry(step.run.clone()).or_default() += 1;
        self.keys.insert((step.run, step.round, step.state), step.key);
    }

    fn io(&self, source: io::Error) -> Error {
        Error::Io { path: self.path.clone(), source }
    }
}

/// The steps of whole lines.
fn steps(path: &Path, text: &str) -> Result<Vec<(PrivateStep, SubsampledGaussian)>, Error> {
    let step = |(number, line): (usize, &str)| {
        let invalid = |fact: String| Error::PrivacyLedger { path: path.into(), line: number + 1, fact };
        let step: PrivateStep = serde_json::from_str(line).map_err(|e| invalid(e.to_string()))?;
        let mechanism = step.mechanism().map_err(|e| invalid(e.to_string()))?;
        Ok((step, mechanism))
    };
    text.lines().enumerate().map(step).collect()
}

//! Runs all steps of an experiment of the paper, or of a table for a task of one's own, and resumes what was
//! interrupted.

mod ablate;
mod lock;
mod schedule;
mod trade_off;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result};
use asyndgan_paper::{Experiment, Profile, Run};

use self::schedule::Runner;
pub use self::trade_off::TradeOffAxes;
use crate::{audit::AuditJob, files::read_text};

/// A run, and the folder in which it is computed.
///
/// Every step is a process of the program `asyndgan`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExperimentJob {
    /// Everything that determines the result.
    pub run: Run,
    /// The run folder. A folder with the same run resumes, also with further seeds.
    pub folder: PathBuf,
    /// The program whose subcommands are the steps.
    pub program: PathBuf,
    /// Steps that run in parallel, of different arms or seeds.
    pub jobs: usize,
    /// Further arguments of every step, such as -v.
    pub arguments: Vec<OsString>,
    /// Whether `AsynDGAN`'s generator is attacked at the end; the page is `audit.html` in the folder.
    pub audit: bool,
}

impl ExperimentJob {
    /// A run with as many parallel steps as suit its profile: one per core, at most 4; 1 for the paper profile.
    pub fn new(run: Run, folder: impl Into<PathBuf>, program: impl Into<PathBuf>) -> Self {
        let jobs = match run.profile {
            Profile::Smoke | Profile::Desk => thread::available_parallelism().map_or(1, |cores| cores.get().min(4)),
            Profile::Paper => 1,
        };
        Self { run, folder: folder.into(), program: program.into(), jobs, arguments: Vec::new(), audit: false }
    }

    /// Runs all steps that are not done yet, and returns the table as Markdown.
    ///
    /// # Errors
    /// If another process computes in the folder, the folder has another run, a step fails, or the audit fails: a run
    /// without images or without `AsynDGAN` cannot be audited.
    pub fn run(&self) -> Result<String> {
        self.carry_out()?;
        if self.audit {
            tracing::info!("next: audit");
            AuditJob { seed: self.run.seeds[0], ..AuditJob::new(&self.folder, self.folder.join("audit.html")) }.audit()?;
        }
        read_text(&self.folder.join(format!("{}.md", self.run.experiment.name()))).context("the report step wrote no table")
    }

    /// Runs all steps that are not done yet.
    fn carry_out(&self) -> Result<()> {
        let Self { run, folder, program, jobs, arguments, .. } = self;
        if run.data.is_none() && run.experiment != Experiment::Fig5 {
            tracing::warn!("PHANTOM DATA: no real data given or found. Images are artificial, and so are the results.");
        }
        let _lock = lock::lock_run_folder(folder, run)?;
        let time = time_needed(run.profile);
        tracing::info!("next: prepare the images, train, synthesize, evaluate, report; {time} in {}", folder.display());
        Runner { program, arguments, folder, run, jobs: *jobs }.all()
    }
}

/// Lets a run use the images that were prepared for another with the same images.
fn share_prepared(from: &Path, to: &Path) -> Result<()> {
    let prepared = to.join("prepared");
    if fs::symlink_metadata(&prepared).is_err() {
        fs::create_dir_all(to)
            .and_then(|()| std::os::unix::fs::symlink(from.join("prepared"), &prepared))
            .with_context(|| format!("cannot link {}", prepared.display()))?;
    }
    Ok(())
}

fn time_needed(profile: Profile) -> &'static str {
    match profile {
        Profile::Smoke => "about a minute",
        Profile::Desk => "half an hour to an hour per seed on 2 cores",
        Profile::Paper => "days on a GPU, after an estimate",
    }
}

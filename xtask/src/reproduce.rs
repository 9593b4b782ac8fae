//! `cargo xtask reproduce`: sets up, builds, and runs the steps of an experiment.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_paper::{Arm, Experiment, Profile, Run, Settings};
use clap::{Args, ValueEnum};

use crate::{build::build_program, root, run_json, steps::Runner, succeed};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Which figure or table: fig5, table1 or table2.
    experiment: Experiment,
    /// Size of the run: smoke (a minute), desk (an hour per seed), or paper (days on a GPU).
    #[arg(long, default_value = "desk")]
    profile: Profile,
    /// Folder of real data: BraTS patients (table1), tiles in the MoNuSeg layout (table2), or another layout of data/README.md.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Number of seeds: 0, 1, ... Every case is averaged over them.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Device of the networks.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// Changes a setting of the profile, such as rounds=2500. The guide's page on settings lists all of them.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = Settings::change)]
    set: Vec<(String, serde_json::Value)>,
    /// Compute only these rows of the table, such as RealAll,AsynDgan.
    #[arg(long, value_delimiter = ',')]
    arms: Option<Vec<Arm>>,
    /// Score a patient of every training site, left out of training, instead of the held-out cases: choose settings with this.
    #[arg(long)]
    validate: bool,
    /// Steps that run in parallel, of different arms or seeds (in an ablation: of different seeds). The default is one per core, at most 4,
    /// and 1 for the paper profile.
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// The run folder [default: target/reproduce/EXPERIMENT-PROFILE].
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceName {
    Auto,
    Cpu,
    Cuda,
}

impl Arguments {
    pub(crate) fn jobs(&self) -> usize {
        let suitable = || match self.profile {
            Profile::Smoke | Profile::Desk => thread::available_parallelism().map_or(1, |cores| cores.get().min(4)),
            Profile::Paper => 1,
        };
        self.jobs.map_or_else(suitable, NonZeroUsize::get)
    }

    pub(crate) fn run(&self) -> Result<Run> {
        let Self { experiment, profile, .. } = *self;
        let device = match self.device {
            DeviceName::Auto => "auto",
            DeviceName::Cpu => "cpu",
            DeviceName::Cuda => "cuda",
        };
        ensure!(!(self.validate && experiment == Experiment::Fig5), "fig5 has no patients to validate on: leave --validate out");
        ensure!(self.seeds > 0, "--seeds 0 computes nothing: use at least 1");
        let data =
            match (&self.data, experiment) {
                (Some(_), Experiment::Fig5) => bail!("fig5 draws its own numbers: leave --data out"),
                (Some(folder), _) => Some(folder.canonicalize().with_context(|| {
                    format!("the folder {} does not exist: correct --data, or omit it to use phantoms", folder.display())
                })?),
                (None, Experiment::Fig5) => None,
                (None, Experiment::Table1) => Some(root().join("data/brats2018")).filter(|p| p.is_dir()),
                (None, Experiment::Table2) => Some(root().join("data/monuseg")).filter(|p| p.is_dir()),
            };
        let changes = self.set.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let settings = Settings::new(experiment, profile).with(experiment, changes)?;
        let (seeds, device) = ((0..self.seeds).collect(), device.into());
        Ok(Run { experiment, profile, data, seeds, device, validate: self.validate, arms: self.arms.clone(), settings })
    }
}

pub(crate) fn reproduce(arguments: &Arguments) -> Result<()> {
    let run = arguments.run()?;
    let kind = if run.validate { "-validate" } else { "" };
    let default = || root().join("target/reproduce").join(format!("{}-{}{kind}", run.experiment.name(), run.profile.name()));
    let folder = std::path::absolute(arguments.out.clone().unwrap_or_else(default)).context("--out is not a valid path")?;
    carry_out(&run, &folder, arguments.jobs())?;
    let table = std::fs::read_to_string(folder.join(format!("{}.md", run.experiment.name()))).context("the report step wrote no table")?;
    eprintln!("results: {}, to look at: {}", folder.display(), folder.join("report.html").display());
    show(&table);
    Ok(())
}

/// Runs all steps of a run that are not done yet, in its folder.
pub(crate) fn carry_out(run: &Run, folder: &Path, jobs: usize) -> Result<()> {
    if run.data.is_none() && run.experiment != Experiment::Fig5 {
        eprintln!("*** PHANTOM DATA: no real data given or found. Images are artificial, and so are the results. ***");
    }
    let _claim = run_json::claim(folder, run)?;
    let program = build_program()?;
    eprintln!("next: prepare the images, train, synthesize, evaluate, report; {} in {}", time_needed(run.profile), folder.display());
    Runner { program, folder, run, jobs }.all()
}

fn time_needed(profile: Profile) -> &'static str {
    match profile {
        Profile::Smoke => "about a minute",
        Profile::Desk => "half an hour to an hour per seed on 2 cores",
        Profile::Paper => "days on a GPU, after an estimate",
    }
}

/// Joins the reports of several runs.
pub(crate) fn report(runs: &[PathBuf], out: &Path) -> Result<()> {
    let mut command = Command::new(build_program()?);
    command.arg("report").arg("--run").args(runs).arg("--out").arg(out);
    succeed(command)?;
    eprintln!("{}", out.display());
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
pub(crate) fn show(table: &str) {
    println!("{table}");
}

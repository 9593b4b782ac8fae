//! `asyndgan reproduce`, `experiment` and `ablate`.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use asyndgan::{
    experiment::{ExperimentJob, TradeOffAxes},
    task_file::{TaskFile, read_site_lists},
};
use asyndgan_paper::{Arm, Experiment, MaskSetting, Profile, Run, Settings};
use clap::{Args, ValueEnum};

use crate::log;
use crate::stdout::{print, print_note};

/// Options of a run, apart from its task and its folder.
#[derive(Args)]
struct RunOptions {
    /// Number of seeds: 0, 1, ... Every case is averaged over them. A larger number adds seeds to a finished run.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Device of the networks.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// Changes a setting of the profile, such as protocol.rounds=2500. The guide's page on settings lists all of them.
    #[arg(long = "set", value_name = "SECTION.NAME=VALUE", value_parser = Settings::change)]
    set: Vec<(String, serde_json::Value)>,
    /// Compute only these rows of the table, such as RealAll,AsynDgan. FedGan and MdGan, other GANs that learn from
    /// several sites, are computed only if they are in this list.
    #[arg(long, value_delimiter = ',')]
    arms: Option<Vec<Arm>>,
    /// Score a patient of every training site, left out of training, instead of the held-out cases: choose settings
    /// with this.
    #[arg(long)]
    validate: bool,
    /// Steps that run in parallel, of different arms or seeds (in an ablation: of different seeds). The default is one
    /// per core, at most 4, and 1 for the paper profile.
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Attack AsynDgan's generator and feedback at the end, and write what was found to audit.html.
    #[arg(long)]
    audit: bool,
}

/// Which experiment of the paper, and how.
#[derive(Args)]
pub(crate) struct ReproduceArguments {
    /// Which figure or table: fig5, table1 or table2.
    experiment: Experiment,
    /// Size of the run: smoke (a minute), desk (an hour per seed), or paper (days on a GPU).
    #[arg(long, default_value = "desk")]
    profile: Profile,
    /// Folder of real data: BraTS patients (table1), tiles in the MoNuSeg layout (table2), or another layout of
    /// data/README.md [default: data/brats2018 or data/monuseg if it exists, else phantoms].
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(flatten)]
    options: RunOptions,
    /// The run folder [default: target/reproduce/EXPERIMENT-PROFILE].
    #[arg(long)]
    out: Option<PathBuf>,
    /// The folder that contains data and target.
    #[arg(long, hide = true, default_value = ".")]
    workspace: PathBuf,
}

/// Which table of one's own, and how.
#[derive(Args)]
pub(crate) struct ExperimentArguments {
    /// The task: a file that `asyndgan plan` wrote, brain, or tissue.
    #[arg(long)]
    task: String,
    /// Folder of the images and masks, in a layout that `asyndgan data inspect` reads.
    #[arg(long)]
    data: PathBuf,
    /// A file with the cases of each site, or the number of sites, across which the patients are then split by size.
    #[arg(long, default_value = "4")]
    sites: String,
    /// Size of the run: smoke (a minute), desk (an hour per seed), or paper (days on a GPU) [default: that of the task
    /// file].
    #[arg(long)]
    profile: Option<Profile>,
    #[command(flatten)]
    options: RunOptions,
    /// The run folder.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceName {
    Auto,
    Cpu,
    Cuda,
}

impl RunOptions {
    /// The run in its folder, with the number of parallel steps that the user chose.
    fn job(&self, run: Run, folder: PathBuf) -> Result<ExperimentJob> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut job = ExperimentJob::new(run, folder, program);
        job.jobs = self.jobs.map_or(job.jobs, NonZeroUsize::get);
        job.arguments = log::arguments();
        job.audit = self.audit;
        Ok(job)
    }

    fn device(&self) -> &'static str {
        match self.device {
            DeviceName::Auto => "auto",
            DeviceName::Cpu => "cpu",
            DeviceName::Cuda => "cuda",
        }
    }

    /// The run with these options.
    fn apply_to(&self, run: Run) -> Result<Run> {
        ensure!(self.seeds > 0, "--seeds 0 computes nothing: use at least 1");
        let is_audited = self.arms.as_ref().is_none_or(|arms| arms.contains(&Arm::AsynDgan)) && run.task().is_some();
        ensure!(is_audited || !self.audit, "--audit attacks the images of AsynDgan, which this run does not make");
        for arm in self.arms.iter().flatten() {
            let is_made = arm.uses().is_none_or(|used| self.arms.iter().flatten().any(|other| *other == used));
            ensure!(is_made, "{arm} uses the synthetic images of AsynDgan: add AsynDgan to --arms");
        }
        let (seeds, device, arms) = ((0..self.seeds).collect(), self.device().into(), self.arms.clone());
        Ok(Run { seeds, device, validate: self.validate, arms, ..run })
    }
}

impl ReproduceArguments {
    /// The run of a task file: of the experiment's own, perhaps with defaults of this machine.
    fn run(&self, file: &TaskFile) -> Result<Run> {
        let (experiment, is_toy) = (self.experiment, self.experiment == Experiment::Fig5);
        ensure!(!(self.options.validate && is_toy), "fig5 has no patients to validate on: leave --validate out");
        ensure!(!(self.data.is_some() && is_toy), "fig5 draws its own numbers: leave --data out");
        let usual = match experiment {
            Experiment::Table1 => Some("data/brats2018"),
            Experiment::Table2 => Some("data/monuseg"),
            Experiment::Fig5 | Experiment::Custom => None,
        };
        let usual = usual.map(|folder| self.workspace.join(folder)).filter(|folder| folder.is_dir());
        let given = self.data.as_deref().map(existing).transpose()?;
        let data = given.or(usual.map(|folder| existing(&folder)).transpose()?);
        let run = file.run(Some(self.profile), &self.options.set)?;
        self.options.apply_to(Run { data, ..run })
    }

    /// The folder of the run: `--out`, or one in `target`.
    fn folder(&self, default: &str) -> Result<PathBuf> {
        let default = || self.workspace.join("target").join(default);
        std::path::absolute(self.out.clone().unwrap_or_else(default)).context("--out is not a valid path")
    }
}

/// The absolute path of a folder of data.
fn existing(folder: &Path) -> Result<PathBuf> {
    let or_phantoms = "correct --data, or omit it to use phantoms";
    folder.canonicalize().with_context(|| format!("the folder {} does not exist: {or_phantoms}", folder.display()))
}

impl ExperimentArguments {
    fn run(&self, folder: &Path) -> Result<Run> {
        let data =
            self.data.canonicalize().with_context(|| format!("the folder {} does not exist: correct --data", self.data.display()))?;
        let lists = match self.sites.parse::<u32>() {
            Ok(_) => None,
            Err(_) => Some(
                read_site_lists(Path::new(&self.sites)).context("--sites is neither a number nor a file with the cases of each site")?,
            ),
        };
        let sites = lists.as_ref().map_or_else(|| self.sites.parse().unwrap_or(0), |lists| lists.sites.len() as u32);
        let mut changes = vec![("data.sites".to_owned(), sites.into())];
        changes.extend(self.options.set.iter().cloned());
        let file = TaskFile::read(&self.task)?.with_precision_of(self.profile, self.options.device(), folder)?;
        let run = file.run(self.profile, &changes)?;
        if let (Some(lists), Some(task)) = (&lists, run.task()) {
            lists.check(task).with_context(|| self.sites.clone())?;
        }
        self.options.apply_to(Run { data: Some(data), lists, ..run })
    }
}

/// Computes the table of a task of one's own.
pub(crate) fn experiment(arguments: &ExperimentArguments) -> Result<()> {
    let folder = std::path::absolute(&arguments.out).context("--out is not a valid path")?;
    let run = arguments.run(&folder)?;
    complete(&arguments.options.job(run, folder)?)
}

/// Computes a figure or table of the paper.
pub(crate) fn reproduce(arguments: &ReproduceArguments) -> Result<()> {
    let ReproduceArguments { experiment, profile, options, .. } = arguments;
    let kind = if options.validate { "-validate" } else { "" };
    let folder = arguments.folder(&format!("reproduce/{}-{}{kind}", experiment.name(), profile.name()))?;
    let file = TaskFile::paper(*experiment).with_precision_of(Some(*profile), options.device(), &folder)?;
    let run = arguments.run(&file)?;
    complete(&arguments.options.job(run, folder)?)
}

/// Removes each choice of a table's recipe, one at a time.
pub(crate) fn ablate(arguments: &ReproduceArguments) -> Result<()> {
    ensure!(!arguments.options.audit, "an ablation has no audit: leave --audit out");
    let run = arguments.run(&TaskFile::paper(arguments.experiment))?;
    let folder = arguments.folder(&format!("ablate/{}-{}", run.experiment.name(), run.profile.name()))?;
    print(&(arguments.options.job(run, folder)?.ablate()? + "\n"))
}

/// A trade-off between privacy and a metric.
#[derive(Args)]
pub(crate) struct TradeOffArguments {
    #[command(flatten)]
    run: ReproduceArguments,
    /// Epsilons of each patient, in addition to a run without differential privacy.
    #[arg(long, value_delimiter = ',')]
    epsilons: Vec<f64>,
    /// Numbers of phantom patients per site [default: that of the settings; real images have the patients that they
    /// have].
    #[arg(long, value_delimiter = ',')]
    patients: Vec<usize>,
    /// Which masks leave the sites: all, deformed, recombined, sampled [default: that of the settings].
    #[arg(long, value_delimiter = ',')]
    masks: Vec<MaskSetting>,
}

/// Runs an experiment with several epsilons and numbers of patients.
pub(crate) fn trade_off(arguments: &TradeOffArguments) -> Result<()> {
    ensure!(!arguments.run.options.audit, "a trade-off attacks every generator: leave --audit out");
    let run = arguments.run.run(&TaskFile::paper(arguments.run.experiment))?;
    let folder = arguments.run.folder(&format!("trade-off/{}-{}", run.experiment.name(), run.profile.name()))?;
    let job = arguments.run.options.job(run, folder)?;
    let mut axes = TradeOffAxes::default();
    axes.epsilons.clone_from(&arguments.epsilons);
    axes.patients.clone_from(&arguments.patients);
    axes.masks.clone_from(&arguments.masks);
    let record = job.trade_off(&axes)?;
    print_note(&format!("results: {}, plot: {}", job.folder.join("trade-off.json").display(), job.folder.join("trade-off.svg").display()));
    print(&record.as_markdown())
}

/// Runs all steps, and prints the table.
fn complete(job: &ExperimentJob) -> Result<()> {
    let table = job.run()?;
    print_note(&format!("results: {}, to look at: {}", job.folder.display(), job.folder.join("report.html").display()));
    if job.audit {
        print_note(&format!("audit: {}", job.folder.join("audit.html").display()));
    }
    print(&(table + "\n"))
}

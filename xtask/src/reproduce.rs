//! `cargo xtask reproduce`: sets up, builds, and does an experiment's steps in order, each by the program `asyndgan`.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_paper::{Arm, Experiment, Prepared, Profile, Run, SPENT, Settings, Step};
use clap::{Args, ValueEnum};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{cargo, root, run_json, setup, succeed, target};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Which figure or table: fig5, table1 or table2.
    experiment: Experiment,
    /// How much is computed: smoke (a minute), desk (an hour), or paper (days on a GPU).
    #[arg(long, default_value = "desk")]
    profile: Profile,
    /// Folder of real data: BraTS 2018 patients (table1), or tiles in the MoNuSeg layout (table2).
    #[arg(long)]
    data: Option<PathBuf>,
    /// How many seeds: 0, 1, ...
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Where networks are computed.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// Another value of one of the profile's settings (those of a run.json), as NAME=VALUE.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = Settings::change)]
    set: Vec<(String, serde_json::Value)>,
    /// Only these rows of the table.
    #[arg(long, value_delimiter = ',')]
    arms: Option<Vec<Arm>>,
    /// Score a patient of every site that has two, left out of training, instead of the held-out ones (phantoms: other ones): choose settings by this.
    #[arg(long)]
    validate: bool,
    /// The run's folder; target/reproduce/EXPERIMENT-PROFILE unless given.
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
    pub(crate) fn run(&self) -> Result<Run> {
        let Self { experiment, profile, .. } = *self;
        let device = match self.device {
            DeviceName::Auto => "auto",
            DeviceName::Cpu => "cpu",
            DeviceName::Cuda => "cuda",
        };
        ensure!(!(self.validate && experiment == Experiment::Fig5), "fig5 has no patients to validate on: leave --validate out");
        ensure!(self.seeds > 0, "--seeds 0 leaves nothing to do: take at least 1");
        let data =
            match (&self.data, experiment) {
                (Some(_), Experiment::Fig5) => bail!("fig5 draws its own numbers: leave --data out"),
                (Some(folder), _) => Some(folder.canonicalize().with_context(|| {
                    format!("no folder {}: give --data an existing one, or leave it out for phantoms", folder.display())
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
    let folder = std::path::absolute(arguments.out.clone().unwrap_or_else(default)).context("--out is no path")?;
    carry_out(&run, &folder)?;
    let table = std::fs::read_to_string(folder.join(format!("{}.md", run.experiment.name()))).context("the report left no table")?;
    eprintln!("results: {}, to look at: {}", folder.display(), folder.join("report.html").display());
    show(&table);
    Ok(())
}

/// Does all steps of a run in its folder that are not done yet.
pub(crate) fn carry_out(run: &Run, folder: &Path) -> Result<()> {
    if run.data.is_none() && run.experiment != Experiment::Fig5 {
        eprintln!("*** PHANTOM DATA: no real data given or found. Images are artificial, and so are the results. ***");
    }
    run_json::claim(folder, run)?;
    setup::ensure_libtorch()?;
    eprintln!("building asyndgan ...");
    succeed(cargo(&["build", "--quiet", "--release", "--package", "asyndgan"]))?;
    let runner = Runner { program: target().join("release/asyndgan"), folder, run };
    runner.all()
}

/// Joins the reports of several runs.
pub(crate) fn report(runs: &[PathBuf], out: &Path) -> Result<()> {
    setup::ensure_libtorch()?;
    succeed(cargo(&["build", "--quiet", "--release", "--package", "asyndgan"]))?;
    let mut command = Command::new(target().join("release/asyndgan"));
    command.arg("report").arg("--run").args(runs).arg("--out").arg(out);
    succeed(command)?;
    eprintln!("{}", out.display());
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
pub(crate) fn show(table: &str) {
    println!("{table}");
}

struct Runner<'a> {
    program: PathBuf,
    folder: &'a Path,
    run: &'a Run,
}

/// What suits a step, unless the user has said otherwise.
pub(crate) const ENVIRONMENT: [(&str, &str); 3] = [
    // Tensors of one size come and go all the time: their room is kept, not returned to the system and asked for again.
    ("MALLOC_MMAP_THRESHOLD_", "1073741824"),
    ("MALLOC_TRIM_THRESHOLD_", "4294967296"),
    ("MALLOC_TOP_PAD_", "268435456"),
];

/// The two bars: this step and the whole.
struct Bars {
    step: ProgressBar,
    whole: ProgressBar,
    started: Instant,
}

impl Bars {
    /// Time left of the whole, for people whose terminal shows no self.
    fn left(&self, skipped: u64) -> String {
        let (done, all) = (self.whole.position().saturating_sub(skipped), self.whole.length().unwrap_or(0).saturating_sub(skipped));
        if done == 0 || done >= all {
            return String::new();
        }
        let left = self.started.elapsed().mul_f64((all - done) as f64 / done as f64);
        format!(", about {} min left", left.as_secs().div_ceil(60))
    }
}

impl Runner<'_> {
    fn all(&self) -> Result<()> {
        let bars = MultiProgress::new();
        let style = |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let step = bars.add(ProgressBar::new(1)).with_style(style("{msg:40} [{bar:30}] {percent:>3} %, {eta} left"));
        let whole = bars.add(ProgressBar::new(1)).with_style(style("{msg:40} [{bar:30}] {percent:>3} %, {eta} left"));
        let bars = Bars { step, whole, started: now() };
        bars.whole.set_message(format!("{} {}", self.run.experiment.name(), self.run.profile.name()));
        let proof = Step::Prepare.proof(self.folder, self.run.experiment);
        if !self.is_done(Step::Prepare) {
            self.one(Step::Prepare, &bars, 0)?;
        }
        let text = std::fs::read_to_string(&proof).with_context(|| format!("cannot read {}", proof.display()))?;
        let prepared: Prepared =
            serde_json::from_str(&text).with_context(|| format!("{} is of another version: delete the run's folder", proof.display()))?;
        let sites = prepared.sites.len() as u32;
        let all = self.run.experiment.arms(sites);
        for arm in self.run.arms.iter().flatten() {
            ensure!(all.contains(arm), "{} has no {arm} with {sites} sites", self.run.experiment.name());
        }
        let steps = self.run.steps(sites);
        let cost = |step: &Step| step.cost(&self.run.settings, sites);
        bars.whole.set_length(steps.iter().map(cost).sum());
        let mut skipped = 0;
        for step in &steps {
            if self.is_done(*step) {
                skipped += cost(step);
            }
        }
        // Steps of an earlier start do not count for the speed.
        bars.whole.set_position(skipped);
        bars.whole.reset_eta();
        for (i, step) in steps.iter().enumerate() {
            if self.is_done(*step) {
                bars.step.suspend(|| eprintln!("[{}/{}] {}: done already", i + 1, steps.len(), step.label()));
                continue;
            }
            let seconds = self.one(*step, &bars, cost(step))?;
            let left = bars.left(skipped);
            bars.step.suspend(|| eprintln!("[{}/{}] {}: {seconds:.0} s{left}", i + 1, steps.len(), step.label()));
        }
        bars.step.finish_and_clear();
        bars.whole.finish_and_clear();
        Ok(())
    }

    /// The report is cheap and depends on all others: it is always made anew.
    fn is_done(&self, step: Step) -> bool {
        step != Step::Report && step.proof(self.folder, self.run.experiment).is_file()
    }

    /// Does a step, and returns the seconds from the start of its process to its end.
    fn one(&self, step: Step, bars: &Bars, cost: u64) -> Result<f64> {
        let (before, began) = (bars.whole.position(), now());
        bars.step.reset();
        bars.step.set_message(step.label());
        let mut command = Command::new(&self.program);
        command.args(step.arguments()).arg("--run").arg(self.folder).env("ASYNDGAN_PROGRESS", "lines").stdout(Stdio::piped());
        for (name, value) in ENVIRONMENT {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut first = None;
        for line in lines.map_while(std::io::Result::ok) {
            let mut words = line.split(' ');
            let (Some("progress"), Some(Ok(done)), Some(Ok(total))) =
                (words.next(), words.next().map(str::parse::<u64>), words.next().map(str::parse::<u64>))
            else {
                continue;
            };
            if first.is_none() {
                // What an earlier start has done does not count for the speed.
                bars.step.set_length(total);
                bars.step.set_position(done);
                bars.step.reset_eta();
                first = Some(done);
            }
            bars.step.set_position(done);
            bars.whole.set_position(before + cost * done / total.max(1));
        }
        let status = child.wait().context("cannot wait for the step")?;
        bars.whole.set_position(before + cost);
        if !status.success() {
            bail!("{} failed ({status}); mend it and start the same command again, it goes on from here", step.label());
        }
        bars.whole.tick();
        let seconds = began.elapsed().as_secs_f64();
        self.note(step, seconds)?;
        Ok(seconds)
    }

    /// Adds a line to the list of steps and what they took.
    fn note(&self, step: Step, seconds: f64) -> Result<()> {
        let path = self.folder.join(SPENT);
        let mut file = File::options().create(true).append(true).open(&path).with_context(|| format!("cannot write {}", path.display()))?;
        // One write, so that a line is there whole or not at all.
        let line = format!("{},{},{seconds:.1}\n", step.arguments()[0], step.label());
        file.write_all(line.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[allow(clippy::disallowed_methods, reason = "the runner may look at the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

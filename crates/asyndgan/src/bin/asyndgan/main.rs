//! The program `asyndgan`: one subcommand for each step of an experiment (`asyndgan reproduce` runs them in order), and
//! the server and site commands of a run across several hospitals.

mod audit;
mod consortium;
mod data;
mod experiment;
mod keys;
mod log;
mod plan;
mod privacy;
mod runs;
mod score;
mod stdout;
mod stop;
mod synthesize;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use asyndgan::{
    consortium::{doctor, ledger, server, site},
    device::device,
    progress,
    run::{self, RunFolder},
    segmenter::{SegmenterJob, segment, train_segmenter},
};
use asyndgan_paper::{Arm, Profile, Settings};
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use self::{
    consortium::{InitCommand, JournalCommand, approve, init, journal},
    data::DataCommand,
    experiment::{ExperimentArguments, ReproduceArguments},
    keys::KeysCommand,
    log::LogFormat,
    privacy::{PrivacyCommand, privacy},
    stdout::{print, print_note},
};

const EXAMPLES: &str = "Examples:
  asyndgan reproduce table2 --profile smoke --out run     all steps of an experiment, in order
  asyndgan train --run run --arm AsynDgan --seed 0        one step
  asyndgan report --run run
  asyndgan data inspect data/brats2018                    list the contents of a folder of images

If training is interrupted, start it again: it resumes from its last checkpoint. Every step writes its results to the run folder.";

const EXPERIMENT: &str = "Examples:
  asyndgan plan /data/Dataset042_Prostate --out task.toml
  asyndgan experiment --task task.toml --data /data/Dataset042_Prostate --sites sites.toml --out run
  asyndgan experiment --task task.toml --data /data/Dataset042_Prostate --sites 4 --profile smoke --out trial

A file of sites names the cases of each site, and what a site does not have:
  test = [\"case_7\", \"case_8\"]
  north = [\"case_1\", \"case_2\"]
  [south]
  cases = [\"case_3\", \"case_4\"]
  without_channels = [\"FLAIR\"]
  without_classes = [\"oedema\"]";
const REPRODUCE: &str = "Examples:
  asyndgan reproduce table1 --data data/brats2018 --seeds 3
  asyndgan reproduce fig5 --profile smoke --out /tmp/fig5";
const SEGMENTER: &str = "Examples:
  asyndgan train-segmenter --cases synthetic/cases --out segmenter.safetensors
  asyndgan train-segmenter --cases prepared/site-1 prepared/site-2 --task task.toml --out segmenter.safetensors
  asyndgan segment scan.nii.gz --segmenter segmenter.safetensors --out masks";
const REPORT: &str = "Examples:
  asyndgan report --run target/reproduce/table2-desk
  asyndgan report --run target/reproduce/fig5-desk target/reproduce/table1-desk --out all.html";
const SERVER: &str = "Examples:
  asyndgan init server && asyndgan keys init --server gan.example.org && asyndgan keys issue north
  asyndgan server --config run.toml

If the server stops for any reason, start it again: it resumes from its last checkpoint.";
const SITE: &str = "Examples:
  asyndgan init site && asyndgan doctor --config site.toml
  asyndgan site approve --config site.toml       show the run and what it means for privacy
  asyndgan site --config site.toml

If the site stops for any reason, start it again: it resumes. While the server is unreachable, the site retries.";
const KEYS: &str = "Examples:
  asyndgan keys init --encrypt --server gan.example.org 192.0.2.7
  asyndgan keys request north          at the hospital: the private key stays there
  asyndgan keys sign north north.csr         on the operator's machine
  asyndgan keys issue north            both steps at once, to try it out
  asyndgan keys revoke north";

#[derive(Parser)]
#[command(version, about = "Learn from medical images that never leave their hospitals", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    step: Command,
    /// More messages on standard error: -v for debugging, -vv for everything. The environment variable `RUST_LOG`
    /// selects in detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Format of the messages on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Write the messages to files, one per day, and not to standard error: the date is added to this name. The files
    /// of the last 30 days are kept.
    #[arg(long, global = true, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

#[derive(Args)]
struct Where {
    /// The run folder (contains run.json).
    #[arg(long)]
    run: PathBuf,
}

#[derive(Args)]
struct Which {
    #[command(flatten)]
    at: Where,
    /// RealAll, RealSubset-N, SynAll, SynSubset-N, AsynDgan, OwnPlusSyn-N, FedAvg, FedGan, MdGan or AsynDgan-Overlap.
    #[arg(long)]
    arm: Arm,
    /// One of the run's seeds.
    #[arg(long)]
    seed: u64,
}

impl Which {
    fn open(&self) -> Result<RunFolder> {
        RunFolder::open_arm(&self.at.run, self.arm, self.seed)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Inspect a data set, and propose a task for it, with the reason for every line.
    #[command(after_help = plan::EXAMPLES)]
    Plan(plan::PlanArguments),
    /// Compute the table of all arms for a task of your own; resumes if started again.
    #[command(after_help = EXPERIMENT)]
    Experiment(ExperimentArguments),
    /// Compute a figure or table of the paper; resumes if started again.
    #[command(after_help = REPRODUCE)]
    Reproduce(ReproduceArguments),
    /// Remove each choice of a table's recipe, one at a time, and report the effect on AsynDgan, on validation
    /// patients.
    Ablate(ReproduceArguments),
    /// Read or generate the images, and split them across sites.
    Prepare(Where),
    /// Run a few rounds and estimate the total time of the run.
    Estimate(Where),
    /// Train an arm's generator through the protocol.
    Train(Which),
    /// Make synthetic images for an arm of a run, or from your own masks with a standalone generator.
    #[command(after_help = synthesize::EXAMPLES)]
    Synthesize(synthesize::SynthesizeArguments),
    /// Train a segmenter on synthetic images, or on a hospital's own images.
    #[command(after_help = SEGMENTER)]
    TrainSegmenter {
        /// Cases: an arm's folder `synthetic`, the folder `cases` from `synthesize --generator`, or folders from
        /// `data prepare`.
        #[arg(long, required = true, num_args = 1..)]
        cases: Vec<PathBuf>,
        /// brain, tissue, or a task file [default: the task that the cases describe].
        #[arg(long, alias = "images")]
        task: Option<String>,
        /// The profile whose segmenter settings apply: smoke, desk or paper. Default: that of the task file, or desk.
        #[arg(long)]
        profile: Option<Profile>,
        /// Override a setting of the profile, as SECTION.NAME=VALUE; may be repeated.
        #[arg(long = "set", value_name = "SECTION.NAME=VALUE", value_parser = Settings::change)]
        set: Vec<(String, serde_json::Value)>,
        /// Factor by which pictures were downsampled [default: the factor that the cases describe].
        #[arg(long, alias = "shrink")]
        downsampling: Option<usize>,
        /// Seed of weights and batches.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// auto, cpu or cuda.
        #[arg(long, default_value = "auto")]
        device: String,
        /// Output file (.safetensors). A CSV of the loss and a folder of `TensorBoard` events are written next to it.
        #[arg(long)]
        out: PathBuf,
    },
    /// Segment images; every mask has the grid of its image.
    #[command(after_help = SEGMENTER)]
    Segment {
        /// Volumes (NIfTI, NRRD, MetaImage, the folder of a DICOM series) or pictures (PNG, TIFF); of several channels,
        /// the file `NAME_0000` of the first.
        #[arg(required = true)]
        images: Vec<PathBuf>,
        /// Segmenter file written by `evaluate` or `train-segmenter`.
        #[arg(long)]
        segmenter: PathBuf,
        /// auto, cpu or cuda.
        #[arg(long, default_value = "auto")]
        device: String,
        /// The folder for the masks.
        #[arg(long)]
        out: PathBuf,
    },
    /// Train an arm's segmenter and score it on the held-out cases.
    Evaluate(Which),
    /// Train and score one segmenter for each generator that was kept during an arm's training.
    Curve(Which),
    /// Write the table, the pictures and the report of a run, or one joint report of several runs.
    #[command(after_help = REPORT)]
    Report {
        /// Run folder; several are accepted.
        #[arg(long, required = true, num_args = 1..)]
        run: Vec<PathBuf>,
        /// Path of the report. Default: report.html in the run folder. Required for several runs.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Score segmentations from any source against the ground truth.
    Score(score::ScoreArguments),
    /// Run the server of a run across hospitals: it owns the generator and waits for sites to connect.
    #[command(after_help = SERVER)]
    Server {
        /// The server's configuration; `asyndgan init server` writes one.
        #[arg(long)]
        config: PathBuf,
    },
    /// Serve one run after another from a queue, and manage the queue.
    #[command(subcommand, after_help = runs::EXAMPLES)]
    Run(runs::RunCommand),
    /// Take part in a run as a hospital: keep data and discriminator here, and connect to the server.
    #[command(after_help = SITE, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Site {
        /// The site's configuration; `asyndgan init site` writes one.
        #[arg(long, required = true)]
        config: Option<PathBuf>,
        #[command(subcommand)]
        command: Option<SiteCommand>,
    },
    /// Write a configuration file with explanatory comments.
    #[command(subcommand)]
    Init(InitCommand),
    /// Manage the keys and certificates of the consortium.
    #[command(subcommand, after_help = KEYS)]
    Keys(KeysCommand),
    /// Check a site before the run: data, certificate, clock, connection to the server, disk, libtorch, policy, traffic
    /// and duration.
    Doctor {
        /// The site's configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// Show the traffic of a server's or a site's run, compared with what other methods would have transferred.
    Ledger {
        /// The run folder, as named in the configuration.
        folder: PathBuf,
        /// Also plot it to this file, as PNG or SVG.
        #[arg(long)]
        plot: Option<PathBuf>,
    },
    /// Verify or show a site's journal of everything that left the site.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Attack a finished run, and write a page about whose images were used, copied or reconstructed.
    #[command(after_help = audit::EXAMPLES)]
    Audit(audit::AuditArguments),
    /// Plan the budget of differential privacy, and show what was spent.
    #[command(subcommand)]
    Privacy(PrivacyCommand),
    /// Inspect and prepare image folders, and export synthetic images.
    #[command(subcommand)]
    Data(DataCommand),
    /// Print the completions of a shell, for example to ~/.local/share/bash-completion/completions/asyndgan.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command.
    Man {
        /// The folder to write to, such as ~/.local/share/man/man1.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Subcommand)]
enum SiteCommand {
    /// Show the run that the server describes and what it means for privacy; record your approval if you agree.
    Approve {
        /// The site's configuration.
        #[arg(long)]
        config: PathBuf,
        /// Read the run description from a file sent by the operator (description.json in the server's folder), not
        /// from the server.
        #[arg(long)]
        description: Option<PathBuf>,
        /// Approve without asking for confirmation.
        #[arg(long)]
        yes: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Cli::parse();
    progress::show();
    if let Err(error) = log::start(arguments.log_format, arguments.verbose, arguments.log_file.as_deref()) {
        print_note(&format!("error: {error:#}"));
        return ExitCode::FAILURE;
    }
    match carry_out(arguments.step) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // RUST_LOG may select no errors of this program.
            let is_logged = arguments.log_format == LogFormat::Json || arguments.log_file.is_some();
            if is_logged && tracing::enabled!(tracing::Level::ERROR) {
                tracing::error!("{error:#}");
            } else {
                print_note(&format!("error: {error:#}"));
            }
            // Repeated attempts with a wrong password can lock an account.
            let is_proxy =
                |cause: &(dyn std::error::Error + 'static)| matches!(cause.downcast_ref(), Some(asyndgan_transport::Error::Proxy { .. }));
            if error.chain().any(is_proxy) { ExitCode::from(PROXY_REFUSED) } else { ExitCode::FAILURE }
        }
    }
}

/// The exit code of a site whose HTTP proxy cannot be used, which a service must not start again.
const PROXY_REFUSED: u8 = 3;

fn carry_out(step: Command) -> Result<()> {
    match step {
        Command::Plan(arguments) => arguments.go(),
        Command::Experiment(arguments) => experiment::experiment(&arguments),
        Command::Reproduce(arguments) => experiment::reproduce(&arguments),
        Command::Ablate(arguments) => experiment::ablate(&arguments),
        Command::Prepare(at) => run::prepare(&RunFolder::open(&at.run)?),
        Command::Estimate(at) => run::estimate(&RunFolder::open(&at.run)?),
        Command::Train(which) => run::train(&which.open()?, which.arm, which.seed),
        Command::Synthesize(arguments) => arguments.go(),
        Command::TrainSegmenter { cases, task, profile, set, downsampling, seed, device: on, out } => {
            let mut job = SegmenterJob::new(cases, out);
            job.task = task;
            job.profile = profile;
            job.set = set;
            job.downsampling = downsampling;
            job.seed = seed;
            job.device = device(&on)?;
            train_segmenter(&job)?;
            print_note(&format!("{}", job.out.display()));
            Ok(())
        }
        Command::Segment { images, segmenter, device: on, out } => segment(&images, &segmenter, &out, device(&on)?),
        Command::Evaluate(which) => run::evaluate(&which.open()?, which.arm, which.seed),
        Command::Curve(which) => run::curve(&which.open()?, which.arm, which.seed),
        Command::Report { run, out } => run::report(&run, out),
        Command::Score(arguments) => score::score(&arguments),
        Command::Data(command) => data::data(command),
        Command::Server { config } => server(&config, &stop::on_signal()?),
        Command::Run(command) => runs::run(command),
        Command::Site { command: Some(SiteCommand::Approve { config, description, yes }), .. } => {
            approve(&config, description.as_deref(), yes)
        }
        Command::Site { config: Some(config), .. } => site(&config, &stop::on_signal()?),
        // clap asks for one of both.
        Command::Site { config: None, .. } => Ok(()),
        Command::Init(command) => init(command),
        Command::Keys(command) => keys::keys(command),
        Command::Doctor { config } => doctor(&config, &mut |line| drop(print(&format!("{line}\n")))),
        Command::Ledger { folder, plot } => print(&ledger(&folder, plot.as_deref())?),
        Command::Journal(command) => journal(command),
        Command::Audit(arguments) => arguments.go(),
        Command::Privacy(command) => privacy(&command),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "asyndgan", &mut text);
            print(&String::from_utf8(text)?)
        }
        Command::Man { out } => {
            fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
            clap_mangen::generate_to(Cli::command(), &out).with_context(|| format!("cannot write to {}", out.display()))
        }
    }
}

#[cfg(test)]
#[path = "../../../../../xtask/src/docs/commands.rs"]
mod commands;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_command_of_readme_and_guide_is_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let guide = fs::read_dir(root.join("crates/asyndgan/guide")).expect("the guide").map(|entry| entry.expect("a page").path());
        let pages = guide.filter(|path| path.extension().is_some_and(|e| e == "md"));
        let others = ["README.md", "crates/README.md", "data/README.md"].map(|page| root.join(page));
        let mut understood = 0;
        for page in pages.chain(others) {
            let text = fs::read_to_string(&page).expect("a page");
            for command in commands::commands(&text, "asyndgan") {
                match Cli::try_parse_from(&command) {
                    Err(error) if error.use_stderr() => panic!("{}: {}: {error}", page.display(), command.join(" ")),
                    _ => understood += 1,
                }
            }
        }
        assert!(understood > 20, "only {understood} commands were found");
    }
}

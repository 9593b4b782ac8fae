//! `asyndgan`: the steps of an experiment, one subcommand each, which `cargo xtask reproduce` calls in order; and the programs of a run
//! over several hospitals.

mod claims;
mod configure;
mod consortium;
mod curves;
mod data;
mod data_command;
mod evaluate;
mod export;
mod figures;
mod inspect;
mod prepare;
mod progress;
mod recombine;
mod report;
mod run_folder;
mod score;
mod shelf;
mod sources;
mod synthesize;
mod train;

use std::{path::PathBuf, process::ExitCode};

use asyndgan_paper::Arm;
use clap::{Args, Parser, Subcommand};
use consortium::{InitCommand, JournalCommand, KeysCommand};
use data_command::DataCommand;
use run_folder::RunFolder;

const EXAMPLES: &str = "Examples:
  cargo xtask reproduce table2 --profile smoke     all steps of an experiment, in order
  asyndgan train --run target/reproduce/table2-smoke --arm AsynDgan --seed 0
  asyndgan report --run target/reproduce/table2-smoke
  asyndgan data inspect data/brats2018             what a folder of images holds

A step goes on where it was when it is started again; every step leaves its results in the run's folder.";

const REPORT: &str = "Examples:
  asyndgan report --run target/reproduce/table2-desk
  asyndgan report --run target/reproduce/fig5-desk target/reproduce/table1-desk --out all.html";
const SERVER: &str = "Examples:
  asyndgan init server && asyndgan keys init --server gan.example.org && asyndgan keys issue north
  asyndgan server --config run.toml

Started again after whatever ended it, it goes on from its last checkpoint.";
const SITE: &str = "Examples:
  asyndgan init site && asyndgan doctor --config site.toml
  asyndgan site --config site.toml

Started again after whatever ended it, it goes on. While the server is away it tries again.";
const KEYS: &str = "Examples:
  asyndgan keys init --server gan.example.org 192.0.2.7
  asyndgan keys issue north
  asyndgan keys revoke north";

#[derive(Parser)]
#[command(version, about = "Learn from medical images that never leave their hospitals", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    step: Command,
}

#[derive(Args)]
struct Where {
    /// The run's folder, with its run.json.
    #[arg(long)]
    run: PathBuf,
}

#[derive(Args)]
struct Which {
    #[command(flatten)]
    at: Where,
    /// RealAll, RealSubset-N, SynAll, SynSubset-N or AsynDgan.
    #[arg(long)]
    arm: Arm,
    /// One of the run's seeds.
    #[arg(long)]
    seed: u64,
}

#[derive(Subcommand)]
enum Command {
    /// Read or make the images, and share them out to sites.
    Prepare(Where),
    /// Try a few rounds and say how long the whole will take.
    Estimate(Where),
    /// Train an arm's generator through the protocol.
    Train(Which),
    /// Make an arm's synthetic images.
    Synthesize(Which),
    /// Train an arm's segmenter and score it on the held-out cases.
    Evaluate(Which),
    /// Train and score segmenters of the generators that an arm's training kept on the way.
    Curve(Which),
    /// Make the table, the pictures and the report of a run; of several, one report of all.
    #[command(after_help = REPORT)]
    Report {
        /// The folder of a run; several may be named.
        #[arg(long, required = true, num_args = 1..)]
        run: Vec<PathBuf>,
        /// Where the report goes; report.html in the run's folder unless given, which several runs need.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Score segmentations, whoever made them, against their truth.
    Score(score::ScoreArguments),
    /// Serve a run over several hospitals: own the generator, wait for sites to dial in.
    #[command(after_help = SERVER)]
    Server {
        /// The server's configuration; `asyndgan init server` writes one.
        #[arg(long)]
        config: PathBuf,
    },
    /// Take part in a run as a hospital: hold data and discriminator, dial the server.
    #[command(after_help = SITE)]
    Site {
        /// The site's configuration; `asyndgan init site` writes one.
        #[arg(long)]
        config: PathBuf,
    },
    /// Write a commented configuration.
    #[command(subcommand)]
    Init(InitCommand),
    /// The consortium's certificates.
    #[command(subcommand, after_help = KEYS)]
    Keys(KeysCommand),
    /// Check a site before the day: data, certificate, clock, the way to the server, disk, libtorch, policy, bytes and hours.
    Doctor {
        /// The site's configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// What travelled in a server's or a site's run, beside what other ways would have moved.
    Ledger {
        /// The folder of the run, as the configuration names it.
        folder: PathBuf,
        /// Also draw it, as PNG or SVG.
        #[arg(long)]
        plot: Option<PathBuf>,
    },
    /// A site's journal of everything that left.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Look at image folders, prepare them, and hand on synthetic images.
    #[command(subcommand)]
    Data(DataCommand),
}

fn main() -> ExitCode {
    let done = match Cli::parse().step {
        Command::Prepare(at) => RunFolder::open(&at.run).and_then(|run| prepare::prepare(&run)),
        Command::Estimate(at) => RunFolder::open(&at.run).and_then(|run| train::estimate(&run)),
        Command::Train(which) => RunFolder::open(&which.at.run).and_then(|run| train::train(&run, which.arm, which.seed)),
        Command::Synthesize(which) => RunFolder::open(&which.at.run).and_then(|run| synthesize::synthesize(&run, which.arm, which.seed)),
        Command::Evaluate(which) => RunFolder::open(&which.at.run).and_then(|run| evaluate::evaluate(&run, which.arm, which.seed)),
        Command::Curve(which) => RunFolder::open(&which.at.run).and_then(|run| evaluate::curve(&run, which.arm, which.seed)),
        Command::Report { run, out } => report::report(&run, out),
        Command::Score(arguments) => score::score(&arguments),
        Command::Data(command) => data_command::run(command),
        Command::Server { config } => consortium::server(&config),
        Command::Site { config } => consortium::site(&config),
        Command::Init(command) => consortium::init(command),
        Command::Keys(command) => consortium::keys(command),
        Command::Doctor { config } => consortium::doctor(&config),
        Command::Ledger { folder, plot } => consortium::ledger(&folder, plot.as_deref()),
        Command::Journal(command) => consortium::journal(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! `asyndgan`: the steps of an experiment, one subcommand each. `cargo xtask reproduce` calls them in order.

mod claims;
mod configure;
mod data;
mod data_command;
mod evaluate;
mod export;
mod figures;
mod inspect;
mod prepare;
mod progress;
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
use data_command::DataCommand;
use run_folder::RunFolder;

const EXAMPLES: &str = "Examples:
  cargo xtask reproduce table2 --profile smoke     all steps of an experiment, in order
  asyndgan train --run target/reproduce/table2-smoke --arm AsynDgan --seed 0
  asyndgan report --run target/reproduce/table2-smoke
  asyndgan data inspect data/brats2018             what a folder of images holds

A step goes on where it was when it is started again; every step leaves its results in the run's folder.";

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
    /// Make the table and the pictures.
    Report(Where),
    /// Score segmentations, whoever made them, against their truth.
    Score(score::ScoreArguments),
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
        Command::Report(at) => RunFolder::open(&at.run).and_then(|run| report::report(&run)),
        Command::Score(arguments) => score::score(&arguments),
        Command::Data(command) => data_command::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

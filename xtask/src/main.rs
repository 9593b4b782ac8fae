//! The runner: `cargo xtask COMMAND`. Compiles in seconds and never links libtorch.

mod ablate;
mod bench;
mod build;
mod check;
mod netlab;
mod reproduce;
mod run_json;
mod setup;
mod steps;
mod tidy;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

const EXAMPLES: &str = "Examples:
  cargo xtask reproduce table1                                 phantom data unless data/brats2018 holds real patients
  cargo xtask reproduce table2 --data DIR --seeds 3            real tiles in the MoNuSeg layout
  cargo xtask reproduce fig5 --profile smoke --out /tmp/fig5
  cargo xtask report target/reproduce/fig5-desk target/reproduce/table2-desk --out all.html
  cargo xtask ablate table2 --data DIR --seeds 3
  cargo xtask test                                             all tests, setting libtorch up first";

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Set up, reproduce the paper's tables, test and check", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compute a figure or table of the paper; goes on where it was when started again.
    Reproduce(reproduce::Arguments),
    /// Take each choice of a table's recipe away, one at a time, and say what AsynDgan loses by it, on patients of the training sites.
    Ablate(reproduce::Arguments),
    /// Join the reports of several runs in one page.
    Report {
        /// Folders of runs.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Where the page goes.
        #[arg(long, default_value = "report.html")]
        out: PathBuf,
    },
    /// Obtain libtorch (done by whatever needs it) and note where it lies.
    Setup {
        /// Take the whole wheel with its CUDA packages, for an NVIDIA GPU.
        #[arg(long)]
        cuda: bool,
    },
    /// Run all tests.
    Test,
    /// Run every check, without changing anything.
    Ci {
        /// Leave out the tests, where `cargo xtask test` has just passed.
        #[arg(long)]
        tested: bool,
    },
    /// Format, and fix what can be fixed.
    Fix,
    /// Check the workspace's own rules: who imports whom, one ndarray, what READMEs name.
    Tidy,
    /// Run the benchmarks; with a python that has torch, beside the same work in PyTorch.
    Bench(bench::Arguments),
    /// Train over a network that is not loopback: namespaces, slow links, lost packets, resets, cables pulled (root).
    Netlab,
    #[command(hide = true)]
    NetlabRelay(netlab::RelayArguments),
}

fn main() -> ExitCode {
    // Before anything is recorded anew.
    let _ = setup::users_libtorch();
    let done = match Cli::parse().command {
        Task::Reproduce(arguments) => reproduce::reproduce(&arguments),
        Task::Ablate(arguments) => ablate::ablate(&arguments),
        Task::Report { runs, out } => reproduce::report(&runs, &out),
        Task::Setup { cuda: true } => setup::run(setup::Flavour::Cuda),
        Task::Setup { cuda: false } => setup::run(setup::Flavour::Cpu),
        Task::Test => check::test(),
        Task::Ci { tested } => check::ci(tested),
        Task::Fix => check::fix(),
        Task::Tidy => tidy::tidy(),
        Task::Bench(arguments) => bench::bench(&arguments),
        Task::Netlab => netlab::netlab(),
        Task::NetlabRelay(arguments) => netlab::relay(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |place| root().join(place))
}

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// A cargo command in the workspace's folder, without what the cargo that runs us has set for us.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    if setup::users_libtorch().is_none() {
        command.env_remove("LIBTORCH");
    }
    for (name, _) in std::env::vars_os() {
        // A changed package variable would make cargo believe that build scripts must run again.
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" || name == "CARGO_MANIFEST_PATH" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end.
fn succeed(mut command: Command) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} failed ({status})");
    }
    Ok(())
}

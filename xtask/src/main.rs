//! The task runner: `cargo xtask COMMAND`. Compiles in seconds and never links libtorch.

mod ablate;
mod bench;
mod build;
mod check;
mod docs;
mod generated;
mod netlab;
mod publish;
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
  cargo xtask reproduce table1                                 phantom data unless data/brats2018 contains real patients
  cargo xtask reproduce table2 --data DIR --seeds 3            real tiles in the MoNuSeg layout
  cargo xtask reproduce fig5 --profile smoke --out /tmp/fig5
  cargo xtask report target/reproduce/fig5-desk target/reproduce/table2-desk --out all.html
  cargo xtask ablate table2 --data DIR --seeds 3
  cargo xtask publish target/reproduce/fig5-desk
  cargo xtask test                                             all tests; sets up libtorch first";

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Set up libtorch, reproduce the paper's tables, test and check", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compute a figure or table of the paper; resumes if started again.
    Reproduce(reproduce::Arguments),
    /// Remove each choice of a table's recipe, one at a time, and report the effect on AsynDgan, on validation patients.
    Ablate(reproduce::Arguments),
    /// Combine the reports of several runs into one page.
    Report {
        /// Run folders.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Output file of the page.
        #[arg(long, default_value = "report.html")]
        out: PathBuf,
    },
    /// Publish finished runs to data/results, README and guide.
    Publish(publish::Arguments),
    /// Download libtorch and record its location (commands that need libtorch do this on their own).
    Setup {
        /// Download the full wheel with its CUDA packages, for an NVIDIA GPU.
        #[arg(long)]
        cuda: bool,
    },
    /// Run all tests.
    Test,
    /// Run all checks, without changing any file.
    Ci {
        /// Skip the tests, if `cargo xtask test` has just passed.
        #[arg(long)]
        tested: bool,
    },
    /// Format the code and apply automatic fixes.
    Fix,
    /// Check the rules of the workspace: crate dependencies, a single ndarray version, names in READMEs.
    Tidy,
    /// Run the benchmarks; with --python, compare with the same work in PyTorch.
    Bench(bench::Arguments),
    /// Train over an emulated network: namespaces, slow links, lost packets, resets, unplugged cables (needs root).
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
        Task::Publish(arguments) => publish::publish(&arguments),
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

/// Cargo's target folder.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |place| root().join(place))
}

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// A cargo command in the workspace's folder, without the variables that the cargo that runs us has set for us.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    as_if_not_from_cargo(command)
}

/// A command without the variables that the cargo that runs us has set for us.
fn as_if_not_from_cargo(mut command: Command) -> Command {
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

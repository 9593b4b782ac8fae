//! The task runner: `cargo xtask COMMAND`. Compiles in seconds and never links libtorch.

mod bench;
mod build;
mod check;
mod dist;
mod docs;
mod generated;
mod netlab;
mod publish;
mod setup;
mod tidy;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
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

const OPTIONS: &str = "Options of the program's command, as `asyndgan reproduce --help` explains them:
  --profile smoke|desk|paper   a minute, an hour per seed, or days on a GPU
  --data DIR                   real images; without them, phantoms
  --seeds N                    seeds 0 to N - 1
  --set SECTION.NAME=VALUE     change a setting of the profile; repeatable
  --arms ARM,ARM               compute only these rows of the table
  --validate                   score validation patients
  --device auto|cpu|cuda
  --jobs N                     steps that run in parallel
  --out DIR                    the run folder";

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Set up libtorch, reproduce the paper's tables, test and check", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the program, and compute a figure or table of the paper with `asyndgan reproduce`; resumes if started
    /// again.
    #[command(after_help = OPTIONS)]
    Reproduce(ProgramArguments),
    /// Build the program, and measure the effect of each choice of a table's recipe with `asyndgan ablate`.
    #[command(after_help = OPTIONS)]
    Ablate(ProgramArguments),
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
    /// Build the program, and print where it is: for tests.
    #[command(hide = true)]
    Program,
    /// Run all tests.
    Test,
    /// Run all checks, without changing any file.
    Ci {
        /// Skip the tests, if `cargo xtask test` has just passed.
        #[arg(long)]
        tested: bool,
    },
    /// Build the packages that users install into target/dist, and test each in an environment of its own.
    Dist(dist::Arguments),
    /// Format the code and apply automatic fixes.
    Fix,
    /// Check the rules of the workspace: crate dependencies, a single ndarray version, names in READMEs.
    Tidy,
    /// Run the benchmarks; with --python, compare with the same work in PyTorch.
    Bench(bench::Arguments),
    /// Train over an emulated network: namespaces, slow links, lost packets, resets, unplugged cables (needs root).
    Netlab(netlab::Arguments),
    #[command(hide = true)]
    NetlabRelay(netlab::RelayArguments),
}

#[derive(clap::Args)]
struct ProgramArguments {
    /// fig5, table1 or table2, and options.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds the program and runs one of its commands, with default folders in the workspace.
fn program(command: &str, arguments: &[OsString]) -> Result<()> {
    let mut program = Command::new(build::build_program()?);
    program.arg(command).args(arguments).arg("--workspace").arg(root());
    succeed(program)
}

#[allow(clippy::print_stdout, reason = "the tests read it")]
fn program_path() -> Result<()> {
    println!("{}", build::build_program()?.display());
    Ok(())
}

/// Joins the reports of several runs.
fn report(runs: &[PathBuf], out: &Path) -> Result<()> {
    let mut program = Command::new(build::build_program()?);
    program.arg("report").arg("--run").args(runs).arg("--out").arg(out);
    succeed(program)?;
    eprintln!("{}", out.display());
    Ok(())
}

fn main() -> ExitCode {
    // Before anything is recorded.
    let _ = setup::users_libtorch();
    let done = match Cli::parse().command {
        Task::Reproduce(of) => program("reproduce", &of.arguments),
        Task::Ablate(of) => program("ablate", &of.arguments),
        Task::Report { runs, out } => report(&runs, &out),
        Task::Publish(arguments) => publish::publish(&arguments),
        Task::Setup { cuda: true } => setup::run(setup::Flavour::Cuda),
        Task::Setup { cuda: false } => setup::run(setup::Flavour::Cpu),
        Task::Program => program_path(),
        Task::Test => check::test(),
        Task::Ci { tested } => check::ci(tested),
        Task::Dist(arguments) => dist::dist(&arguments),
        Task::Fix => check::fix(),
        Task::Tidy => tidy::tidy(),
        Task::Bench(arguments) => bench::bench(&arguments),
        Task::Netlab(arguments) => netlab::netlab(&arguments),
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

#[allow(clippy::disallowed_methods, reason = "the task runner may look at the clock")]
fn now() -> Instant {
    Instant::now()
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

//! `cargo xtask bench`: the benchmarks of the crates, and a comparison with the same work in PyTorch, with interleaved
//! runs.

pub(crate) mod record;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_paper::STEP_ENVIRONMENT;
use clap::Args;
use serde::Deserialize;

use self::record::{Compared, Record, spread};
use crate::{build::build_program, cargo, now, root, setup, succeed, target};

#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask bench                                     the crates' own benchmarks (criterion)
  cargo xtask bench --python v/bin/python               compare with PyTorch: python3 -m venv v && v/bin/pip install torch==2.13.0 monai
  cargo xtask bench --python v/bin/python --device cuda the paper's size on a GPU")]
pub(crate) struct Arguments {
    /// Python interpreter with torch 2.13.0 and MONAI: measure the same work in PyTorch as well, interleaved.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Device of the rounds: cpu or cuda.
    #[arg(long, default_value = "cpu", value_parser = ["cpu", "cuda"], requires = "python")]
    device: String,
    /// Number of interleaved repetitions.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..), requires = "python")]
    turns: u32,
    /// Output folder for the tables; default target/bench.
    #[arg(long, requires = "python")]
    out: Option<PathBuf>,
}

/// What one process measured.
#[derive(Deserialize)]
struct Measured {
    seconds: Vec<f64>,
    peak_bytes: f64,
}

/// One line of the table.
struct Row {
    work: &'static str,
    /// Arguments of both sides.
    arguments: &'static [&'static str],
    /// Our further arguments.
    ours: &'static [&'static str],
    /// The ways in which a PyTorch user would do it; the fastest counts.
    theirs: &'static [&'static str],
    /// Ours divided by theirs, at most.
    target: f64,
}

/// 32-bit floats in PyTorch: eager, and the ways of a user who cares for speed.
const FLOAT32: &[&str] = &["", "batched", "batched,channels_last", "batched,compile", "batched,channels_last,compile"];
const BFLOAT16: &[&str] =
    &["batched,bfloat16", "batched,channels_last,bfloat16", "batched,bfloat16,compile", "batched,channels_last,bfloat16,compile"];

const SEGMENT: &[&str] = &["", "batched", "batched,channels_last", "batched,compile", "batched,channels_last,compile", "batched,monai"];

/// The record and the plot in the folder of a comparison.
pub(crate) const RECORD: &str = "bench.json";
pub(crate) const GROWTH: &str = "growth.svg";

const SMALL: &[&str] = &["round"];
const FOUR: &[&str] = &["round", "--batch", "4"];
const LARGE: &[&str] = &["round", "--sites", "1", "--size", "256", "--width", "64", "--rounds", "4"];

const ROWS: [Row; 9] = [
    Row { work: "round: 10 sites x batch 1, 64 x 64, width 16", arguments: SMALL, ours: &[], theirs: FLOAT32, target: 0.6 },
    Row { work: "the same in bfloat16", arguments: SMALL, ours: &["--bfloat16"], theirs: BFLOAT16, target: 0.55 },
    Row { work: "round: 10 sites x batch 4, 64 x 64, width 16", arguments: FOUR, ours: &[], theirs: FLOAT32, target: 0.75 },
    Row { work: "the same in bfloat16", arguments: FOUR, ours: &["--bfloat16"], theirs: BFLOAT16, target: 0.6 },
    Row { work: "round: 1 site x batch 1, 256 x 256, width 64", arguments: LARGE, ours: &[], theirs: FLOAT32, target: 1.0 },
    Row { work: "the same in bfloat16", arguments: LARGE, ours: &["--bfloat16"], theirs: BFLOAT16, target: 0.9 },
    Row { work: "one step of the desk segmenter, batch 8", arguments: &["segmenter"], ours: &[], theirs: FLOAT32, target: 0.7 },
    Row { work: "the same in bfloat16", arguments: &["segmenter"], ours: &["--bfloat16"], theirs: BFLOAT16, target: 0.7 },
    Row { work: "segmenting 100 slices of 240 x 240", arguments: &["segment"], ours: &[], theirs: SEGMENT, target: 0.6 },
];
const CUDA_ROWS: [Row; 1] = [Row {
    work: "round: 10 sites x batch 1, 256 x 256, width 64, on a GPU",
    arguments: &["round", "--size", "256", "--width", "64", "--device", "cuda"],
    ours: &[],
    theirs: &["", "batched", "batched,channels_last", "batched,compile"],
    target: 0.8,
}];

pub(crate) fn bench(arguments: &Arguments) -> Result<()> {
    setup::ensure_libtorch()?;
    let Some(python) = &arguments.python else {
        return succeed(cargo(&["bench", "--workspace", "--benches"]));
    };
    let torch = Command::new(python).args(["-c", "import torch; print(torch.__version__)"]).output();
    let torch = torch.with_context(|| format!("cannot run {}", python.display()))?;
    ensure!(torch.status.success(), "{} cannot import torch: install it with v/bin/pip install torch==2.13.0 monai", python.display());
    let torch = String::from_utf8_lossy(&torch.stdout).trim().to_owned();
    build_program()?;
    succeed(cargo(&["bench", "--quiet", "--package", "asyndgan", "--bench", "beside_pytorch", "--no-run"]))?;

    let folder = arguments.out.clone().unwrap_or_else(|| target().join("bench"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let device = if arguments.device == "cuda" { " --device cuda" } else { "" };
    let command = format!("cargo xtask bench --python PYTHON --turns {}{device}", arguments.turns);
    let mut record = Record::new(command, torch)?;
    // After every row: the whole takes most of an hour.
    let keep = |record: &Record| -> Result<()> {
        write(&folder.join(RECORD), &serde_json::to_string_pretty(record)?)?;
        write(&folder.join("bench.md"), &record.page())
    };
    let rows: &[Row] = if arguments.device == "cuda" { &CUDA_ROWS } else { &ROWS };
    for row in rows {
        compare(row, python, arguments, &mut record.rows)?;
        keep(&record)?;
    }
    if arguments.device == "cpu" {
        record.rows.push(start_up(python, arguments.turns)?);
        keep(&record)?;
        eprintln!("measuring how the cost of a round scales, and the peak performance of the processor");
        let mut growth = work(&["growth", "--out"]);
        let grown = growth.arg(std::path::absolute(folder.join(GROWTH))?).stderr(Stdio::inherit()).output()?;
        ensure!(grown.status.success(), "the scaling measurement failed");
        record.growth = String::from_utf8_lossy(&grown.stdout).into_owned();
        keep(&record)?;
    }
    show(&record.page());
    Ok(())
}

/// Measures one row: ours by turns with each way of PyTorch.
fn compare(row: &Row, python: &Path, arguments: &Arguments, compared: &mut Vec<Compared>) -> Result<()> {
    let (mut ours, mut our_peaks) = (Vec::new(), Vec::new());
    let mut theirs: Vec<(&str, Vec<f64>, Vec<f64>)> = row.theirs.iter().map(|how| (*how, Vec::new(), Vec::new())).collect();
    for turn in 1..=arguments.turns {
        eprintln!("{} ({}): repetition {turn} of {}", row.work, row.arguments[0], arguments.turns);
        for (how, seconds, peaks) in &mut theirs {
            // Before each way: the machine may be slower for a while.
            let us = measured(work(row.arguments).args(row.ours))?;
            ours.extend(us.seconds);
            our_peaks.push(us.peak_bytes / 1e9);
            let mut command = peer(python);
            command.args(row.arguments);
            if !how.is_empty() {
                command.args(["--how", how]);
            }
            let them = measured(&mut command)?;
            seconds.extend(them.seconds);
            peaks.push(them.peak_bytes / 1e9);
        }
    }
    let median = |seconds: &[f64]| spread(seconds).map_or(f64::INFINITY, |[_, median, _]| median);
    let fastest = theirs.iter().min_by(|a, b| median(&a.1).total_cmp(&median(&b.1)));
    let (how, seconds, _) = fastest.context("no way of PyTorch is measured")?;
    let is_first = compared.is_empty();
    compared.push(Compared::new(row.work, "s", &ours, seconds, row.target)?.with_variant(how));
    if is_first && arguments.device == "cpu" {
        let least = theirs.iter().min_by(|a, b| median(&a.2).total_cmp(&median(&b.2)));
        let (how, _, peaks) = least.context("no way of PyTorch is measured")?;
        let memory = Compared::new("peak memory of the row above, all sites in one process", "GB", &our_peaks, peaks, 0.6)?;
        compared.push(memory.with_variant(how));
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
fn show(table: &str) {
    println!("{table}");
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Our work, as the runner would start it.
fn work(arguments: &[&str]) -> Command {
    let mut command = cargo(&["bench", "--quiet", "--package", "asyndgan", "--bench", "beside_pytorch", "--"]);
    command.args(arguments).envs(STEP_ENVIRONMENT);
    command
}

fn peer(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg(root().join("crates/asyndgan/benches/beside_pytorch/peer.py"));
    command
}

fn measured(command: &mut Command) -> Result<Measured> {
    let name = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with('{'));
    let Some(line) = line.filter(|_| output.status.success()) else {
        bail!("the measurement with {name} failed: {}", String::from_utf8_lossy(&output.stderr));
    };
    serde_json::from_str(line).with_context(|| format!("{name} printed an unexpected line: {line}"))
}

/// From the command to the first round: ours through the runner, including data preparation; theirs from the import of
/// torch.
fn start_up(python: &Path, turns: u32) -> Result<Compared> {
    let folder = target().join("bench/start-up");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let begun = now();
        let mut command = cargo(&["xtask", "reproduce", "table2", "--profile", "smoke", "--arms", "AsynDgan", "--out"]);
        let mut running = command.arg(&folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        ours.push(first_round(&folder.join("seed-0/AsynDgan/losses.csv"), begun)?);
        running.wait()?;
        let begun = now();
        measured(peer(python).args(["round", "--sites", "4", "--batch", "2", "--width", "4", "--rounds", "0", "--first", "1"]))?;
        theirs.push(begun.elapsed().as_secs_f64());
    }
    Compared::new("from the command to the first round, already built", "s", &ours, &theirs, 0.5)
}

/// When the first row of losses is there.
fn first_round(losses: &Path, begun: Instant) -> Result<f64> {
    while begun.elapsed() < Duration::from_mins(2) {
        if fs::read_to_string(losses).is_ok_and(|text| text.lines().count() > 1) {
            return Ok(begun.elapsed().as_secs_f64());
        }
        thread::sleep(Duration::from_millis(2));
    }
    bail!("no round was completed within two minutes: run `cargo xtask reproduce table2 --profile smoke` to see why")
}

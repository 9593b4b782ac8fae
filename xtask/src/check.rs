//! Tests and checks: `test`, `ci` (read-only, cheapest first), and its twin `fix`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use crate::{as_if_not_from_cargo, build::build_program, cargo, dist, generated, netlab, now, root, setup, succeed, target, tidy};

/// Leaves out the crates that are not published to crates.io.
const NOT_ON_CRATES_IO: [&str; 6] = ["--exclude", "xtask", "--exclude", "e2e", "--exclude", "asyndgan-metrics-py"];

pub(crate) fn test() -> Result<()> {
    // The end-to-end tests start the program; it must be there, and fast.
    build_program()?;
    succeed(cargo(&["test", "--workspace"]))
}

pub(crate) fn ci(tested: bool) -> Result<()> {
    step("format");
    succeed(cargo(&["fmt", "--all", "--check"]))?;
    if is_installed("typos", &["--version"]) {
        step("typos");
        let mut typos = Command::new("typos");
        typos.current_dir(root());
        succeed(typos)?;
    } else {
        eprintln!("typos is SKIPPED: it is not installed");
    }
    if is_installed("cargo", &["deny", "--version"]) {
        step("licences and sources of dependencies");
        succeed(cargo(&["deny", "check", "bans", "licenses", "sources"]))?;
    } else {
        eprintln!("cargo deny is SKIPPED: it is not installed");
    }
    if let Some(release) = last_release().filter(|_| is_installed("cargo", &["semver-checks", "--version"])) {
        step(&format!("compatibility with {release}"));
        succeed(cargo(&[&["semver-checks", "--workspace", "--baseline-rev", &release], &NOT_ON_CRATES_IO[..]].concat()))?;
    }
    step("tidy");
    tidy::tidy()?;
    setup::ensure_libtorch()?;
    step("clippy");
    succeed(cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    step("features");
    for package in ["asyndgan-medio", "asyndgan-metrics", "asyndgan-transport"] {
        succeed(cargo(&["clippy", "--quiet", "--package", package, "--no-default-features", "--all-targets", "--", "-D", "warnings"]))?;
        succeed(cargo(&["test", "--quiet", "--package", package, "--no-default-features"]))?;
    }
    step("documentation");
    succeed(cargo(&["doc", "--quiet", "--workspace", "--no-deps"]))?;
    step("fuzz targets");
    for krate in ["data", "medio", "protocol"] {
        let manifest = format!("crates/asyndgan-{krate}/fuzz/Cargo.toml");
        let mut check = cargo(&["check", "--quiet", "--manifest-path", &manifest]);
        check.env("CARGO_TARGET_DIR", root().join("target/fuzz"));
        succeed(check)?;
    }
    step("packages");
    // Without building them again: the workspace is built by the tests.
    succeed(cargo(&[&["package", "--quiet", "--workspace", "--no-verify", "--allow-dirty"], &NOT_ON_CRATES_IO[..]].concat()))?;
    if !tested {
        step("tests");
        test()?;
    }
    for (variable, package, target) in [
        ("PYTHON_WITH_TORCH", "asyndgan-models", "pytorch"),
        ("PYTHON_WITH_IMAGING", "asyndgan-medio", "live"),
        ("PYTHON_WITH_IMAGING", "asyndgan-medio", "generated"),
        ("MONUSEG", "e2e", "real_data"),
    ] {
        if env::var_os(variable).is_some() {
            step(&format!("test {target}, which needs {variable}"));
            succeed(cargo(&["test", "--quiet", "--package", package, "--test", target, "--", "--ignored"]))?;
        }
    }
    step("many fault schedules");
    fault_schedules()?;
    for example in ["prepare_data", "score_folders", "train_in_process", "segmenter", "consortium", "own_carrier"] {
        step(&format!("example {example}"));
        // The tests have built it, with the features of the whole workspace.
        let mut built = Command::new(target().join("debug/examples").join(example));
        built.current_dir(root());
        succeed(built)?;
    }
    step("training over an emulated network");
    netlab::netlab(&netlab::Arguments::default())?;
    for experiment in ["fig5", "table1"] {
        smoke(experiment, experiment, &[])?;
    }
    tour()?;
    let beside = smoke("table2", "table2", &["--jobs", "2"])?;
    let alone = smoke("table2", "table2-alone", &["--jobs", "1", "--arms", "SynAll,AsynDgan,FedGan,MdGan"])?;
    for arm in ["SynAll", "AsynDgan"] {
        for network in ["generator", "segmenter"] {
            let path = Path::new("seed-0").join(arm).join(network).with_extension("safetensors");
            let same = fs::read(beside.join(&path))? == fs::read(alone.join(&path))?;
            ensure!(same, "{}: differs if another step runs at the same time", path.display());
        }
    }
    step("packages for users");
    dist::dist_all()
}

/// Runs the simulations of the protocol many times, half of them beside the others: each uses one core.
fn fault_schedules() -> Result<()> {
    let mut names = Vec::new();
    for file in fs::read_dir(root().join("crates/asyndgan-protocol/tests"))?.flatten() {
        let path = file.path();
        if path.extension().is_some_and(|e| e == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    let start = |first: usize| {
        let chosen = names.iter().skip(first).step_by(2).flat_map(|name| ["--test", name]);
        let mut tests = cargo(&["test", "--quiet", "--package", "asyndgan-protocol"]);
        tests.args(chosen).env("PROPTEST_CASES", "100000");
        tests
    };
    let mut beside = start(1).spawn().context("cannot start cargo")?;
    let done = succeed(start(0));
    let status = beside.wait().context("cannot wait for cargo")?;
    done?;
    ensure!(status.success(), "the other half of the fault schedules failed ({status})");
    Ok(())
}

fn is_installed(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// The latest release before this commit, if there is one.
fn last_release() -> Option<String> {
    let tag = Command::new("git").args(["describe", "--tags", "--abbrev=0", "--match", "v*"]).current_dir(root()).output().ok()?;
    let name = String::from_utf8(tag.stdout).ok()?;
    tag.status.success().then(|| name.trim().to_owned())
}

/// Does a smoke run from nothing, and returns its folder.
fn smoke(experiment: &str, name: &str, options: &[&str]) -> Result<PathBuf> {
    step(&format!("smoke run of {experiment} {}", options.join(" ")));
    let out = root().join("target/ci").join(name);
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    let shown = out.to_string_lossy();
    let arguments = ["run", "--quiet", "--package", "xtask", "--", "reproduce", experiment, "--profile", "smoke", "--out", &shown];
    succeed(cargo(&[&arguments, options].concat()))?;
    Ok(out)
}

/// Runs the shell blocks of README, as a reader would.
fn tour() -> Result<()> {
    step("the tour of README");
    let readme = fs::read_to_string(root().join("README.md"))?;
    let blocks: String = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    ensure!(!blocks.is_empty(), "README.md has no shell blocks");
    let place = root().join("target/tour");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &blocks]).current_dir(root());
    succeed(as_if_not_from_cargo(shell))?;
    let generator = place.join("consortium/run/seed-0/AsynDgan/generator.safetensors");
    ensure!(generator.is_file(), "the consortium of README left no {}", generator.display());
    Ok(())
}

pub(crate) fn fix() -> Result<()> {
    succeed(cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"]))?;
    succeed(cargo(&["fmt", "--all"]))?;
    generated::write()
}

/// Announces a step, with the minutes since the first one.
fn step(name: &str) {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    eprintln!("--- {name} ({:.1} min)", BEGAN.get_or_init(now).elapsed().as_secs_f64() / 60.0);
}

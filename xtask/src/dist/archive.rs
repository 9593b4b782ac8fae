//! The archive: the program with libtorch, for machines without a compiler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{VERSION, bill, licences, program, python::PythonEnvironment};
use crate::{root, setup, succeed, target};

/// zstd's level: 19 takes 15 times as long, for a tenth less.
const LEVEL: i32 = 12;
/// Libraries of libtorch's own, which may be stripped; NVIDIA's may not be changed.
const STRIPPED: [&str; 2] = ["libtorch_cpu.so", "libc10.so"];

/// Builds the archive, and tries it in an environment of its own.
pub(super) fn build(tools: &PythonEnvironment, out: &Path) -> Result<()> {
    let name = format!("asyndgan-{VERSION}-linux-x86_64");
    let above = target().join("dist-archive");
    let folder = above.join(&name);
    if above.exists() {
        fs::remove_dir_all(&above)?;
    }
    for part in ["bin", "lib", "examples", "licences", "share/man/man1"] {
        fs::create_dir_all(folder.join(part))?;
    }
    let asyndgan = folder.join("bin/asyndgan");
    program::build(tools, "../lib", &asyndgan)?;
    libraries(&folder)?;
    for (name, to) in [("LICENSE-MIT", "licences/LICENSE-MIT"), ("LICENSE-APACHE", "licences/LICENSE-APACHE")] {
        copy(&root().join(name), &folder.join(to))?;
    }
    for part in fs::read_dir(root().join("crates/asyndgan/dist/archive"))? {
        let part = part?;
        copy(&part.path(), &folder.join(part.file_name()))?;
    }
    fs::write(folder.join("VERSION"), VERSION)?;
    guide(&folder.join("share/doc/asyndgan"))?;
    licences::write("asyndgan", &folder.join("licences/THIRD-PARTY"))?;
    bill::write(&folder.join("asyndgan.cdx.json"))?;
    // What the program writes about itself.
    let own = |arguments: &[&str]| {
        let mut command = Command::new(&asyndgan);
        command.args(arguments).current_dir(&folder);
        command
    };
    let example = |role: &str, name: &str, places: &[(&str, &str)]| {
        let path = folder.join("examples").join(name);
        succeed(own(&["init", role, "--out", &path.to_string_lossy()]))?;
        let mut text = fs::read_to_string(&path)?;
        for (key, place) in places {
            let line = text.lines().find(|line| line.starts_with(&format!("{key} = "))).with_context(|| format!("{name} has no {key}"))?;
            let comment = line.split_once('#').map_or("", |(_, comment)| comment).to_owned();
            text = text.replace(line, &format!("{key} = \"{place}\"  #{comment}"));
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    // Where the systemd units may write.
    example("server", "run.toml", &[])?;
    example("runs", "runs.toml", &[("folder", "/var/lib/asyndgan/runs"), ("keys", "/etc/asyndgan/keys")])?;
    for name in ["alerts.yml", "grafana.json"] {
        copy(&root().join("crates/asyndgan/dist/monitoring").join(name), &folder.join("examples").join(name))?;
    }
    let site =
        [("bundle", "/etc/asyndgan/north.pem"), ("data", "/var/lib/asyndgan/prepared/site-1"), ("folder", "/var/lib/asyndgan/north")];
    example("site", "site.toml", &site)?;
    succeed(own(&["man", "--out", "share/man/man1"]))?;
    for (shell, path) in [
        ("bash", "share/bash-completion/completions/asyndgan"),
        ("zsh", "share/zsh/site-functions/_asyndgan"),
        ("fish", "share/fish/vendor_completions.d/asyndgan.fish"),
    ] {
        let output = own(&["completions", shell]).output().context("cannot start the program")?;
        ensure!(output.status.success(), "completions for {shell} cannot be generated");
        let path = folder.join(path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, output.stdout)?;
    }
    let archive = out.join(format!("{name}.tar.zst"));
    pack(&above, &name, &archive)?;
    check(&archive, &name)
}

/// Copies the pages of the guide.
fn guide(to: &Path) -> Result<()> {
    let from = root().join("crates/asyndgan/guide");
    for folder in ["", "decisions"] {
        fs::create_dir_all(to.join(folder))?;
        for page in fs::read_dir(from.join(folder))?.flatten().filter(|page| page.path().is_file()) {
            copy(&page.path(), &to.join(folder).join(page.file_name()))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// Copies libtorch and its licences.
fn libraries(folder: &Path) -> Result<()> {
    let library = setup::library_folder()?;
    // `libtorch.so` is a linker script.
    for name in ["libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"] {
        let to = folder.join("lib").join(name);
        copy(&library.join(name), &to)?;
        if STRIPPED.contains(&name) {
            let mut strip = Command::new("strip");
            strip.arg("--strip-unneeded").arg(&to);
            succeed(strip)?;
        }
    }
    let licences = library.with_file_name("licenses");
    let nvidia = licences.join("nvidia.txt");
    ensure!(
        nvidia.is_file(),
        "{} is missing, because an earlier version set libtorch up: remove {}, and start again",
        nvidia.display(),
        licences.with_file_name("").display()
    );
    let text = fs::read_to_string(licences.join("LICENSE")).with_context(|| licences.display().to_string())?;
    ensure!(text.contains("From PyTorch"), "{} does not have PyTorch's licence, but another one", licences.display());
    for file in fs::read_dir(&licences)?.flatten() {
        copy(&file.path(), &folder.join("licences").join(format!("libtorch-{}", file.file_name().to_string_lossy())))?;
    }
    let gpl = spdx::license_id("GPL-3.0-or-later").context("a known licence")?.text();
    let exception = spdx::exception_id("GCC-exception-3.1").context("a known exception")?.text();
    let gomp = format!("libgomp.so.1 is GCC's OpenMP runtime. Its source: https://gcc.gnu.org/releases.html\n\n{gpl}\n\n{exception}\n");
    fs::write(folder.join("licences/libgomp.txt"), gomp)?;
    Ok(())
}

/// Packs a folder; the same files give the same bytes.
fn pack(above: &Path, name: &str, archive: &Path) -> Result<()> {
    let file = fs::File::create(archive).with_context(|| format!("cannot write {}", archive.display()))?;
    let mut compressed = zstd::Encoder::new(file, LEVEL)?;
    compressed.long_distance_matching(true)?;
    compressed.multithread(std::thread::available_parallelism().map_or(1, |n| n.get() as u32))?;
    let mut tar = tar::Builder::new(compressed);
    tar.mode(tar::HeaderMode::Deterministic);
    let mut paths = vec![above.join(name)];
    let mut all = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?);
        } else {
            all.push(path);
        }
    }
    all.sort();
    for path in all {
        tar.append_path_with_name(&path, path.strip_prefix(above)?)?;
    }
    tar.into_inner()?.finish()?.sync_all()?;
    Ok(())
}

/// Unpacks and installs the archive as another user, and takes part in a consortium with it.
fn check(archive: &Path, name: &str) -> Result<()> {
    let place = tempfile::tempdir().context("cannot create a temporary folder")?;
    tried(archive, name, place.path())
}

fn tried(archive: &Path, name: &str, place: &Path) -> Result<()> {
    let mut tar = tar::Archive::new(zstd::Decoder::new(fs::File::open(archive)?)?);
    tar.unpack(place)?;
    let script = place.join("try.sh");
    fs::write(&script, include_str!("try.sh"))?;
    // As root, as a user without rights.
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let mut shell = if is_root {
        let mut chown = Command::new("chown");
        chown.args(["-R", "65534:65534"]).arg(place);
        succeed(chown)?;
        let mut shell = Command::new("setpriv");
        shell.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh"]);
        shell
    } else {
        Command::new("sh")
    };
    shell.arg("-eu").arg(&script).arg(name).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", place).current_dir(place);
    succeed(shell)
}

//! `cargo xtask setup`: downloads libtorch once per user and makes every cargo command of this checkout use it.
//!
//! The wheels come through pip, each pinned by its hash; the CPU flavour needs five of its libraries and the headers.
//! The copy is in the user's cache folder, so several checkouts share it; `.cargo/libtorch.toml` (not committed) points
//! at it.

mod pip;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, bail, ensure};

use crate::root;

pub(crate) const VERSION: &str = "2.13.0";

/// Which libtorch a checkout builds against.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    Cpu,
    Cuda,
}

impl Flavour {
    fn name(self) -> &'static str {
        match self {
            Flavour::Cpu => "cpu",
            Flavour::Cuda => "cuda",
        }
    }
}

/// Sets libtorch up unless this checkout already has one that is still there.
pub(crate) fn ensure_libtorch() -> Result<()> {
    let by_user = users_libtorch().is_some() || env::var_os("LIBTORCH_USE_PYTORCH").is_some();
    if !by_user && recorded().is_some_and(|libtorch| !is_outdated(&libtorch) && check_libtorch(&libtorch).is_ok()) {
        return Ok(());
    }
    let is_cuda = recorded().is_some_and(|libtorch| libtorch.ends_with("torch") && libtorch.to_string_lossy().contains("-cuda"));
    run(if is_cuda { Flavour::Cuda } else { Flavour::Cpu })
}

/// The folder with the libraries of this checkout's libtorch.
pub(crate) fn library_folder() -> Result<PathBuf> {
    let libtorch = users_libtorch().or_else(recorded).context("libtorch is not set up: run cargo xtask setup")?;
    Ok(libtorch.join("lib"))
}

/// Name, version and SHA-256 of the wheels that libtorch for a CPU comes from.
pub(crate) fn wheels() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    include_str!("setup/cpu.txt").lines().filter_map(|line| {
        let (package, hash) = line.split_once(" --hash=sha256:")?;
        let (name, version) = package.split_once("==")?;
        Some((name, version, hash))
    })
}

/// Whether a libtorch was downloaded for an earlier version of this workspace.
fn is_outdated(libtorch: &Path) -> bool {
    let downloaded = cache().ok().and_then(|cache| libtorch.strip_prefix(cache).ok()?.to_str().map(str::to_owned));
    downloaded.is_some_and(|name| !name.starts_with(&format!("libtorch-{VERSION}-")))
}

/// Finds or downloads libtorch and writes `.cargo/libtorch.toml`.
pub(crate) fn run(flavour: Flavour) -> Result<()> {
    check_compiler()?;
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return configure(&pip::installed_torch(VERSION)?);
    }
    if let Some(libtorch) = users_libtorch() {
        check_libtorch(&libtorch).context("LIBTORCH is set, but not to a libtorch folder: correct it, or unset it to download libtorch")?;
        return configure(&libtorch);
    }
    configure(&download_once(flavour)?)
}

/// The libtorch that `.cargo/libtorch.toml` names, whether it is still there or not.
fn recorded() -> Option<PathBuf> {
    let text = fs::read_to_string(root().join(".cargo/libtorch.toml")).ok()?;
    let table: toml::Table = text.parse().ok()?;
    Some(PathBuf::from(table.get("env")?.get("LIBTORCH")?.as_str()?))
}

/// The libtorch that the user has exported: cargo also sets the recorded one for us, which does not count.
///
/// Determined once, before a new location is recorded.
pub(crate) fn users_libtorch() -> Option<PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| env::var_os("LIBTORCH").map(PathBuf::from).filter(|exported| recorded().as_ref() != Some(exported))).clone()
}

fn check_libtorch(libtorch: &Path) -> Result<()> {
    let library = libtorch.join("lib").join(format!("{}torch_cpu{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX));
    ensure!(library.is_file(), "{} does not exist", library.display());
    ensure!(libtorch.join("include/torch/csrc").is_dir(), "{} does not exist", libtorch.join("include/torch/csrc").display());
    Ok(())
}

fn check_compiler() -> Result<()> {
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".into());
    let works = Command::new(&compiler).arg("--version").output().is_ok_and(|o| o.status.success());
    ensure!(works, "no C++ compiler: `{compiler} --version` does not run; install one (Debian: apt-get install g++) or set CXX");
    Ok(())
}

/// Records the location of libtorch atomically; unchanged content keeps its modification time, so that nothing is
/// rebuilt.
fn configure(libtorch: &Path) -> Result<()> {
    let mut environment = toml::Table::new();
    environment.insert("LIBTORCH".into(), libtorch.to_string_lossy().into_owned().into());
    let mut build = toml::Table::new();
    // Documentation tests do not see what a build script passes to the linker.
    build.insert("rustdocflags".into(), vec!["-C".to_owned(), format!("link-arg=-Wl,-rpath,{}", libtorch.join("lib").display())].into());
    let mut all = toml::Table::new();
    all.insert("env".into(), environment.into());
    all.insert("build".into(), build.into());
    let text = format!("# Written by `cargo xtask setup`.\n{all}");
    let path = root().join(".cargo/libtorch.toml");
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    // Another command may record at the same time.
    let beside = path.with_extension(format!("{}.partial", std::process::id()));
    if let Err(error) = fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path)) {
        let _ = fs::remove_file(&beside);
        return Err(error).with_context(|| format!("cannot write {}", path.display()));
    }
    eprintln!("libtorch: {} (recorded in .cargo/libtorch.toml)", libtorch.display());
    Ok(())
}

fn cache() -> Result<PathBuf> {
    let folder = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache")));
    Ok(folder.context("neither XDG_CACHE_HOME nor HOME is set: set one of them; libtorch is stored there")?.join("asyndgan"))
}

/// The cached copy. If there is none, it is downloaded, unpacked under a temporary name and renamed.
fn download_once(flavour: Flavour) -> Result<PathBuf> {
    let cache = cache()?;
    let place = cache.join(format!("libtorch-{VERSION}-{}", flavour.name()));
    let libtorch = if flavour == Flavour::Cuda { place.join("torch") } else { place.clone() };
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock = fs::File::create(cache.join("setup.lock")).with_context(|| format!("cannot write into {}", cache.display()))?;
    lock.lock().context("cannot lock the cache folder")?;
    if check_libtorch(&libtorch).is_ok() {
        return Ok(libtorch);
    }
    if !(cfg!(target_os = "linux") && cfg!(target_arch = "x86_64")) {
        bail!(
            "libtorch is downloaded for Linux on x86-64 only: install libtorch {VERSION} and set LIBTORCH, or install Python's torch {VERSION} and set LIBTORCH_USE_PYTORCH=1"
        );
    }
    let beside = cache.join(format!("libtorch-{VERSION}-{}.partial", flavour.name()));
    remove(&beside)?;
    remove(&place)?;
    let done = pip::download(flavour, &beside)
        .and_then(|()| fs::rename(beside.join("libtorch"), &place).with_context(|| format!("cannot move libtorch to {}", place.display())));
    remove(&beside)?;
    done?;
    check_libtorch(&libtorch).map(|()| libtorch)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).with_context(|| format!("cannot remove {}", folder.display())),
        _ => Ok(()),
    }
}

//! Writes into the program where libtorch lies, and what the program was built from.

use std::{fs, path::Path, process::Command};

/// Crates of others whose version can change a result.
const CRATES: [&str; 6] = ["image", "ndarray", "nifti", "rand", "rand_chacha", "tch"];

#[allow(clippy::print_stdout, reason = "build scripts speak to cargo through standard output")]
fn main() {
    asyndgan_libtorch::link();
    let root = Path::new("../..");
    // Commits and changes of any source change what the program was built from.
    let crates = fs::read_dir(root.join("crates")).into_iter().flatten().flatten();
    let sources = crates.map(|folder| folder.path().join("src"));
    let others = [".git/HEAD", ".git/logs/HEAD", "Cargo.lock"].map(|path| root.join(path));
    for path in sources.chain(others).filter(|path| path.exists()) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    println!("cargo:rustc-env=ASYNDGAN_COMMIT={}", commit(root).unwrap_or_else(|| "unknown".into()));
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    let versions = CRATES.map(|name| format!("{name} {}", version(&lock, name).unwrap_or("unknown")));
    println!("cargo:rustc-env=ASYNDGAN_CRATES={}", versions.join(", "));
}

/// The commit of the sources; marked if they differ from it.
fn commit(root: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "crates", "Cargo.lock", "Cargo.toml"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit} with uncommitted changes") })
}

/// The version of a crate that ours depend on, from a lock file. Where the lock file has several versions of a crate,
/// dependencies name theirs.
fn version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let packages = || lock.split("[[package]]\n").skip(1);
    let ours = packages().filter(|package| package.starts_with("name = \"asyndgan"));
    let named = ours.flat_map(str::lines).find_map(|line| line.trim().strip_prefix(&format!("\"{name} "))?.strip_suffix("\","));
    named.or_else(|| {
        let package = packages().find(|package| package.starts_with(&format!("name = \"{name}\"\n")))?;
        package.lines().nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
    })
}

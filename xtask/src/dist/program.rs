//! The program for systems with an old glibc.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::python::PythonEnvironment;
use crate::{cargo, setup, succeed, target};

/// The oldest glibc on which the program runs; libtorch needs this one, too. It is that of RHEL 8.
pub(super) const GLIBC: [u32; 2] = [2, 28];
/// The newest symbols of libstdc++ that systems with this glibc have: those of GCC 8.
const GLIBCXX: [u32; 3] = [3, 4, 25];

/// Builds the program into a folder, for any system with glibc 2.28 or newer. `library_path` is where it finds
/// libtorch, relative to itself.
///
/// The program is linked by the installed compiler, but against the symbols of glibc 2.28, which come with zig.
pub(super) fn build(tools: &PythonEnvironment, library_path: &str, to: &Path) -> Result<()> {
    setup::ensure_libtorch()?;
    let library = setup::library_folder()?;
    ensure!(
        !library.join("libtorch_cuda.so").exists(),
        "{} is for CUDA: packages need the one that cargo xtask setup downloads",
        library.display()
    );
    let folder = sysroot(tools)?;
    let shown = folder.display();
    let mut build =
        cargo(&["rustc", "--quiet", "--locked", "--release", "--package", "asyndgan", "--bin", "asyndgan", "--", "-C", "strip=symbols"]);
    for argument in
        [&*format!("-B{shown}"), &format!("-L{shown}"), &format!("{shown}/compat.o"), "-Wl,--allow-shlib-undefined", "-lpthread", "-ldl"]
    {
        build.arg("-C").arg(format!("link-arg={argument}"));
    }
    succeed(build)?;
    let built = target().join("release/asyndgan");
    fs::copy(&built, to).with_context(|| format!("cannot copy {} to {}", built.display(), to.display()))?;
    tools.run("patchelf", ["--set-rpath".as_ref(), format!("$ORIGIN/{library_path}").as_ref(), to.as_os_str()])?;
    check_symbols(to)
}

/// A folder with what the linker takes of glibc.
fn sysroot(tools: &PythonEnvironment) -> Result<PathBuf> {
    let folder = target().join("dist-glibc");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let source = folder.join("empty.c");
    fs::write(&source, "int main(void) { return 0; }\n")?;
    let cache = folder.join("zig");
    let mut zig = tools.command("python")?;
    zig.args(["-m", "ziglang", "cc", "-target", &format!("x86_64-linux-gnu.{}.{}", GLIBC[0], GLIBC[1]), "-fPIE", "-pie", "-o"]);
    zig.arg(folder.join("empty")).arg(&source).env("ZIG_GLOBAL_CACHE_DIR", &cache);
    succeed(zig)?;
    for made in fs::read_dir(cache.join("o"))?.flatten() {
        for file in fs::read_dir(made.path())?.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if let Some((library, _)) = name.split_once(".so.") {
                fs::copy(file.path(), folder.join(&name))?;
                // Linkers look for this name.
                fs::copy(file.path(), folder.join(format!("{library}.so")))?;
            } else if name.ends_with("crt1.o") || name == "libc_nonshared.a" {
                fs::copy(file.path(), folder.join(&name))?;
            }
        }
    }
    let [c, nonshared, loader] = ["libc.so.6", "libc_nonshared.a", "libld.so"].map(|name| folder.join(name));
    for path in [&c, &nonshared, &loader, &folder.join("Scrt1.o")] {
        ensure!(path.is_file(), "zig did not make {}", path.display());
    }
    let script = format!("GROUP ( {} {} AS_NEEDED ( {} ) )\n", c.display(), nonshared.display(), loader.display());
    fs::write(folder.join("libc.so"), script)?;
    let compat = folder.join("compat.cpp");
    fs::write(&compat, include_str!("compat.cpp"))?;
    let mut compiler = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    compiler.args(["-std=c++17", "-O2", "-fPIC", "-c", "-o"]).arg(folder.join("compat.o")).arg(&compat);
    succeed(compiler)?;
    Ok(folder)
}

/// Checks that a program needs no newer symbols than those of the old system.
fn check_symbols(program: &Path) -> Result<()> {
    let output = Command::new("objdump").arg("-T").arg(program).output().context("cannot start objdump, a part of binutils")?;
    ensure!(output.status.success(), "objdump cannot read {}", program.display());
    let symbols = String::from_utf8_lossy(&output.stdout);
    for (prefix, newest) in [("GLIBC_", &GLIBC[..]), ("GLIBCXX_", &GLIBCXX[..])] {
        let needed = symbols.lines().filter_map(|line| version(line.split_once(prefix)?.1)).max();
        let needed = needed.with_context(|| format!("{} needs no {prefix} symbols, so it was not read correctly", program.display()))?;
        ensure!(needed[..] <= *newest, "{} needs {prefix}{needed:?}, which systems with glibc 2.28 lack", program.display());
    }
    Ok(())
}

/// The version number that a text starts with.
fn version(text: &str) -> Option<Vec<u32>> {
    let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(version("2.28) fstat64"), Some(vec![2, 28]));
        assert!(version("2.4) x") < version("2.28) x") && version("2.35) x").is_some_and(|v| v[..] > GLIBC[..]));
        assert_eq!(version("PRIVATE) x"), None);
    }
}

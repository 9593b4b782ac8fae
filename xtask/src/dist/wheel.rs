//! The Python package asyndgan: the program, which finds libtorch in the package torch.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{VERSION, made, program, python::PythonEnvironment};
use crate::{root, setup, succeed};

/// Builds the wheel, and tests it with libtorch in the place of the package torch.
pub(super) fn build(tools: &PythonEnvironment, out: &Path) -> Result<()> {
    let folder = crate::target().join("dist-wheel");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let package = folder.join("asyndgan");
    fs::create_dir_all(package.join("bin"))?;
    for name in ["__init__.py", "__main__.py", "py.typed"] {
        let source = root().join("crates/asyndgan/python/asyndgan").join(name);
        fs::copy(&source, package.join(name)).with_context(|| format!("cannot copy {}", source.display()))?;
    }
    program::build(tools, "../../torch/lib", &package.join("bin/asyndgan"))?;
    let about = folder.join(format!("asyndgan-{VERSION}.dist-info"));
    fs::create_dir_all(about.join("licenses"))?;
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        fs::copy(root().join(name), about.join("licenses").join(name))?;
    }
    super::licences::write("asyndgan", &about.join("licenses/THIRD-PARTY"))?;
    let [major, minor] = program::GLIBC;
    let tag = format!("py3-none-manylinux_{major}_{minor}_x86_64");
    let wheel = format!("Wheel-Version: 1.0\nGenerator: xtask {VERSION}\nRoot-Is-Purelib: false\nTag: {tag}\n");
    fs::write(about.join("WHEEL"), wheel)?;
    fs::write(about.join("METADATA"), metadata()?)?;
    fs::write(about.join("entry_points.txt"), "[console_scripts]\nasyndgan = asyndgan.__main__:main\n")?;
    let mut pack = tools.command("python")?;
    // The same files give the same bytes.
    pack.args(["-m", "wheel", "pack"]).arg(&folder).arg("--dest-dir").arg(out).env("SOURCE_DATE_EPOCH", "315532800");
    succeed(pack)?;
    check(&made(out, "asyndgan-", ".whl")?)
}

fn metadata() -> Result<String> {
    let readme = fs::read_to_string(root().join("crates/asyndgan/python/README.md"))?;
    Ok(format!(
        "Metadata-Version: 2.4\nName: asyndgan\nVersion: {VERSION}\n\
         Summary: AsynDGAN: learn from medical images that never leave their hospitals\n\
         License-Expression: MIT OR Apache-2.0\nLicense-File: LICENSE-MIT\nLicense-File: LICENSE-APACHE\nLicense-File: THIRD-PARTY\n\
         Keywords: medical-imaging,gan,federated-learning,segmentation,privacy\n\
         Requires-Python: >=3.10\nRequires-Dist: torch=={}\nDescription-Content-Type: text/markdown\n\n{readme}",
        setup::VERSION
    ))
}

/// Installs the wheel, and trains with it. The package torch is 4.6 GB with its dependencies, so the test uses a link
/// to the libtorch of this checkout instead.
fn check(wheel: &Path) -> Result<()> {
    let user = PythonEnvironment::new("dist-wheel-test", &["--no-deps", &wheel.to_string_lossy()])?;
    let torch = user.site_packages()?.join("torch");
    fs::create_dir_all(&torch)?;
    let library = setup::library_folder()?;
    std::os::unix::fs::symlink(&library, torch.join("lib")).with_context(|| format!("cannot link {}", library.display()))?;
    user.run("asyndgan", ["--version"])?;
    user.run("python", ["-m", "asyndgan", "reproduce", "fig5", "--profile", "smoke", "--out", "run"])
}

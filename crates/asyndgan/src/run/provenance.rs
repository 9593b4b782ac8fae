//! Software and hardware of the running process, for the record of a result.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use asyndgan_protocol::hex;
use sha2::{Digest as _, Sha256};
use tch::Device;

/// The program, the libraries, the processor and the threads that compute here.
///
/// `libtorch` is the library that this process has loaded, with the first digits of its SHA-256.
pub(crate) fn provenance(device: Device, threads: &str) -> BTreeMap<String, String> {
    let device = if device.is_cuda() { "cuda" } else { "cpu" };
    let facts = [
        ("asyndgan", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", env!("ASYNDGAN_COMMIT").to_owned()),
        ("crates", env!("ASYNDGAN_CRATES").to_owned()),
        ("libtorch", loaded_libtorch().unwrap_or_else(|| "unknown".into())),
        ("processor", processor().unwrap_or_else(|| "unknown".into())),
        ("threads", threads.to_owned()),
        ("device", device.to_owned()),
    ];
    facts.map(|(name, fact)| (name.to_owned(), fact)).into()
}

/// Version and digest of the libtorch that is mapped into this process.
fn loaded_libtorch() -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let library = mapped(&maps, "libtorch_cpu.so")?;
    let (mut file, mut hash, mut block) = (File::open(&library).ok()?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut block).ok()? {
            0 => break,
            n => hash.update(&block[..n]),
        }
    }
    let digest = hex(&hash.finalize()[..6]);
    Some(format!("{}, sha256 {digest}", installed_version(library.parent()?.parent()?).unwrap_or_else(|| "unknown version".into())))
}

/// The file of a name that a process has mapped.
fn mapped(maps: &str, name: &str) -> Option<PathBuf> {
    // address, permissions, offset, device, inode, and the path, which may hold spaces.
    let paths = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
    paths.filter(|path| path.file_name().is_some_and(|file| file == name)).map(Path::to_path_buf).next()
}

/// What an installation of libtorch or of Python's torch says of itself.
fn installed_version(folder: &Path) -> Option<String> {
    if let Ok(version) = fs::read_to_string(folder.join("build-version")) {
        return Some(version.trim().to_owned());
    }
    let text = fs::read_to_string(folder.join("version.py")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(value.trim_matches(['\'', '"']).to_owned())
}

fn processor() -> Option<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"))?.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or_else(|_| "unknown number of".into(), |cores| cores.to_string());
    Some(format!("{name}, {cores} {}", if cores == "1" { "core" } else { "cores" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaded_library_is_found_by_its_name() {
        let maps = "7f00-7f01 r-xp 00000000 08:01 12 /usr/lib/libc.so.6\n\
                    7f02-7f03 r-xp 00000000 08:01 13 /opt/my torch/lib/libtorch_cpu.so\n\
                    7ffc-7ffd rw-p 00000000 00:00 0 [stack]";
        assert_eq!(mapped(maps, "libtorch_cpu.so"), Some(PathBuf::from("/opt/my torch/lib/libtorch_cpu.so")));
        assert_eq!(mapped(maps, "libtorch_cuda.so"), None);
    }

    #[test]
    fn an_installation_of_either_kind_says_its_version() {
        let place = tempfile::tempdir().expect("a folder");
        assert_eq!(installed_version(place.path()), None);
        fs::write(place.path().join("version.py"), "from typing import Optional\n__version__ = '2.11.0+cu130'\n").expect("written");
        assert_eq!(installed_version(place.path()).as_deref(), Some("2.11.0+cu130"));
        fs::write(place.path().join("build-version"), "2.11.0+cpu\n").expect("written");
        assert_eq!(installed_version(place.path()).as_deref(), Some("2.11.0+cpu"));
    }

    #[test]
    fn this_process_is_described() {
        let facts = provenance(Device::Cpu, "1");
        if cfg!(target_os = "linux") {
            assert!(facts["libtorch"].contains("sha256"), "{facts:?}");
            assert!(!facts["libtorch"].contains("unknown"), "{facts:?}");
        }
        assert!(!facts["crates"].contains("unknown"), "{facts:?}");
    }
}

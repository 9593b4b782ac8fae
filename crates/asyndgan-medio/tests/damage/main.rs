//! Broken and hostile files are errors that name the file and the fact: never a panic, never an allocation that the
//! file does not warrant.
#![allow(missing_docs, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use asyndgan_medio::{
    Error,
    dicom::{parse_segmentation, parse_slice, read_series},
    parse_annotations, parse_instances, parse_labels, parse_rgb, parse_volume,
};
use proptest::prelude::*;

mod annotations;
mod dicom;
mod folders;
mod pictures;
mod volumes;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/medio")
}

fn complaint<T>(result: Result<T, Error>) -> String {
    result.err().map_or_else(|| panic!("it was read"), |e| e.to_string())
}

/// A copy of the golden series, to be spoilt.
fn copy_series(to: &Path) {
    fs::create_dir_all(to).expect("made");
    for name in ["a", "b", "c", "d"] {
        fs::copy(golden().join("series").join(name), to.join(name)).expect("copied");
    }
}

/// Every file of the golden set, the series' slices among them.
fn files() -> Vec<PathBuf> {
    let list = |folder: PathBuf| fs::read_dir(folder).expect("listed").map(|e| e.expect("listed").path()).filter(|p| p.is_file());
    let mut files: Vec<PathBuf> = list(golden()).chain(list(golden().join("series"))).collect();
    files.sort();
    files
}

/// Gives bytes to every parser.
fn parse_all(path: &Path, bytes: &[u8]) {
    let said = |error: Error| assert!(error.to_string().contains(&*path.to_string_lossy()), "{error} does not name {}", path.display());
    parse_volume(path, bytes).map_or_else(said, drop);
    parse_labels(path, bytes).map_or_else(said, drop);
    parse_rgb(path, bytes).map_or_else(said, drop);
    parse_instances(path, bytes).map_or_else(said, drop);
    parse_annotations(path, bytes, 30, 30, None).map_or_else(said, drop);
    parse_slice(path, bytes).map_or_else(said, drop);
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index, u8),
    Overwrite(prop::sample::Index, u32),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<prop::sample::Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        any::<prop::sample::Index>().prop_map(Damage::Cut),
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, n)| Damage::Repeat(at, n)),
        (any::<prop::sample::Index>(), prop_oneof![Just(u32::MAX), Just(0), Just(1 << 31), any::<u32>()])
            .prop_map(|(at, v)| Damage::Overwrite(at, v)),
    ]
}

fn spoil(bytes: &mut Vec<u8>, damage: &[Damage]) {
    for one in damage {
        if bytes.is_empty() {
            return;
        }
        match one {
            Damage::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Repeat(at, n) => {
                let at = at.index(bytes.len());
                let end = (at + usize::from(*n)).min(bytes.len());
                bytes.splice(at..at, bytes[at..end].to_vec());
            }
            Damage::Overwrite(at, value) => {
                let at = at.index(bytes.len());
                bytes.iter_mut().skip(at).zip(value.to_le_bytes()).for_each(|(b, v)| *b = v);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_spoilt_file_is_read_or_refused(file in any::<prop::sample::Index>(), damage in prop::collection::vec(damage(), 1..4)) {
        let files = files();
        let path = file.get(&files);
        let mut bytes = fs::read(path).expect("there");
        spoil(&mut bytes, &damage);
        parse_all(path, &bytes);
    }

    #[test]
    fn a_spoilt_slice_of_a_series_and_a_spoilt_segmentation_are_read_or_refused(slice in 0..4_usize, damage in prop::collection::vec(damage(), 1..4)) {
        let folder = tempfile::tempdir().expect("a folder");
        copy_series(folder.path());
        let path = folder.path().join(["a", "b", "c", "d"][slice]);
        let mut bytes = fs::read(&path).expect("there");
        spoil(&mut bytes, &damage);
        fs::write(&path, &bytes).expect("written");
        let series = read_series(folder.path()).or_else(|_| read_series(&golden().join("series"))).expect("the golden series");
        let mut bytes = fs::read(golden().join("segmentation.dcm")).expect("there");
        spoil(&mut bytes, &damage);
        drop(parse_segmentation(Path::new("s.dcm"), &bytes, &series));
    }
}

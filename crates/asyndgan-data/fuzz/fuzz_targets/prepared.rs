#![no_main]
use asyndgan_data::{CaseSet, TestSet};
use std::sync::LazyLock;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.path().join("c.safetensors");
    std::fs::write(&path, bytes).expect("written");
    if let Ok(set) = CaseSet::open(&[path]) {
        (0..set.len().min(4)).for_each(|n| drop(set.read(n)));
    }
    drop(TestSet::open(FOLDER.path()).expect("listed").read(0));
});

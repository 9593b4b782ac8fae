#![no_main]
use std::path::Path;

use asyndgan_medio::{
    Volume,
    dicom::{parse_segmentation, read_series},
};
use std::sync::LazyLock;

static SERIES: LazyLock<Volume> = LazyLock::new(|| {
    read_series(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../data/golden/medio/series")).expect("the golden series")
});
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    drop(parse_segmentation(Path::new("f"), bytes, &SERIES));
});

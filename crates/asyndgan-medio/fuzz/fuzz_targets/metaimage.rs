#![no_main]
use std::path::Path;

use asyndgan_medio::{parse_labels, parse_volume};
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    drop(parse_volume(Path::new("f.mha"), bytes));
    drop(parse_labels(Path::new("f.mha"), bytes));
});

#![no_main]
use std::path::Path;

use asyndgan_medio::{parse_instances, parse_labels, parse_rgb};
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    drop(parse_rgb(Path::new("f"), bytes));
    drop(parse_instances(Path::new("f"), bytes));
    // A stack of pages.
    drop(parse_labels(Path::new("f.tif"), bytes));
});

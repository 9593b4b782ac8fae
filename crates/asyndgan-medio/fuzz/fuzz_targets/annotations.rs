#![no_main]
use std::path::Path;

use asyndgan_medio::parse_annotations;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    drop(parse_annotations(Path::new("f"), bytes, 64, 64, None));
});

#![no_main]
use std::path::Path;

use asyndgan_medio::dicom::parse_slice;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    drop(parse_slice(Path::new("f"), bytes));
});

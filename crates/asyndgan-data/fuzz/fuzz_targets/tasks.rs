#![no_main]
use asyndgan_task::{SiteLists, Task};

libfuzzer_sys::fuzz_target!(|text: &str| {
    drop(SiteLists::parse(text));
    drop(Task::parse(text));
});

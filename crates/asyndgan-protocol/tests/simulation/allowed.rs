//! A run that the default policy allows, and the data of a site for it.

use asyndgan_protocol::{RunDescription, SiteSummary, Waiting};

use super::run;

/// 48 cases of four patients.
pub fn patients() -> Vec<u32> {
    (0..48).map(|case| case / 12).collect()
}

pub fn summary() -> SiteSummary {
    SiteSummary { cases: 48, image_dims: vec![3, 143, 143], conditions_sha256: [0; 32] }
}

/// A run that the default policy allows.
pub fn allowed() -> RunDescription {
    run(800, Waiting::All).with(|run| {
        run.channels = 3;
        run.size = 143;
        run.crop = 64;
        run.batch = 2;
        run.rounds = 800;
        run.checkpoint_every = 100;
    })
}

//! Scores a folder of masks against ground truth: `cargo run -p asyndgan --example score_folders`.
#![allow(clippy::print_stdout, reason = "an example prints")]

mod support;

use asyndgan::{
    Result,
    score::{ScoreOptions, score_folders},
};

fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    support::write_data(place.path())?;
    let masks = place.path().join("masks");

    let mut options = ScoreOptions::default();
    options.instances = true;
    // The masks against themselves.
    let report = score_folders(&masks, &masks, &options)?;
    println!("{}", report.text());
    std::fs::write(place.path().join("scores.json"), serde_json::to_string_pretty(&report)?)?;
    report.draw(&place.path().join("scores.svg"))
}

//! Lists a folder of images and masks, and prepares it for training: `cargo run -p asyndgan --example prepare_data`.
#![allow(clippy::print_stdout, reason = "an example prints")]

mod support;

use asyndgan::{
    Result,
    data::{Partition, PrepareOptions, inspect, prepare_folder},
    task_file::TaskFile,
};

fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    let (data, prepared) = (place.path().join("data"), place.path().join("prepared"));
    support::write_data(&data)?;

    let found = inspect(&data, &place.path().join("contact-sheet.png"), None)?;
    println!("{}", found.text);
    assert!(found.problems.is_empty());

    let mut options = PrepareOptions::of_task_file(&TaskFile::parse(support::TASK)?)?;
    options.sites = 2;
    options.partition = Partition::Size;
    let made = prepare_folder(&data, &prepared, &options)?;
    for site in &made.sites {
        println!("{}: {} patches of {}", site.name, site.cases, site.patients.join(", "));
    }
    println!("held out: {}", made.test.join(", "));
    Ok(())
}

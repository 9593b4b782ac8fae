//! Trains a generator with two sites in one process, and makes images with it: `cargo run -p asyndgan --example
//! train_in_process`.
#![allow(clippy::print_stdout, reason = "an example prints")]

mod support;

use asyndgan::{
    Result,
    in_process::InProcess,
    network_file::{GeneratorFile, write_generator},
    task_file::TaskFile,
};
use asyndgan_data::CaseSet;
use asyndgan_training::Pairs;
use tch::Device;

fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    support::prepare(place.path())?;

    let run = TaskFile::parse(support::TASK)?.run(None, &[])?;
    let job = InProcess::of_run(&run, 0, place.path().join("checkpoints"));
    let load = |site: u32| Ok(Pairs::of_cases(CaseSet::open(&[place.path().join(format!("prepared/site-{site}"))])?)?);
    let sites = (1..=2).map(load).collect::<Result<Vec<_>>>()?;
    let (server, ledger) = job.train(sites, |rounds_done, _, _| println!("{rounds_done} of {} rounds", run.settings.protocol.rounds))?;
    let bytes: u64 = ledger.entries().map(|(_, _, traffic)| traffic.bytes).sum();
    println!("{bytes} bytes travelled between the server and the sites");

    // The generator with its task, as the program reads it.
    let file = place.path().join("generator.safetensors");
    write_generator(&file, &run, &server)?;
    let generator = GeneratorFile::open(&file, Device::Cpu)?;
    let condition = CaseSet::open(&[place.path().join("prepared/site-1")])?.condition(0)?;
    let images = generator.images(condition.view(), &[0, 1], 2, 7)?;
    println!("{} images of {:?} in the appearance of each site", images.len(), images[0].dim());
    Ok(())
}

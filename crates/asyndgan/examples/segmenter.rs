//! Trains a segmenter on prepared images, saves it, segments images, and scores the held-out ones: `cargo run -p
//! asyndgan --example segmenter`.
#![allow(clippy::print_stdout, reason = "an example prints")]

mod support;

use asyndgan::{
    Result,
    asyndgan_evaluator::score,
    network_file::SegmenterFile,
    segmenter::{SegmenterJob, segment, train_segmenter},
};
use asyndgan_data::TestSet;
use tch::Device;

fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    support::prepare(place.path())?;
    let at = |name: &str| place.path().join(name);

    std::fs::write(at("task.toml"), support::TASK)?;
    let mut job = SegmenterJob::new(vec![at("prepared/site-1"), at("prepared/site-2")], at("segmenter.safetensors"));
    job.task = Some(at("task.toml").display().to_string());
    train_segmenter(&job)?;

    // A file: its mask is written on the grid of the image.
    segment(&[at("data/images/test_1.png")], &at("segmenter.safetensors"), &at("masks"), Device::Cpu)?;
    // Images in memory, with their ground truth.
    let segmenter = SegmenterFile::open(&at("segmenter.safetensors"), Device::Cpu)?;
    let held_out = TestSet::open(&at("prepared/test"))?;
    for i in 0..held_out.len() {
        let case = held_out.read(i)?;
        let mask = segmenter.predict(case.clone())?;
        let scores = score(segmenter.task(), &case, &mask);
        println!("{}: {} nuclei, {scores:?}", case.id, mask.iter().max().unwrap_or(&0));
    }
    Ok(())
}

//! A small data set for the examples: artificial tiles of two hospitals with different stains, as images and masks.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each example uses its part")]

use std::{fs, path::Path};

use asyndgan::{
    Result,
    data::{Partition, PrepareOptions, prepare_folder},
    task_file::TaskFile,
};
use asyndgan_data::phantom::{Stain, tile};
use asyndgan_medio::{write_instances, write_rgb};
use asyndgan_task::SiteLists;
use ndarray::Axis;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// The task, with everything as small as possible.
pub const TASK: &str = r#"
    profile = "smoke"
    name = "nuclei"
    images = "pictures"
    labels = "instances"
    channels = [
        { name = "red", normalisation = "stain" },
        { name = "green", normalisation = "stain" },
        { name = "blue", normalisation = "stain" },
    ]
    classes = [{ name = "nucleus" }]
    [data]
    size = 48
    crop = 32
    downsampling = 1
    [segmenter]
    width = 8
    steps = 60
"#;

/// Writes images and masks of five tiles, with a `pairs.toml`.
pub fn write_data(folder: &Path) -> Result<()> {
    for part in ["images", "masks"] {
        fs::create_dir_all(folder.join(part))?;
    }
    for (number, name) in ["north_1", "north_2", "south_1", "south_2", "test_1"].into_iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(number as u64);
        let study = tile(name, 96, &Stain::of_site(number / 2), &mut rng);
        write_rgb(&folder.join(format!("images/{name}.png")), study.images.index_axis(Axis(1), 0).mapv(|v| v as u8).view())?;
        write_instances(&folder.join(format!("masks/{name}.png")), study.labels.index_axis(Axis(0), 0))?;
    }
    fs::write(folder.join("pairs.toml"), "images = \"images\"\nmasks = \"masks\"\nchannels = [\"rgb\"]\n")?;
    Ok(())
}

/// Writes the data set to `folder/data`, and prepares it: two sites and a held-out tile in `folder/prepared`.
pub fn prepare(folder: &Path) -> Result<()> {
    write_data(&folder.join("data"))?;
    let mut options = PrepareOptions::of_task_file(&TaskFile::parse(TASK)?)?;
    options.partition =
        Partition::Lists(SiteLists::parse("north = [\"north_1\", \"north_2\"]\nsouth = [\"south_1\", \"south_2\"]\ntest = [\"test_1\"]")?);
    prepare_folder(&folder.join("data"), &folder.join("prepared"), &options)?;
    Ok(())
}

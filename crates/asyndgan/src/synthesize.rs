//! Makes an arm's synthetic images from its generator and the masks that the server was given.

use std::path::Path;

use anyhow::{Context, Result};
use asyndgan_medio::{Case, prepare, transplant, window, write_cases};
use asyndgan_models::{Generator, read_tensors, write_tensors};
use asyndgan_paper::{Arm, Experiment, Step};
use asyndgan_protocol::{Role, stream};
use asyndgan_training::{Wanted, synthesize as through};
use ndarray::{Array2, Array3};
use rand::Rng;
use tch::Tensor;

use crate::{configure, progress::Progress, run_folder::RunFolder};

/// Images that go through the generator at once, where they leave each other alone.
const TOGETHER: u32 = 16;

pub(crate) fn synthesize(folder: &RunFolder, arm: Arm, seed: u64) -> Result<()> {
    let place = folder.arm(arm, seed)?;
    let generator = load(folder, &place.join("generator.safetensors"))?;
    let out = folder.proof(Step::Synthesize(arm, seed));
    let label = Step::Synthesize(arm, seed).label();
    if folder.run.experiment == Experiment::Fig5 {
        let count = configure::codes(folder.run.experiment);
        let codes = toy_codes(folder.run.settings.phantoms_held_out, arm);
        let mut bar = Progress::new(&label, codes.numel() as u64);
        let wanted = Wanted { codes: &codes, planes: count, sites: &[], together: 1 << 16 };
        let values = through(&generator, &wanted, seed, folder.device, |done| bar.set(done));
        write_tensors(&out, &[("values".to_owned(), values)].into())?;
        return Ok(());
    }
    let chosen = choose(folder, &conditions(&place)?, seed);
    let mut bar = Progress::new(&label, chosen.len() as u64);
    Ok(write_cases(&out, None, &images_of(folder, &generator, chosen, seed, |done| bar.set(done)))?)
}

/// A generator of this run from its file.
pub(crate) fn load(folder: &RunFolder, path: &Path) -> Result<Generator> {
    let config = configure::gan(&folder.run, Arm::AsynDgan).generator;
    let mut generator = Generator::new(&config, folder.device, &mut stream(0, Role::GeneratorWeights, 0, 0));
    generator.parameters.load(&read_tensors(path)?)?;
    Ok(generator)
}

/// A mask, and the number of its site from 0.
pub(crate) type SiteMask = (u32, Array2<u8>);

/// The masks that an arm's server was given.
pub(crate) fn conditions(place: &Path) -> Result<Vec<SiteMask>> {
    let path = place.join("conditions.safetensors");
    let mut masks = Vec::new();
    for (name, codes) in read_tensors(&path)? {
        let number = name.strip_prefix("site-").and_then(|n| n.parse::<u32>().ok()).and_then(|n| n.checked_sub(1));
        let site = number.with_context(|| format!("{} has masks of {name}, which is no site", path.display()))?;
        masks.extend(planes(&codes).into_iter().map(|mask| (site, mask)));
    }
    Ok(masks)
}

/// Synthetic images of chosen conditions.
pub(crate) fn images_of(
    folder: &RunFolder,
    generator: &Generator,
    chosen: Vec<SiteMask>,
    seed: u64,
    progress: impl FnMut(u64),
) -> Vec<Case> {
    let side = folder.run.settings.crop as i64;
    let flat: Vec<u8> = chosen.iter().flat_map(|(_, mask)| mask).copied().collect();
    let sites: Vec<u32> = chosen.iter().map(|(site, _)| *site).filter(|_| folder.run.settings.site_code).collect();
    let codes = Tensor::from_slice(&flat).view([chosen.len() as i64, 1, side, side]);
    let together = if folder.run.settings.batch_norm { folder.run.settings.batch } else { TOGETHER };
    let wanted = Wanted { codes: &codes, planes: configure::codes(folder.run.experiment), sites: &sites, together };
    let images = through(generator, &wanted, seed, folder.device, progress);
    let case =
        |(i, (_, condition)): (usize, SiteMask)| Case { id: format!("synthetic-{i}"), image: image(&images.get(i as i64)), condition };
    chosen.into_iter().enumerate().map(case).collect()
}

/// Conditions in the mixture's shares; an arm of one site knows its own only.
fn toy_codes(count: usize, arm: Arm) -> Tensor {
    let code = |i: usize| match arm {
        Arm::SynSubset(site) => site as u8,
        Arm::AsynDganOverlap => 1,
        _ => (i % 3) as u8 + 1,
    };
    Tensor::from_slice(&(0..count).map(code).collect::<Vec<_>>()).unsqueeze(1)
}

pub(crate) fn planes(codes: &Tensor) -> Vec<Array2<u8>> {
    let size = codes.size();
    let mut values = vec![0_u8; codes.numel()];
    codes.copy_data(&mut values, codes.numel());
    let shape = (size[2] as usize, size[3] as usize);
    values.chunks_exact(shape.0 * shape.1).map(|v| Array2::from_shape_vec(shape, v.to_vec()).expect("a plane")).collect()
}

/// What to make: each condition once as it is, in the middle; then crops at random, of brains with another slice's tumour.
pub(crate) fn choose(folder: &RunFolder, conditions: &[SiteMask], seed: u64) -> Vec<SiteMask> {
    let crop = folder.run.settings.crop;
    let margin = |c: &Array2<u8>| (c.nrows() - crop, c.ncols() - crop);
    let middle = |c: &Array2<u8>| window(c.view(), margin(c).0 / 2, margin(c).1 / 2, crop).to_owned();
    let mut chosen: Vec<SiteMask> = conditions.iter().map(|(site, c)| (*site, middle(c))).collect();
    for copy in 1..folder.run.settings.synthetic_per_condition {
        for (i, (site, own)) in conditions.iter().enumerate() {
            let mut rng = stream(seed, Role::Transplant, copy as u32, i as u64);
            let moved = (folder.run.experiment == Experiment::Table1).then(|| {
                let mut other = || &conditions[rng.random_range(0..conditions.len())].1;
                // Some tumours lie outside of some outlines: a few tries, then the slice's own.
                (0..10).find_map(|_| transplant(own.view(), other().view(), prepare::TUMOUR_PIXELS_MIN))
            });
            let condition = moved.flatten().unwrap_or_else(|| own.clone());
            let (rows, columns) = margin(own);
            let (top, left) = (rng.random_range(0..=rows), rng.random_range(0..=columns));
            chosen.push((*site, window(condition.view(), top, left, crop).to_owned()));
        }
    }
    chosen
}

pub(crate) fn image(tensor: &Tensor) -> Array3<f32> {
    let size = tensor.size();
    let mut values = vec![0.0; tensor.numel()];
    tensor.contiguous().copy_data(&mut values, tensor.numel());
    Array3::from_shape_vec((size[0] as usize, size[1] as usize, size[2] as usize), values).expect("an image")
}

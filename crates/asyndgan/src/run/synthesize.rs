//! Makes an arm's synthetic images from its generator and the masks that the server received.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use asyndgan_data::{Case, CaseOrigin, transplant, window, write_cases};
use asyndgan_models::{Generator, read_tensors, write_tensors};
use asyndgan_paper::{Arm, Step};
use asyndgan_protocol::{Role, stream};
use asyndgan_training::{SynthesisRequest, synthesize as through};
use ndarray::Array2;
use rand::RngExt;
use tch::Tensor;

use crate::{
    configure,
    files::{remove_folder, write_json},
    progress::Progress,
    run::RunFolder,
    tensors::{image, planes},
};

/// Images per pass through the generator, if they do not affect each other (no batch norm).
const TOGETHER: u32 = 16;
/// Approximate number of images in memory and per file.
pub(crate) const A_FILE: u32 = 256;

/// Makes the synthetic images of an arm from its generator and the masks that the server received.
///
/// # Errors
/// If the generator or the masks cannot be read, or the images cannot be written.
pub fn synthesize(folder: &RunFolder, arm: Arm, seed: u64) -> Result<()> {
    let place = folder.arm(arm, seed)?;
    let generator = load(folder, &place.join("generator.safetensors"))?;
    let (out, beside) = (Step::synthetic(&folder.path, arm, seed), place.join("synthetic.partial"));
    remove_folder(&beside)?;
    let label = Step::Synthesize(arm, seed).label();
    let count = if folder.run.task().is_none() {
        let planes = configure::condition_classes(&folder.run);
        let codes = toy_codes(folder.run.settings.data.phantoms_held_out, arm);
        let mut bar = Progress::new(&label, codes.numel() as u64);
        let wanted = SynthesisRequest::new(&codes, planes).with(|request| {
            request.together = 1 << 16;
            request.batches_before = 0;
        });
        let values = through(&generator, &wanted, seed, folder.device, |done| bar.set(done));
        fs::create_dir_all(&beside).with_context(|| format!("cannot create {}", beside.display()))?;
        write_tensors(&beside.join(TOY), &[("values".to_owned(), values)].into())?;
        codes.numel()
    } else {
        let chosen = Chosen { folder, conditions: conditions(&place)?, seed };
        let mut bar = Progress::new(&label, chosen.count() as u64);
        chosen.images(&generator, &beside, A_FILE, |done| bar.set(done))?;
        chosen.count()
    };
    let proof = folder.proof(Step::Synthesize(arm, seed));
    write_json(&beside.join(proof.file_name().context("a proof has a name")?), &serde_json::json!({ "images": count }))?;
    // A partly removed folder must not pass for a complete one.
    if proof.exists() {
        fs::remove_file(&proof).with_context(|| format!("cannot remove {}", proof.display()))?;
    }
    remove_folder(&out)?;
    fs::rename(&beside, &out).with_context(|| format!("cannot create {}", out.display()))
}

/// The file with the values of the toy experiment, in the folder of synthetic images.
pub(crate) const TOY: &str = "values.safetensors";

/// The folder of an arm's synthetic images, if they are there.
pub(crate) fn made(folder: &RunFolder, arm: Arm, seed: u64) -> Result<PathBuf> {
    ensure!(
        folder.proof(Step::Synthesize(arm, seed)).is_file(),
        "{0} contains no synthetic images of {arm} with seed {seed} (seeds of the run: {1:?}). Make them with \
         `asyndgan synthesize --run {0} --arm {arm} --seed {seed}`; images of an earlier version must be made again",
        folder.path.display(),
        folder.run.seeds
    );
    Ok(Step::synthetic(&folder.path, arm, seed))
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

/// The masks that an arm's server received.
pub(crate) fn conditions(place: &Path) -> Result<Vec<SiteMask>> {
    let path = place.join("conditions.safetensors");
    let mut masks = Vec::new();
    for (name, codes) in read_tensors(&path)? {
        let number = name.strip_prefix("site-").and_then(|n| n.parse::<u32>().ok()).and_then(|n| n.checked_sub(1));
        let site = number.with_context(|| format!("{} has masks of {name}, which is not a site", path.display()))?;
        masks.extend(planes(&codes).into_iter().map(|mask| (site, mask)));
    }
    Ok(masks)
}

/// The masks from which an arm's generator makes images: first a centre crop of each condition, then random crops; if
/// conditions have an outline, these have the classes of another slice. Each mask is computed when it is needed.
pub(crate) struct Chosen<'a> {
    pub(crate) folder: &'a RunFolder,
    pub(crate) conditions: Vec<SiteMask>,
    pub(crate) seed: u64,
}

impl Chosen<'_> {
    fn count(&self) -> usize {
        self.conditions.len() * self.folder.run.settings.synthesis.per_condition
    }

    /// Rows and columns of the images.
    fn side(&self) -> usize {
        let settings = &self.folder.run.settings;
        if settings.synthesis.whole { settings.data.size / 4 * 4 } else { settings.data.crop }
    }

    fn mask(&self, number: usize) -> SiteMask {
        let side = self.side();
        let (copy, i) = (number / self.conditions.len(), number % self.conditions.len());
        let (site, own) = &self.conditions[i];
        let (rows, columns) = (own.nrows() - side, own.ncols() - side);
        if copy == 0 {
            return (*site, window(own.view(), rows / 2, columns / 2, side).to_owned());
        }
        let mut rng = stream(self.seed, Role::Transplant, copy as u32, i as u64);
        let moved = self.folder.run.task().filter(|task| task.outline).map(|task| {
            let mut other = || &self.conditions[rng.random_range(0..self.conditions.len())].1;
            // Some classes lie outside of some outlines: a few tries, then the slice's own.
            (0..10).find_map(|_| transplant(task, own.view(), other().view(), task.marked_pixels_min))
        });
        let condition = moved.flatten().unwrap_or_else(|| own.clone());
        let (top, left) = (rng.random_range(0..=rows), rng.random_range(0..=columns));
        (*site, window(condition.view(), top, left, side).to_owned())
    }

    /// Writes the images to a new folder, about `a_file` images per file, so that a whole data set need not fit into
    /// memory. An existing folder is removed first.
    pub(crate) fn images(&self, generator: &Generator, out: &Path, a_file: u32, mut progress: impl FnMut(u64)) -> Result<()> {
        let settings = &self.folder.run.settings;
        let described = configure::gan(&self.folder.run, Arm::AsynDgan).images;
        let is_cropped = self.side() < settings.data.size;
        let together = if settings.generator.batch_norm { settings.protocol.batch } else { TOGETHER };
        let batches = (a_file / together).max(1);
        let a_file = (batches * together) as usize;
        remove_folder(out)?;
        fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
        for (number, start) in (0..self.count()).step_by(a_file).enumerate() {
            let masks: Vec<SiteMask> = (start..self.count().min(start + a_file)).map(|i| self.mask(i)).collect();
            let flat: Vec<u8> = masks.iter().flat_map(|(_, mask)| mask).copied().collect();
            let sites: Vec<u32> = masks.iter().map(|(site, _)| *site).filter(|_| settings.generator.site_code).collect();
            let side = self.side() as i64;
            let codes = Tensor::from_slice(&flat).view([masks.len() as i64, 1, side, side]);
            let batches_before = number as u64 * u64::from(batches);
            let planes = configure::condition_classes(&self.folder.run);
            let wanted = SynthesisRequest::new(&codes, planes).with(|request| {
                request.sites = &sites;
                request.together = together;
                request.batches_before = batches_before;
            });
            let images = through(generator, &wanted, self.seed, self.folder.device, |done| progress(start as u64 + done));
            let case = |(i, (_, condition)): (usize, SiteMask)| Case {
                id: format!("synthetic-{}", start + i),
                image: image(&images.get(i as i64)),
                condition,
            };
            let cases: Vec<Case> = masks.into_iter().enumerate().map(case).collect();
            let origin = CaseOrigin::default().with(|origin| {
                origin.images = described.as_ref();
                origin.size = is_cropped.then_some(settings.data.size);
            });
            write_cases(&out.join(format!("{number:06}.safetensors")), origin, &cases)?;
        }
        Ok(())
    }
}

/// Conditions in the proportions of the mixture; an arm of one site knows its own condition only.
fn toy_codes(count: usize, arm: Arm) -> Tensor {
    let code = |i: usize| match arm {
        Arm::SynSubset(site) => site as u8,
        Arm::AsynDganOverlap => 1,
        _ => (i % 3) as u8 + 1,
    };
    Tensor::from_slice(&(0..count).map(code).collect::<Vec<_>>()).unsqueeze(1)
}

#[cfg(test)]
mod tests {
    use asyndgan_data::CaseSet;
    use asyndgan_paper::{Experiment, Profile, Run, Settings};
    use tch::Device;

    use super::*;

    /// A run with two images per mask, and its untrained generator.
    fn run(place: &Path, whole: bool) -> (RunFolder, Generator) {
        let mut settings = Settings::new(Experiment::Table1, Profile::Smoke);
        (settings.synthesis.per_condition, settings.synthesis.whole, settings.data.size) = (2, whole, 71);
        write_json(&place.join("run.json"), &Run::phantoms(Experiment::Table1, Profile::Smoke, settings)).expect("written");
        let folder = RunFolder::open(place).expect("a run");
        let config = configure::gan(&folder.run, Arm::AsynDgan).generator;
        let generator = Generator::new(&config, Device::Cpu, &mut stream(0, Role::GeneratorWeights, 0, 0));
        (folder, generator)
    }

    fn masks(folder: &RunFolder, count: u32) -> Vec<SiteMask> {
        let side = folder.run.settings.data.size;
        let mask = |i: u32| {
            (i % 2, Array2::from_shape_fn((side, side), |(r, c)| u8::from((r + c + i as usize).is_multiple_of(7)) * (i % 4 + 1) as u8))
        };
        (0..count).map(mask).collect()
    }

    #[test]
    fn how_many_images_go_into_a_file_changes_none() {
        let place = tempfile::tempdir().expect("a folder");
        let (folder, generator) = run(place.path(), false);
        let chosen = Chosen { folder: &folder, conditions: masks(&folder, 20), seed: 1 };
        let made = |a_file: u32| {
            let out = place.path().join(a_file.to_string());
            chosen.images(&generator, &out, a_file, |_| ()).expect("made");
            let set = CaseSet::open(std::slice::from_ref(&out)).expect("opened");
            let cases: Vec<Case> = (0..set.len()).map(|i| set.read(i).expect("read")).collect();
            (fs::read_dir(out).expect("a folder").count(), cases)
        };
        let ((many, apart), (one, together)) = (made(TOGETHER), made(1 << 16));
        assert!(many > 2 && one == 1, "{many} files and {one}");
        assert_eq!(apart.len(), chosen.count());
        assert!(apart == together, "other images");
    }

    #[test]
    fn images_are_of_crops_or_of_whole_conditions_and_have_their_masks() {
        let place = tempfile::tempdir().expect("a folder");
        for (whole, side) in [(false, 64), (true, 68)] {
            let (folder, generator) = run(place.path(), whole);
            let chosen = Chosen { folder: &folder, conditions: masks(&folder, 3), seed: 1 };
            let out = place.path().join(side.to_string());
            chosen.images(&generator, &out, A_FILE, |_| ()).expect("made");
            let set = CaseSet::open(std::slice::from_ref(&out)).expect("opened");
            let case = set.read(0).expect("read");
            assert_eq!((case.image.dim(), set.len()), ((1, side, side), 6));
            // What a segmenter of these images scales slices to.
            assert_eq!(set.size(), Some(71));
            let margin = (chosen.conditions[0].1.nrows() - side) / 2;
            assert_eq!(case.condition, window(chosen.conditions[0].1.view(), margin, margin, side));
        }
    }
}

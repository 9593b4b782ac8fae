//! Makes synthetic images for the user's own masks.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_medio::{Case, CaseSet, Orientation, is_volume, prepare, read_instances, read_labels, write_cases};
use asyndgan_models::{Generator, set_threads};
use asyndgan_paper::{Experiment, Profile, Run, Settings};
use asyndgan_training::{Wanted, synthesize as through};
use ndarray::{Array2, Array3};
use tch::{Device, Tensor};

use crate::{
    configure, export::described, mask_files::masks, network_file, progress::Progress, run_folder::remove_folder, synthesize::image,
};

/// Which images to make, with which generator and from which masks.
pub(crate) struct FromMasks<'a> {
    pub(crate) generator: &'a Path,
    pub(crate) conditions: &'a Path,
    pub(crate) count: u32,
    pub(crate) seed: u64,
    pub(crate) out: &'a Path,
    pub(crate) device: Device,
}

/// A mask in the form that the generator expects.
struct Condition {
    name: String,
    codes: Array2<u8>,
}

pub(crate) fn from_masks(job: &FromMasks) -> Result<()> {
    ensure!(job.count > 0, "--count must be at least 1");
    ensure!(!job.out.exists(), "{} exists: choose another --out, or delete it", job.out.display());
    let (generator, run) = network_file::generator(job.generator, job.device)?;
    set_threads(run.settings.site_threads);
    let mut conditions = Vec::new();
    for (name, path) in masks(job.conditions)? {
        conditions.extend(read(&run, &name, &path)?);
    }
    ensure!(!conditions.is_empty(), "{} contains no mask with any label", job.conditions.display());
    if let Some(other) = conditions.iter().find(|c| c.codes.dim() != conditions[0].codes.dim()) {
        let [a, b] = [&conditions[0], other].map(|c| format!("{} ({} x {})", c.name, c.codes.nrows(), c.codes.ncols()));
        bail!("all masks must have the same size at the scale of the network: {a} and {b} differ");
    }
    let (least, shrink, (rows, columns)) = (run.settings.crop, run.settings.shrink, conditions[0].codes.dim());
    if rows.min(columns) < least {
        eprintln!(
            "warning: images will have {rows} x {columns} pixels, too few to train a segmenter: masks must have the original scale \
             of the tissue and are shrunk by {shrink}; use masks of at least {} pixels per side",
            least * shrink
        );
    }
    let name = job.out.file_name().unwrap_or_default().to_string_lossy();
    let [cases, set] = ["cases", "set"].map(|part| job.out.with_file_name(format!(".{name}.{part}.partial")));
    // Remove what an earlier process left when it was killed.
    for place in [&cases, &set] {
        remove_folder(place)?;
    }
    let made = make(job, &generator, &run, &conditions, [&cases, &set]);
    for place in [&cases, &set].into_iter().filter(|place| place.exists()) {
        // Half a set is of no use.
        let _ = fs::remove_dir_all(place);
    }
    let count = made?;
    let shown = job.out.join("cases");
    eprintln!(
        "{}: {count} synthetic images from {} masks; use {} as --cases for train-segmenter",
        job.out.display(),
        conditions.len(),
        shown.display()
    );
    Ok(())
}

/// Makes all images, one condition after the other, then the data set with viewable images. The output folder appears
/// atomically.
fn make(job: &FromMasks, generator: &Generator, run: &Run, conditions: &[Condition], [beside, set]: [&Path; 2]) -> Result<usize> {
    fs::create_dir_all(beside).with_context(|| format!("cannot create {}", beside.display()))?;
    let mut bar = Progress::new("synthesize", conditions.len() as u64);
    let planes = configure::codes(run.experiment);
    // Under batch norm images share statistics: as many at once as in training.
    let together = if run.settings.batch_norm { run.settings.batch } else { 1 };
    for (i, condition) in conditions.iter().enumerate() {
        let (rows, columns) = condition.codes.dim();
        // Networks take multiples of 4: what is added there is background, and is cut off again.
        let sides = (rows.next_multiple_of(4).max(16), columns.next_multiple_of(4).max(16));
        let wide = Array2::from_shape_fn(sides, |at| condition.codes.get(at).copied().unwrap_or(0));
        let flat: Vec<u8> = wide.iter().copied().collect();
        let one = Tensor::from_slice(&flat).view([1, 1, wide.nrows() as i64, wide.ncols() as i64]);
        let all = one.repeat([i64::from(job.count), 1, 1, 1]);
        // Masks of no site: the sites' appearances in turn.
        let sites: Vec<u32> = (0..job.count).map(|k| k % run.settings.sites.max(1)).filter(|_| run.settings.site_code).collect();
        let wanted = Wanted { codes: &all, planes, sites: &sites, together, batches_before: 0 };
        // A seed of its own for every mask.
        let images = through(generator, &wanted, job.seed.wrapping_add((i as u64) << 32), job.device, |_| ());
        let case = |k: u32| {
            let whole = image(&images.get(i64::from(k)));
            Case {
                id: format!("{}-{}", condition.name, k + 1),
                image: Array3::from_shape_fn((whole.dim().0, rows, columns), |at| whole[at]),
                condition: condition.codes.clone(),
            }
        };
        let cases: Vec<Case> = (0..job.count).map(case).collect();
        write_cases(&beside.join(format!("{i:06}.safetensors")), None, &cases)?;
        bar.set(i as u64 + 1);
    }
    let count = conditions.len() * job.count as usize;
    let cases = CaseSet::open(&[beside.into()])?;
    described(run.experiment, card(job, run)?)?.write_pairs(set, &cases, |_| ())?;
    fs::rename(beside, set.join("cases"))
        .and_then(|()| fs::rename(set, job.out))
        .with_context(|| format!("cannot create {}", job.out.display()))?;
    Ok(count)
}

fn read(run: &Run, name: &str, path: &Path) -> Result<Vec<Condition>> {
    let shown = path.display();
    let volume = is_volume(path)?;
    match run.experiment {
        Experiment::Table1 if volume => {
            let labels = read_labels(path)?.oriented(Orientation::LPS);
            let highest = labels.voxels.iter().copied().max().unwrap_or(0);
            ensure!(
                highest <= prepare::BRAIN_CODES.into(),
                "{shown} has label {highest}; valid labels are 1 to 3 (tumour) and 4 (outline of the brain)"
            );
            ensure!(
                labels.voxels.iter().any(|&l| l == u32::from(prepare::BRAIN_OUTLINE)),
                "{shown} has no outline of the brain: mark the contour of the brain as label 4 in every slice; the generator needs it"
            );
            let conditions = prepare::brain_conditions(labels.voxels.view(), run.settings.size);
            Ok(conditions.into_iter().map(|(z, codes)| Condition { name: format!("{name}-slice{z}"), codes }).collect())
        }
        Experiment::Table2 if !volume => {
            let codes = prepare::tile_condition(read_instances(path)?.view(), run.settings.shrink);
            ensure!(!codes.is_empty(), "{shown} is smaller than {} pixels, the factor by which masks are shrunk", run.settings.shrink);
            Ok(vec![Condition { name: name.into(), codes }])
        }
        Experiment::Table1 => bail!("{shown} is a picture; this generator requires volumes (masks of brains)"),
        _ => bail!("{shown} is a volume; this generator requires pictures (masks of nuclei)"),
    }
}

/// The description in a generator file: without data, seeds and device.
#[derive(serde::Serialize)]
struct About<'a> {
    experiment: Experiment,
    profile: Profile,
    settings: &'a Settings,
}

fn card(job: &FromMasks, run: &Run) -> Result<String> {
    let about = About { experiment: run.experiment, profile: run.profile, settings: &run.settings };
    Ok(format!(
        "# Synthetic images\n\nEvery image in this data set is synthetic: a generator made {} per mask, seed {}. No image shows a real \
         patient. The masks are the ones that were given to the program, and keep their origin and terms.\n\n\
         Synthetic images may lack rare findings and may show findings that do not exist. Do not use them for diagnosis. The generator \
         file does not name its training data: if they have a licence, its terms for derived works apply to these images.\n\n\
         ## The generator\n\n```json\n{}\n```\n",
        job.count,
        job.seed,
        serde_json::to_string_pretty(&about)?
    ))
}

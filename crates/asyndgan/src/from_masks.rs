//! Makes synthetic images for the user's own masks.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_data::{Case, CaseOrigin, CaseSet, Export, along, deformed, write_cases};
use asyndgan_medio::{Orientation, is_volume, read_instances, read_labels};
use asyndgan_models::{Generator, set_threads};
use asyndgan_protocol::{Role, stream};
use asyndgan_task::{ImageKind, Task};
use asyndgan_training::{Wanted, synthesize as through};
use clap::ValueEnum;
use ndarray::{Array2, Array3};
use rand::{Rng as _, seq::SliceRandom as _};
use tch::{Device, Tensor};

use crate::{
    mask_files::masks,
    network_file::{self, GeneratorCard},
    progress::Progress,
    recombine::recombinations,
    run_folder::remove_folder,
    synthesize::image,
};

/// Which images to make, with which generator and from which masks.
pub(crate) struct FromMasks<'a> {
    pub(crate) generator: &'a Path,
    pub(crate) conditions: &'a Path,
    pub(crate) vary: Vary,
    pub(crate) count: u32,
    pub(crate) seed: u64,
    pub(crate) out: &'a Path,
    pub(crate) device: Device,
}

/// How conditions are made from masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vary {
    /// The masks are used unchanged: each image shows the anatomy of a patient.
    Given,
    /// Each image gets a randomly deformed mask: rotated, scaled, shifted, bent, and eroded or dilated. It is similar to the
    /// patient's mask, and anyone who has that mask can recognise it.
    Deformed,
    /// Each image gets a mask that is combined from several: the classes of one mask inside the outline of another, or quarters of
    /// several masks if the task has no outline. It contains parts of patients' masks, but no complete mask.
    Recombined,
}

/// A mask in the form that the generator expects.
struct Condition {
    name: String,
    /// The file that it comes from, which stands for a patient.
    file: String,
    codes: Array2<u8>,
}

/// New conditions of the same size, `count` from each, in random order and without the names of the masks.
fn varied(job: &FromMasks, card: &GeneratorCard, conditions: &[Condition]) -> Result<Vec<Condition>> {
    let mut made: Vec<Array2<u8>> = if job.vary == Vary::Recombined {
        let own: Vec<Array2<u8>> = conditions.iter().map(|condition| condition.codes.clone()).collect();
        let files: Vec<&str> = conditions.iter().map(|condition| condition.file.as_str()).collect();
        // A secret stream: anyone who could draw it again would know which part came from which patient.
        let mut rng = stream(rand::rng().random(), Role::Recombination, 0, 0);
        let mut made = recombinations(&card.task, &own, &files, job.count, &mut rng)?.concat();
        made.shuffle(&mut rng);
        made
    } else {
        let rng = |k: u32, i: usize| stream(job.seed, Role::Transplant, k, i as u64);
        let of = |k| (0..).zip(conditions).map(move |(i, condition)| deformed(&card.task, condition.codes.view(), &mut rng(k, i)));
        (0..job.count).flat_map(of).collect()
    };
    made.retain(|codes| codes.iter().any(|&code| card.task.is_class(code)));
    let one = |(n, codes): (usize, Array2<u8>)| Condition { name: format!("synthetic-{n:06}"), file: String::new(), codes };
    Ok(made.into_iter().enumerate().map(one).collect())
}

/// The conditions of prepared cases, or of the masks in a folder.
fn read_all(card: &GeneratorCard, folder: &Path) -> Result<Vec<Condition>> {
    let mut conditions = Vec::new();
    let prepared = CaseSet::open(&[folder.to_path_buf()])?;
    if prepared.is_empty() {
        for (name, path) in masks(folder)? {
            conditions.extend(read(card, &name, &path)?);
        }
        return Ok(conditions);
    }
    if let Some(images) = prepared.images() {
        let mismatch = card.scale.preparation(&card.task).description().mismatch(images);
        ensure!(mismatch.is_none(), "{} was prepared for another task: {}", folder.display(), mismatch.unwrap_or_default());
    }
    for case in 0..prepared.len() {
        let (name, file) = (prepared.id(case).replace('#', "-"), prepared.patient(case).unwrap_or_default().to_owned());
        conditions.push(Condition { name, file, codes: prepared.condition(case)? });
    }
    Ok(conditions)
}

pub(crate) fn from_masks(job: &FromMasks) -> Result<()> {
    ensure!(job.count > 0, "--count must be at least 1");
    ensure!(!job.out.exists(), "{} exists: choose another --out, or delete it", job.out.display());
    let (generator, card) = network_file::generator(job.generator, job.device)?;
    set_threads(1);
    let conditions = read_all(&card, job.conditions)?;
    let files = conditions.len();
    let shows_class = |condition: &Condition| condition.codes.iter().any(|&code| card.task.is_class(code));
    ensure!(conditions.iter().any(shows_class), "{} contains no mask with any label", job.conditions.display());
    if let Some(other) = conditions.iter().find(|c| c.codes.dim() != conditions[0].codes.dim()) {
        let [a, b] = [&conditions[0], other].map(|c| format!("{} ({} x {})", c.name, c.codes.nrows(), c.codes.ncols()));
        bail!("all masks must have the same size at the scale of the network: {a} and {b} differ");
    }
    let (least, shrink, (rows, columns)) = (card.scale.crop, card.scale.downsampling, conditions[0].codes.dim());
    if rows.min(columns) < least {
        eprintln!(
            "warning: images will have {rows} x {columns} pixels, too few to train a segmenter: masks must have the original scale \
             of the images and are downsampled by {shrink}; use masks of at least {} pixels per side",
            least * shrink
        );
    }
    // A new condition for every image, or several images of each.
    let (conditions, count) = match job.vary {
        Vary::Given => (conditions, job.count),
        Vary::Deformed | Vary::Recombined => (varied(job, &card, &conditions)?, 1),
    };
    let job = &FromMasks { count, ..*job };
    let name = job.out.file_name().unwrap_or_default().to_string_lossy();
    let [cases, set] = ["cases", "set"].map(|part| job.out.with_file_name(format!(".{name}.{part}.partial")));
    // Remove what an earlier process left when it was killed.
    for place in [&cases, &set] {
        remove_folder(place)?;
    }
    let made = make(job, &generator, &card, &conditions, [&cases, &set]);
    for place in [&cases, &set].into_iter().filter(|place| place.exists()) {
        // Half a set is of no use.
        let _ = fs::remove_dir_all(place);
    }
    let count = made?;
    let shown = job.out.join("cases");
    eprintln!(
        "{}: {count} synthetic images from {} conditions; use {} as --cases for train-segmenter",
        job.out.display(),
        files,
        shown.display()
    );
    Ok(())
}

/// Makes all images, one condition after the other, then the data set with viewable images. The output folder appears
/// atomically.
fn make(
    job: &FromMasks,
    generator: &Generator,
    card: &GeneratorCard,
    conditions: &[Condition],
    [beside, set]: [&Path; 2],
) -> Result<usize> {
    fs::create_dir_all(beside).with_context(|| format!("cannot create {}", beside.display()))?;
    let mut bar = Progress::new("synthesize", conditions.len() as u64);
    let planes = card.task.codes();
    let described = card.scale.preparation(&card.task).description();
    // Under batch norm images share statistics: as many at once as in training.
    let together = card.together.max(1);
    for (i, condition) in conditions.iter().enumerate() {
        let (rows, columns) = condition.codes.dim();
        // Networks take multiples of 4: what is added there is background, and is cut off again.
        let sides = (rows.next_multiple_of(4).max(16), columns.next_multiple_of(4).max(16));
        let wide = Array2::from_shape_fn(sides, |at| condition.codes.get(at).copied().unwrap_or(0));
        let flat: Vec<u8> = wide.iter().copied().collect();
        let one = Tensor::from_slice(&flat).view([1, 1, wide.nrows() as i64, wide.ncols() as i64]);
        let all = one.repeat([i64::from(job.count), 1, 1, 1]);
        // Masks of no site: the sites' appearances in turn.
        let first = if job.vary == Vary::Given { 0 } else { i as u32 };
        let sites: Vec<u32> = (first..first + job.count).filter(|_| card.sites > 0).map(|k| k % card.sites.max(1)).collect();
        let wanted = Wanted { codes: &all, planes, sites: &sites, together, batches_before: 0 };
        // A seed of its own for every mask.
        let images = through(generator, &wanted, job.seed.wrapping_add((i as u64) << 32), job.device, |_| ());
        let case = |k: u32| {
            let whole = image(&images.get(i64::from(k)));
            Case {
                id: if job.vary == Vary::Given { format!("{}-{}", condition.name, k + 1) } else { condition.name.clone() },
                image: Array3::from_shape_fn((whole.dim().0, rows, columns), |at| whole[at]),
                condition: condition.codes.clone(),
            }
        };
        let cases: Vec<Case> = (0..job.count).map(case).collect();
        let origin = CaseOrigin { images: Some(&described), ..CaseOrigin::default() };
        write_cases(&beside.join(format!("{i:06}.safetensors")), origin, &cases)?;
        bar.set(i as u64 + 1);
    }
    let count = conditions.len() * job.count as usize;
    let cases = CaseSet::open(&[beside.into()])?;
    let export = Export { task: card.task.clone(), card: readme(job, card)? };
    if export.has_one_file_per_image() {
        export.write_pairs(set, &cases, |_| ())?;
    } else {
        export.write_nnunet(set, &cases, |_| ())?;
    }
    fs::rename(beside, set.join("cases"))
        .and_then(|()| fs::rename(set, job.out))
        .with_context(|| format!("cannot create {}", job.out.display()))?;
    Ok(count)
}

fn read(card: &GeneratorCard, name: &str, path: &Path) -> Result<Vec<Condition>> {
    let (shown, task) = (path.display(), &card.task);
    let preparation = card.scale.preparation(task);
    match (task.images, is_volume(path)?) {
        (ImageKind::Volumes, true) => {
            let labels = read_labels(path)?.oriented(Orientation::LPS);
            let outline = preparation.outline_label();
            let odd = labels.voxels.iter().find(|&&l| Some(l) != outline && task.code_of(l).is_none());
            if let Some(label) = odd {
                let mut known = known_labels(task);
                known.extend(outline.map(|l| format!("{l} outline")));
                bail!("{shown} has label {label}; valid labels are {}", known.join(", "));
            }
            if let Some(outline) = outline {
                ensure!(
                    labels.voxels.iter().any(|&l| l == outline),
                    "{shown} has no outline: mark the contour of the foreground as label {outline} in every slice; the generator needs it"
                );
            }
            let mm = labels.spacing_mm();
            let spacing = task.axis.order().map(|k| mm[k]);
            let conditions = preparation.conditions(along(task.axis, labels.voxels).view(), spacing);
            Ok(conditions.into_iter().map(|(z, codes)| Condition { name: format!("{name}-slice{z}"), file: name.into(), codes }).collect())
        }
        (ImageKind::Pictures, false) => {
            let labels = read_instances(path)?.insert_axis(ndarray::Axis(0));
            if let Some(label) = labels.iter().find(|&&label| task.code_of(label).is_none()) {
                bail!("{shown} has label {label}; valid labels are {}", known_labels(task).join(", "));
            }
            let conditions = preparation.conditions(labels.view(), [1.0; 3]);
            let empty = conditions.iter().any(|(_, codes)| codes.is_empty());
            ensure!(!empty, "{shown} is smaller than {} pixels, the factor by which masks are downsampled", preparation.downsampling);
            Ok(conditions.into_iter().map(|(_, codes)| Condition { name: name.into(), file: name.into(), codes }).collect())
        }
        (ImageKind::Volumes, false) => bail!("{shown} is a picture; this generator for {} requires volumes", task.name),
        (ImageKind::Pictures, true) => bail!("{shown} is a volume; this generator for {} requires pictures", task.name),
    }
}

/// The labels of the classes, with their names.
fn known_labels(task: &Task) -> Vec<String> {
    task.classes.iter().flat_map(|class| class.labels.iter().map(|label| format!("{label} {}", class.name))).collect()
}

/// The README of the set. The seed of deformed masks is left out: with it, a deformation could be undone.
fn readme(job: &FromMasks, card: &GeneratorCard) -> Result<String> {
    let masks = match job.vary {
        Vary::Given => {
            format!("The masks are the ones that were given to the program, each with {} images, seed {}. They", job.count, job.seed)
        }
        Vary::Deformed => "The masks were deformed at random from the ones that were given to the program, which".into(),
        Vary::Recombined => "The masks were recombined at random from the ones that were given to the program, which".into(),
    };
    let spacing = if card.task.images == ImageKind::Volumes {
        "Intensities range from 0 to 2. The pixel spacing is written as 1 mm; it is a placeholder, not a measurement.\n\n"
    } else {
        ""
    };
    Ok(format!(
        "# Synthetic images\n\nEvery image in this data set is synthetic: a generator made it from a mask. No image shows a real patient. \
         {masks} keep their origin and terms.\n\n{spacing}\
         Synthetic images may lack rare findings and may show findings that do not exist. Do not use them for diagnosis. The generator \
         file does not name its training data: if they have a licence, its terms for derived works apply to these images.\n\n\
         ## The generator\n\n```json\n{}\n```\n",
        serde_json::to_string_pretty(card)?
    ))
}

//! Makes synthetic images for the user's own masks, with a generator from a file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_data::{Case, CaseOrigin, CaseSet, Export, deform_condition, recombine, to_slice_order, write_cases};
use asyndgan_medio::{DataSet, Orientation, is_volume, read_instances, read_labels};
use asyndgan_models::set_threads;
use asyndgan_protocol::{Role, stream};
use asyndgan_task::{ImageKind, Task};
use ndarray::{Array2, Array3};
use rand::{RngExt as _, seq::SliceRandom as _};
use tch::Device;

use crate::{
    files::remove_folder,
    masks::masks,
    network_file::{GeneratorCard, GeneratorFile},
    progress::Progress,
};

/// Which images to make, with which generator and from which masks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Synthesis {
    /// File of the generator.
    pub generator: PathBuf,
    /// Folder of masks, or of prepared cases.
    pub conditions: PathBuf,
    /// How conditions are made from the masks.
    pub vary: Vary,
    /// Images per mask.
    pub count: u32,
    /// Seed of the noise and of deformations.
    pub seed: u64,
    /// The folder to write; it must not exist yet.
    pub out: PathBuf,
    /// Where the generator computes.
    pub device: Device,
}

/// How many images were made, from how many conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Synthesized {
    /// Images.
    pub images: usize,
    /// Conditions that were read.
    pub conditions: usize,
}

/// How conditions are made from masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Vary {
    /// The masks are used unchanged: each image shows the anatomy of a patient.
    Given,
    /// Each image gets a randomly deformed mask: rotated, scaled, shifted, bent, and eroded or dilated. It is similar
    /// to the patient's mask, and anyone who has that mask can recognise it.
    Deformed,
    /// Each image gets a mask that is combined from several: the classes of one mask inside the outline of another, or
    /// quarters of several masks if the task has no outline. It contains parts of patients' masks, but no complete
    /// mask.
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
fn varied(job: &Synthesis, card: &GeneratorCard, conditions: &[Condition]) -> Result<Vec<Condition>> {
    let mut made: Vec<Array2<u8>> = if job.vary == Vary::Recombined {
        let own: Vec<Array2<u8>> = conditions.iter().map(|condition| condition.codes.clone()).collect();
        let files: Vec<&str> = conditions.iter().map(|condition| condition.file.as_str()).collect();
        // A secret stream: anyone who could draw it again would know which part came from which patient.
        let mut rng = stream(rand::rng().random(), Role::Recombination, 0, 0);
        let mut made = recombine(&card.task, &own, &files, job.count, &mut rng)?.concat();
        made.shuffle(&mut rng);
        made
    } else {
        let rng = |k: u32, i: usize| stream(job.seed, Role::Transplant, k, i as u64);
        let of = |k| (0..).zip(conditions).map(move |(i, condition)| deform_condition(&card.task, condition.codes.view(), &mut rng(k, i)));
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
        // In masks that this program wrote for other programs, pixels without annotation have the number of the
        // outline.
        if let Some(ignore) = folder.parent().and_then(|set| DataSet::find(set).ok()).and_then(|set| set.ignore)
            && card.task.ignore != Some(ignore)
        {
            bail!("{}: label {ignore} of these masks is the ignore label of their data set; use masks without it", folder.display());
        }
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

impl Synthesis {
    /// One image per mask, on the CPU.
    pub fn new(generator: impl Into<PathBuf>, conditions: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            generator: generator.into(),
            conditions: conditions.into(),
            vary: Vary::Given,
            count: 1,
            seed: 0,
            out: out.into(),
            device: Device::Cpu,
        }
    }

    /// Makes the images: a data set for other programs in `out`, and `out/cases` as input for a segmenter.
    ///
    /// # Errors
    /// If the generator or a mask cannot be read, a mask does not fit the task of the generator, or `out` exists or
    /// cannot be written.
    pub fn run(&self) -> Result<Synthesized> {
        from_masks(self)
    }
}

fn from_masks(job: &Synthesis) -> Result<Synthesized> {
    ensure!(job.count > 0, "the number of images per mask must be at least 1");
    ensure!(!job.out.exists(), "{} exists: choose another folder, or delete it", job.out.display());
    let generator = GeneratorFile::open(&job.generator, job.device)?;
    let card = &generator.card;
    set_threads(1);
    let conditions = read_all(card, &job.conditions)?;
    let files = conditions.len();
    let shows_class = |condition: &Condition| condition.codes.iter().any(|&code| card.task.is_class(code));
    ensure!(conditions.iter().any(shows_class), "{} contains no mask with any label", job.conditions.display());
    if let Some(other) = conditions.iter().find(|c| c.codes.dim() != conditions[0].codes.dim()) {
        let [a, b] = [&conditions[0], other].map(|c| format!("{} ({} x {})", c.name, c.codes.nrows(), c.codes.ncols()));
        bail!("all masks must have the same size at the scale of the network: {a} and {b} differ");
    }
    let (least, shrink, (rows, columns)) = (card.scale.crop, card.scale.downsampling, conditions[0].codes.dim());
    if rows.min(columns) < least {
        tracing::warn!(
            "images will have {rows} x {columns} pixels, too few to train a segmenter: masks must have the original scale \
             of the images and are downsampled by {shrink}; use masks of at least {} pixels per side",
            least * shrink
        );
    }
    // A new condition for every image, or several images of each.
    let (conditions, count) = match job.vary {
        Vary::Given => (conditions, job.count),
        Vary::Deformed | Vary::Recombined => (varied(job, card, &conditions)?, 1),
    };
    let job = &Synthesis { count, ..job.clone() };
    let name = job.out.file_name().unwrap_or_default().to_string_lossy();
    let [cases, set] = ["cases", "set"].map(|part| job.out.with_file_name(format!(".{name}.{part}.partial")));
    // Remove what an earlier process left when it was killed.
    for place in [&cases, &set] {
        remove_folder(place)?;
    }
    let made = make(job, &generator, &conditions, [&cases, &set]);
    for place in [&cases, &set].into_iter().filter(|place| place.exists()) {
        // Half a set is of no use.
        let _ = fs::remove_dir_all(place);
    }
    Ok(Synthesized { images: made?, conditions: files })
}

/// Makes all images, one condition after the other, then the data set with viewable images. The output folder appears
/// atomically.
fn make(job: &Synthesis, generator: &GeneratorFile, conditions: &[Condition], [beside, set]: [&Path; 2]) -> Result<usize> {
    fs::create_dir_all(beside).with_context(|| format!("cannot create {}", beside.display()))?;
    let mut bar = Progress::new("synthesize", conditions.len() as u64);
    let (card, described) = (&generator.card, generator.preparation().description());
    for (i, condition) in conditions.iter().enumerate() {
        // Masks of no site: the sites' appearances in turn.
        let first = if job.vary == Vary::Given { 0 } else { i as u32 };
        let sites: Vec<u32> = (first..first + job.count).map(|k| k % card.sites.max(1)).collect();
        // A seed of its own for every mask.
        let images = generator.images(condition.codes.view(), &sites, job.count, job.seed.wrapping_add((i as u64) << 32))?;
        let case = |(k, image): (usize, Array3<f32>)| Case {
            id: if job.vary == Vary::Given { format!("{}-{}", condition.name, k + 1) } else { condition.name.clone() },
            image,
            condition: condition.codes.clone(),
        };
        let cases: Vec<Case> = images.into_iter().enumerate().map(case).collect();
        let origin = CaseOrigin::default().with(|origin| origin.images = Some(&described));
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
        .and_then(|()| fs::rename(set, &job.out))
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
            let odd = labels.voxels.iter().find(|&&l| Some(l) != outline && task.condition_code_of(l).is_none());
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
            let conditions = preparation.conditions(to_slice_order(task.axis, labels.voxels).view(), spacing);
            Ok(conditions.into_iter().map(|(z, codes)| Condition { name: format!("{name}-slice{z}"), file: name.into(), codes }).collect())
        }
        (ImageKind::Pictures, false) => {
            let labels = read_instances(path)?.insert_axis(ndarray::Axis(0));
            if let Some(label) = labels.iter().find(|&&label| task.condition_code_of(label).is_none()) {
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
fn readme(job: &Synthesis, card: &GeneratorCard) -> Result<String> {
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

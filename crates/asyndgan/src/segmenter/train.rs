//! Trains a segmenter on synthetic cases or a hospital's own cases.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_data::CaseSet;
use asyndgan_evaluator::{FederatedSegmenter, train_federated_segmenter, train_segmenter_on};
use asyndgan_models::{Segmenter, rand_chacha::ChaCha8Rng, write_with_metadata};
use asyndgan_paper::{KindTraffic, Profile, Run};
use asyndgan_protocol::{Role, stream};
use asyndgan_task::{ImageDescription, ImageKind};
use tch::Device;

use crate::{
    configure,
    curves::{Curves, read_csv},
    network_file::SegmenterCard,
    progress::Progress,
    task_file::TaskFile,
};

/// What to train on, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SegmenterJob {
    /// Files and folders of cases.
    pub cases: Vec<PathBuf>,
    /// brain, tissue, or the path of a task file; `None` for the task that the cases describe.
    pub task: Option<String>,
    /// The profile whose settings apply; `None` for that of the task file, or desk.
    pub profile: Option<Profile>,
    /// Settings that are changed, by name: `job.set.push(("segmenter.steps".into(), 60.into()))`.
    pub set: Vec<(String, serde_json::Value)>,
    /// The factor by which pictures were downsampled; `None` for what the cases describe.
    pub downsampling: Option<usize>,
    /// Seed of weights and batches.
    pub seed: u64,
    /// The file to write, which ends in .safetensors.
    pub out: PathBuf,
    /// Where the network computes.
    pub device: Device,
}

impl SegmenterJob {
    /// Training with the task of the cases and the desk profile, on the CPU. Cases describe their task, but no
    /// settings: for those of a task file, set `task`.
    pub fn new(cases: Vec<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self { cases, task: None, profile: None, set: Vec::new(), downsampling: None, seed: 0, out: out.into(), device: Device::Cpu }
    }
}

/// The column of a loss curve.
const LOSS: &str = "segmenter/loss";

/// Trains on all cases of the given files and folders; writes the segmenter and, next to it, its loss curve.
///
/// # Errors
/// If the cases cannot be read, do not fit the task or each other, or the file cannot be written.
pub fn train_segmenter(job: &SegmenterJob) -> Result<()> {
    let SegmenterJob { cases, task, profile, set, downsampling, seed, out, device } = job;
    let (profile, downsampling, seed, device) = (*profile, *downsampling, *seed, *device);
    ensure!(out.extension().is_some_and(|e| e == "safetensors"), "{}: the file name must end in .safetensors", out.display());
    ensure!(!out.exists(), "{} exists: choose another file, or delete it", out.display());
    let curve = out.with_extension("csv");
    let is_curve = !curve.exists() || read_csv(&curve).is_ok_and(|curve| curve.names == [LOSS]);
    ensure!(is_curve, "the loss curve would replace {}, which is another file: choose another name", curve.display());
    let images = CaseSet::open(cases)?;
    let shown = cases.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    let [channels, rows, columns] = images
        .image_shape()
        .with_context(|| format!("{shown}: no case found; for the output of `synthesize --generator`, use its subfolder cases"))?;
    let described = images.images();
    let task = match (task.as_deref(), described) {
        (Some(task), _) => TaskFile::read(task)?,
        (None, Some(images)) => TaskFile::own(images.task.clone()),
        (None, None) => bail!("--task is required: these cases were prepared by an earlier version, and do not describe their task"),
    };
    let mut run = task.run(profile, set)?;
    if let (Some(task), Some(images)) = (run.task(), described) {
        let wanted = ImageDescription { task: task.clone(), downsampling: downsampling.unwrap_or(images.downsampling) };
        if let Some(mismatch) = wanted.mismatch(images) {
            bail!("the cases are not those of --task and --downsampling: {mismatch}");
        }
    }
    let wanted = configure::task(&run)?.channels.len();
    ensure!(channels == wanted, "{shown}: images have {channels} channels, but this segmenter expects {wanted}; is --task right?");
    let crop = run.settings.data.crop;
    ensure!(rows.min(columns) >= crop, "{shown}: images have {rows} x {columns} pixels; at least {crop} per side are needed");
    // Segmentation scales images to the size of these, or of those that these are crops of.
    run.settings.data.size = images.size().unwrap_or(rows);
    if configure::task(&run)?.images == ImageKind::Pictures {
        run.settings.data.downsampling = downsampling.or(described.map(|images| images.downsampling)).context(
            "--downsampling is required for pictures of an earlier version: 2 for tissue of a desk run, or the value of \
             `data prepare --downsampling` (default 1) for your own",
        )?;
    }
    run.check()?;
    asyndgan_models::set_threads(run.settings.compute.server_threads);
    let training = configure::segmenter(&run)?;
    let name = out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut bar = Progress::new(&format!("segmenter on {} images", images.len()), training.steps);
    SegmenterFiles { folder, name: &name, run: &run, seed, device }.train(&[(&images, 1.0)], |step| bar.set(step))?;
    Ok(())
}

/// The channels that no case of any set has.
pub(crate) fn absent_everywhere(sets: &[(&CaseSet, f64)]) -> Vec<usize> {
    let mut each = sets.iter().map(|(cases, _)| cases.channels_absent_everywhere());
    let first = each.next().unwrap_or_default();
    each.fold(first, |all, absent| all.into_iter().filter(|channel| absent.contains(channel)).collect())
}

/// Where a run's segmenter and its loss curve are written, and how it is trained.
pub(crate) struct SegmenterFiles<'a> {
    pub(crate) folder: &'a Path,
    /// Name of the files, without extension.
    pub(crate) name: &'a str,
    pub(crate) run: &'a Run,
    pub(crate) seed: u64,
    pub(crate) device: Device,
}

impl SegmenterFiles<'_> {
    /// Trains on sets of cases, each with its share of every batch.
    pub(crate) fn train(&self, sets: &[(&CaseSet, f64)], progress: impl FnMut(u64)) -> Result<Segmenter> {
        let (training, task) = (configure::segmenter(self.run)?, configure::task(self.run)?);
        self.write(sets, progress, |rng, each| Ok((train_segmenter_on(&training, task, sets, self.device, rng, each)?, ())))
            .map(|(segmenter, ())| segmenter)
    }

    /// Trains by federated averaging over sites, each with its set of cases. Also returns what each site sent and
    /// received.
    pub(crate) fn train_federated(&self, sites: &[(&CaseSet, f64)], progress: impl FnMut(u64)) -> Result<(Segmenter, KindTraffic)> {
        let (training, task) = (configure::segmenter(self.run)?, configure::task(self.run)?);
        let local_steps = configure::at_least_one(self.run.settings.federated.local_steps);
        let sets: Vec<&CaseSet> = sites.iter().map(|(cases, _)| *cases).collect();
        self.write(sites, progress, |rng, each| {
            let FederatedSegmenter { segmenter, rounds, bytes, .. } =
                train_federated_segmenter(&training, local_steps, task, &sets, self.device, rng, each)?;
            // Down at the beginning of a round, up at its end.
            Ok((segmenter, KindTraffic { messages: 2 * rounds, bytes: 2 * rounds * bytes }))
        })
    }

    /// Writes the segmenter that `train` returns, and the losses that it passes to its second argument.
    fn write<T>(
        &self,
        sets: &[(&CaseSet, f64)],
        mut progress: impl FnMut(u64),
        train: impl FnOnce(&mut ChaCha8Rng, &mut dyn FnMut(u64, Option<f64>)) -> Result<(Segmenter, T)>,
    ) -> Result<(Segmenter, T)> {
        let Self { folder, name, run, seed, .. } = *self;
        let mut curve = Curves::begin(folder, name, "step", vec![LOSS.into()], std::iter::empty::<Result<_>>())?;
        let mut unwritten = Ok(());
        // Every arm's segmenter begins with the same weights.
        let mut rng = stream(seed, Role::Segmenter, 0, 0);
        let (segmenter, rest) = train(&mut rng, &mut |step, loss| {
            progress(step);
            if let (Ok(()), Some(loss)) = (&unwritten, loss) {
                unwritten = curve.add(step - 1, &[loss as f32]);
            }
        })?;
        unwritten?;
        let file = folder.join(format!("{name}.safetensors"));
        write_with_metadata(&file, &segmenter.parameters.named(), Some(SegmenterCard::from_run(run, absent_everywhere(sets))?.text()?))?;
        Ok((segmenter, rest))
    }
}

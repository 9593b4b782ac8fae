//! Standalone network files: weights with their network, task and scale, as written by `train` and `train-segmenter`.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use asyndgan_data::{Preparation, TestCase};
use asyndgan_evaluator::{predict, segmenter_classes};
use asyndgan_models::{
    Generator, GeneratorConfig, NoiseInjection, Parameters, Segmenter, SegmenterConfig, read_metadata, read_tensors, write_with_metadata,
};
use asyndgan_paper::{Arm, Run};
use asyndgan_protocol::{Role, stream};
use asyndgan_task::{Absent, ImageKind, Task, UNMARKED};
use asyndgan_training::{ServerTrainer, SynthesisRequest, synthesize};
use ndarray::{Array2, Array3, ArrayView2};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::{configure, tensors::image};

/// The scale at which a network sees images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scale {
    /// Rows and columns of a prepared slice or patch.
    pub(crate) size: usize,
    /// Rows and columns that the network saw in training.
    pub(crate) crop: usize,
    /// Factor by which pictures are downsampled first.
    pub(crate) downsampling: usize,
}

impl Scale {
    pub(crate) fn from_run(run: &Run) -> Self {
        let data = &run.settings.data;
        let is_pictures = run.task().is_some_and(|task| task.images == ImageKind::Pictures);
        Self { size: data.size, crop: data.crop, downsampling: if is_pictures { data.downsampling } else { 1 } }
    }

    pub(crate) fn preparation(self, task: &Task) -> Preparation<'_> {
        Preparation { task, size: self.size, downsampling: self.downsampling, absent: Absent::none() }
    }
}

/// What a generator's file says about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GeneratorCard {
    pub(crate) task: Task,
    pub(crate) scale: Scale,
    network: GeneratorConfig,
    /// Sites that the generator distinguishes; 0 if it does not.
    pub(crate) sites: u32,
    /// Images per pass; 0 if they do not affect each other. Under batch norm they share statistics.
    pub(crate) together: u32,
}

/// What a segmenter's file says about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SegmenterCard {
    pub(crate) task: Task,
    pub(crate) scale: Scale,
    network: SegmenterConfig,
    /// Indices of the channels that no training case had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) absent_channels: Vec<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Card {
    Generator(GeneratorCard),
    Segmenter(SegmenterCard),
}

impl GeneratorCard {
    /// The card of a run's generator that was trained on `sites` sites; `None` for the toy, which has no images.
    pub(crate) fn from_run(run: &Run, sites: u32) -> Option<Self> {
        Some(Self {
            task: run.task()?.clone(),
            scale: Scale::from_run(run),
            network: configure::gan(run, Arm::AsynDgan).generator,
            sites: if run.settings.generator.site_code { sites } else { 0 },
            together: if run.settings.generator.batch_norm { run.settings.protocol.batch } else { 0 },
        })
    }

    pub(crate) fn text(self) -> Result<String> {
        Ok(serde_json::to_string(&Card::Generator(self))?)
    }
}

impl SegmenterCard {
    /// The card of a run's segmenter that was trained without some channels.
    pub(crate) fn from_run(run: &Run, absent_channels: Vec<usize>) -> Result<Self> {
        let task = run.task().context("the toy has no segmenter")?.clone();
        Ok(Self { task, scale: Scale::from_run(run), network: configure::segmenter(run)?.network, absent_channels })
    }

    pub(crate) fn text(self) -> Result<String> {
        Ok(serde_json::to_string(&Card::Segmenter(self))?)
    }
}

/// A generator from a file, with the task and the scale that it was trained for.
///
/// # Example
/// ```no_run
/// use std::path::Path;
///
/// use asyndgan::{device::device, network_file::GeneratorFile};
/// use ndarray::Array2;
///
/// let generator = GeneratorFile::open(Path::new("generator.safetensors"), device("auto")?)?;
/// let condition = Array2::from_shape_fn((64, 64), |(row, column)| u8::from(row > 20 && row < 40 && column > 20 && column < 40));
/// let images = generator.images(condition.view(), &[0, 1], 2, 7)?;
/// assert_eq!(images[0].dim().0, generator.task().channels.len());
/// # Ok::<(), asyndgan::Error>(())
/// ```
#[derive(Debug)]
pub struct GeneratorFile {
    network: Generator,
    pub(crate) card: GeneratorCard,
    device: Device,
}

impl GeneratorFile {
    /// Reads a file that training wrote, also one of the first version.
    ///
    /// # Errors
    /// If the file cannot be read, is not a generator, or describes a network that does not fit its task.
    pub fn open(path: &Path, device: Device) -> Result<Self> {
        let card = match card(path)? {
            Card::Generator(card) => card,
            Card::Segmenter(_) => bail!("{} is not a generator, but a segmenter", path.display()),
        };
        let mut network = Generator::new(&card.network, device, &mut stream(0, Role::GeneratorWeights, 0, 0));
        load(&mut network.parameters, path)?;
        Ok(Self { network, card, device })
    }

    /// The task.
    pub fn task(&self) -> &Task {
        &self.card.task
    }

    /// How masks become conditions of this generator.
    pub fn preparation(&self) -> Preparation<'_> {
        self.card.scale.preparation(&self.card.task)
    }

    /// The number of sites whose appearances the generator distinguishes; 0 if it does not.
    pub fn sites(&self) -> u32 {
        self.card.sites
    }

    /// Makes `count` images of a condition, with the appearance of one of `sites` (from 0) each, in turn; without
    /// sites, of all sites.
    ///
    /// # Shapes
    /// Codes of the task `[rows, columns]` to images `[channels, rows, columns]` from -1 to 1.
    ///
    /// # Errors
    /// If `count` is 0, the condition is empty or has a code that the task does not have, or a site does not exist.
    pub fn images(&self, condition: ArrayView2<u8>, sites: &[u32], count: u32, seed: u64) -> Result<Vec<Array3<f32>>> {
        let (rows, columns) = condition.dim();
        ensure!(count > 0 && rows > 0 && columns > 0, "no image is asked for, or the condition is empty");
        let is_valid = |code: &u8| *code <= self.card.task.condition_classes() || *code >= UNMARKED;
        ensure!(condition.iter().all(is_valid), "the condition has codes that the task {} does not have", self.card.task.name);
        let known = self.card.sites;
        if let Some(site) = sites.iter().find(|&&site| known > 0 && site >= known) {
            bail!("there is no site {site}: the generator distinguishes {known} sites, from 0");
        }
        let all: Vec<u32> = (0..known).collect();
        let sites = if sites.is_empty() { &all[..] } else { sites };
        let sites: Vec<u32> = (0..count as usize).filter(|_| known > 0).map(|k| sites[k % sites.len()]).collect();
        // Networks take multiples of 4: what is added there is background, and is cut off again.
        let sides = (rows.next_multiple_of(4).max(16), columns.next_multiple_of(4).max(16));
        let wide = Array2::from_shape_fn(sides, |at| condition.get(at).copied().unwrap_or(0));
        let flat: Vec<u8> = wide.iter().copied().collect();
        let one = Tensor::from_slice(&flat).view([1, 1, sides.0 as i64, sides.1 as i64]);
        let all = one.repeat([i64::from(count), 1, 1, 1]);
        // Under batch norm images share statistics: as many at once as in training.
        let together = self.card.together.max(1);
        let wanted = SynthesisRequest::new(&all, self.card.task.condition_classes()).with(|request| {
            request.sites = &sites;
            request.together = together;
            request.batches_before = 0;
        });
        let images = synthesize(&self.network, &wanted, seed, self.device, |_| ());
        let of = |k: u32| {
            let whole = image(&images.get(i64::from(k)));
            Array3::from_shape_fn((whole.dim().0, rows, columns), |at| whole[at])
        };
        Ok((0..count).map(of).collect())
    }
}

/// Writes the generator of a server to a file that [`GeneratorFile::open`] reads: weights, task and scale of the run.
///
/// # Errors
/// For the toy, which makes no images, or if the file cannot be written.
pub fn write_generator(path: &Path, run: &Run, server: &ServerTrainer) -> Result<()> {
    let card = GeneratorCard::from_run(run, server.sites()).context("the toy makes no images")?;
    let weights = server.generator().parameters.named();
    let mut described = Generator::new(&card.network, Device::Cpu, &mut stream(0, Role::GeneratorWeights, 0, 0));
    described.parameters.load(&weights).context("the generator is not that of the run")?;
    Ok(write_with_metadata(path, &weights, Some(card.text()?))?)
}

/// A segmenter from a file, with the task and the scale that it was trained for.
#[derive(Debug)]
pub struct SegmenterFile {
    pub(crate) network: Segmenter,
    pub(crate) card: SegmenterCard,
    device: Device,
}

impl SegmenterFile {
    /// Reads a file that training wrote, also one of the first version.
    ///
    /// # Errors
    /// If the file cannot be read, is not a segmenter, or describes a network that does not fit its task.
    pub fn open(path: &Path, device: Device) -> Result<Self> {
        let card = match card(path)? {
            Card::Segmenter(card) => card,
            Card::Generator(_) => bail!("{} is not a segmenter, but a generator", path.display()),
        };
        let mut network = Segmenter::new(&card.network, device, &mut stream(0, Role::Segmenter, 0, 0));
        load(&mut network.parameters, path)?;
        Ok(Self { network, card, device })
    }

    /// The task.
    pub fn task(&self) -> &Task {
        &self.card.task
    }

    /// How images become input of this segmenter.
    pub fn preparation(&self) -> Preparation<'_> {
        self.card.scale.preparation(&self.card.task)
    }

    /// Segments a prepared image; what it has in channels that the segmenter was trained without is not used.
    ///
    /// # Shapes
    /// Labels `[slices, rows, columns]` on the grid of the image.
    ///
    /// # Errors
    /// If the image has another number of channels, or is smaller than the crops that the segmenter saw.
    pub fn predict(&self, mut case: TestCase) -> Result<Array3<u32>> {
        let ((_, channels, rows, columns), crop) = (case.images.dim(), self.card.scale.crop);
        let expected = self.card.task.channels.len();
        ensure!(channels == expected, "{} has {channels} channels, but the segmenter expects {expected}", case.id);
        ensure!(rows.min(columns) >= crop, "{} has {rows} x {columns} pixels; at least {crop} per side are needed", case.id);
        case.leave_out_channels(&self.card.absent_channels);
        Ok(predict(&self.network, &self.card.task, &case, crop, self.device))
    }
}

/// Loads the weights of a file.
fn load(parameters: &mut Parameters, path: &Path) -> Result<()> {
    parameters.load(&read_tensors(path)?).with_context(|| format!("{} does not fit its description", path.display()))
}

fn card(path: &Path) -> Result<Card> {
    let shown = path.display();
    let text =
        read_metadata(path)?.with_context(|| format!("{shown} does not describe its network: use a file written by this program"))?;
    let card = match serde_json::from_str(&text) {
        Ok(card) => card,
        Err(error) => first_version(path, &text)?.with_context(|| format!("{shown} was written by a different version: {error}"))?,
    };
    let (task, scale) = match &card {
        Card::Generator(GeneratorCard { task, scale, .. }) | Card::Segmenter(SegmenterCard { task, scale, .. }) => (task, scale),
    };
    task.check().with_context(|| format!("{shown} describes an invalid task"))?;
    let Scale { size, crop, downsampling } = *scale;
    ensure!((1..=size).contains(&crop) && size <= 1 << 16 && downsampling > 0, "{shown} describes an invalid scale: {scale:?}");
    match &card {
        Card::Generator(GeneratorCard { network: GeneratorConfig::ResNet(network), .. }) => {
            let code = match network.noise {
                NoiseInjection::MultiScale { code } => code,
                NoiseInjection::Dropout => 0,
            };
            let fits =
                network.condition_channels == i64::from(task.condition_classes()) && network.image_channels == task.channels.len() as i64;
            let is_sane = (1..=WIDTH_MAX).contains(&network.width) && network.blocks <= 64 && (0..=WIDTH_MAX).contains(&code);
            ensure!(fits && is_sane, "{shown} describes a network that does not fit its task: {network:?}");
        }
        Card::Generator(GeneratorCard { network, .. }) => bail!("{shown} describes a network that does not make images: {network:?}"),
        Card::Segmenter(SegmenterCard { network, absent_channels, .. }) => {
            let fits = network.classes == segmenter_classes(task) && network.image_channels == task.channels.len() as i64;
            let is_sane = (1..=WIDTH_MAX).contains(&network.width) && network.depth <= 6 && crop.is_multiple_of(1 << network.depth);
            let known = absent_channels.iter().all(|&channel| channel < task.channels.len());
            ensure!(fits && is_sane && known, "{shown} describes a network that does not fit its task: {network:?}");
        }
    }
    Ok(card)
}

/// Maximum width of a network.
const WIDTH_MAX: i64 = 1024;

/// The first version described a network by a run on phantoms, and the tensors show which network it is.
fn first_version(path: &Path, text: &str) -> Result<Option<Card>> {
    let Ok(run) = serde_json::from_str::<Run>(text) else { return Ok(None) };
    run.check().with_context(|| format!("{} describes a run with invalid settings", path.display()))?;
    let Some(generator) = GeneratorCard::from_run(&run, run.settings.data.sites) else {
        bail!("{} generates the values of the toy experiment, not images", path.display());
    };
    let tensors = read_tensors(path)?;
    let mut network = Generator::new(&generator.network, Device::Cpu, &mut stream(0, Role::GeneratorWeights, 0, 0));
    let card = if network.parameters.load(&tensors).is_ok() {
        Card::Generator(generator)
    } else {
        Card::Segmenter(SegmenterCard::from_run(&run, Vec::new())?)
    };
    Ok(Some(card))
}

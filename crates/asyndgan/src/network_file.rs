//! Standalone network files: weights with their network, task and scale, as written by `train` and `train-segmenter`.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use asyndgan_data::Preparation;
use asyndgan_evaluator::segmenter_classes;
use asyndgan_models::{Generator, GeneratorConfig, Parameters, Segmenter, SegmenterConfig, Variation, read_about, read_tensors};
use asyndgan_paper::{Arm, Run};
use asyndgan_protocol::{Role, stream};
use asyndgan_task::{Absent, Task};
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::configure;

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
    pub(crate) fn of(run: &Run) -> Self {
        Self { size: run.settings.size, crop: run.settings.crop, downsampling: run.settings.downsampling }
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
    pub(crate) fn of(run: &Run, sites: u32) -> Option<Self> {
        Some(Self {
            task: run.task()?.clone(),
            scale: Scale::of(run),
            network: configure::gan(run, Arm::AsynDgan).generator,
            sites: if run.settings.site_code { sites } else { 0 },
            together: if run.settings.batch_norm { run.settings.batch } else { 0 },
        })
    }

    pub(crate) fn text(self) -> Result<String> {
        Ok(serde_json::to_string(&Card::Generator(self))?)
    }
}

impl SegmenterCard {
    /// The card of a run's segmenter that was trained without some channels.
    pub(crate) fn of(run: &Run, absent_channels: Vec<usize>) -> Result<Self> {
        let task = run.task().context("the toy has no segmenter")?.clone();
        Ok(Self { task, scale: Scale::of(run), network: configure::segmenter(run)?.network, absent_channels })
    }

    pub(crate) fn text(self) -> Result<String> {
        Ok(serde_json::to_string(&Card::Segmenter(self))?)
    }
}

/// Reads a generator with its card.
pub(crate) fn generator(path: &Path, device: Device) -> Result<(Generator, GeneratorCard)> {
    let card = match card(path)? {
        Card::Generator(card) => card,
        Card::Segmenter(_) => bail!("{} is not a generator, but a segmenter", path.display()),
    };
    let mut generator = Generator::new(&card.network, device, &mut stream(0, Role::GeneratorWeights, 0, 0));
    load(&mut generator.parameters, path)?;
    Ok((generator, card))
}

/// Reads a segmenter with its card.
pub(crate) fn segmenter(path: &Path, device: Device) -> Result<(Segmenter, SegmenterCard)> {
    let card = match card(path)? {
        Card::Segmenter(card) => card,
        Card::Generator(_) => bail!("{} is not a segmenter, but a generator", path.display()),
    };
    let mut segmenter = Segmenter::new(&card.network, device, &mut stream(0, Role::Segmenter, 0, 0));
    load(&mut segmenter.parameters, path)?;
    Ok((segmenter, card))
}

/// Loads the weights of a file.
fn load(parameters: &mut Parameters, path: &Path) -> Result<()> {
    parameters.load(&read_tensors(path)?).with_context(|| format!("{} does not fit its description", path.display()))
}

fn card(path: &Path) -> Result<Card> {
    let shown = path.display();
    let text = read_about(path)?.with_context(|| format!("{shown} does not describe its network: use a file written by this program"))?;
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
            let code = match network.variation {
                Variation::EveryScale { code } => code,
                Variation::Dropout => 0,
            };
            let fits = network.condition_channels == i64::from(task.codes()) && network.image_channels == task.channels.len() as i64;
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

/// The first version described a network by a run on phantoms, whose tensors tell which network it is.
fn first_version(path: &Path, text: &str) -> Result<Option<Card>> {
    let Ok(run) = serde_json::from_str::<Run>(text) else { return Ok(None) };
    run.check().with_context(|| format!("{} describes a run with invalid settings", path.display()))?;
    let Some(generator) = GeneratorCard::of(&run, run.settings.sites) else {
        bail!("{} generates the values of the toy experiment, not images", path.display());
    };
    let tensors = read_tensors(path)?;
    let mut network = Generator::new(&generator.network, Device::Cpu, &mut stream(0, Role::GeneratorWeights, 0, 0));
    let card = if network.parameters.load(&tensors).is_ok() {
        Card::Generator(generator)
    } else {
        Card::Segmenter(SegmenterCard::of(&run, Vec::new())?)
    };
    Ok(Some(card))
}

//! Standalone network files: weights and a description of the network, as written by `train` and `evaluate`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use asyndgan_models::{Generator, Segmenter, read_about, read_tensors};
use asyndgan_paper::{Arm, Experiment, Run, Settings};
use asyndgan_protocol::{Role, stream};
use tch::Device;

use crate::configure;

/// Reads a generator, and the run that it comes from.
pub(crate) fn generator(path: &Path, device: Device) -> Result<(Generator, Run)> {
    let run = about(path)?;
    let mut generator =
        Generator::new(&configure::gan(&run, Arm::AsynDgan).generator, device, &mut stream(0, Role::GeneratorWeights, 0, 0));
    generator.parameters.load(&read_tensors(path)?).with_context(|| format!("{} is not a generator (a segmenter?)", path.display()))?;
    Ok((generator, run))
}

/// Reads a segmenter, and the run that it comes from.
pub(crate) fn segmenter(path: &Path, device: Device) -> Result<(Segmenter, Run)> {
    let run = about(path)?;
    let network = configure::segmenter(&run).network;
    let mut segmenter = Segmenter::new(&network, device, &mut stream(0, Role::Segmenter, 0, 0));
    segmenter.parameters.load(&read_tensors(path)?).with_context(|| format!("{} is not a segmenter (a generator?)", path.display()))?;
    Ok((segmenter, run))
}

/// The description in the file of a network that was trained on `sites` sites. Settings that do not affect the network
/// are omitted, so that two runs of the same generator write the same file.
pub(crate) fn describe(run: &Run, sites: u32) -> Result<String> {
    let settings = Settings { sites, phantoms_per_site: 0, phantoms_held_out: 0, ..run.settings.clone() };
    Ok(serde_json::to_string(&Run::phantoms(run.experiment, run.profile, settings))?)
}

fn about(path: &Path) -> Result<Run> {
    let text = read_about(path)?;
    let text = text.with_context(|| format!("{} does not describe its network: use a file written by this version", path.display()))?;
    let run: Run = serde_json::from_str(&text).with_context(|| format!("{} was written by a different version", path.display()))?;
    run.settings.check(run.experiment).with_context(|| format!("{} describes a run with invalid settings", path.display()))?;
    ensure!(run.experiment != Experiment::Fig5, "{} generates the values of the toy experiment, not images", path.display());
    Ok(run)
}

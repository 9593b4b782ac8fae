//! Trains a segmenter on cases, synthetic or a hospital's own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use asyndgan_evaluator::train_segmenter as train;
use asyndgan_medio::CaseSet;
use asyndgan_models::write_described;
use asyndgan_paper::{Experiment, Profile, Run, Settings};
use asyndgan_protocol::{Role, stream};
use tch::Device;

use crate::{configure, curves::Curves, progress::Progress};

/// Trains on all cases of some files and folders and writes the segmenter, with its loss beside it as it falls.
pub(crate) fn train_segmenter(
    cases: &[PathBuf],
    experiment: Experiment,
    profile: Profile,
    set: &[(String, serde_json::Value)],
    seed: u64,
    out: &Path,
    device: Device,
) -> Result<()> {
    let settings = Settings::new(experiment, profile).with(set.iter().map(|(name, value)| (name.as_str(), value.clone())))?;
    let run = Run { seeds: vec![seed], ..Run::phantoms(experiment, profile, settings) };
    asyndgan_models::set_threads(run.settings.server_threads);
    let training = configure::segmenter(&run);
    let images = CaseSet::open(cases)?;
    let shown = cases.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    let [channels, rows, columns] = images.image_shape().with_context(|| format!("{shown}: there is no case"))?;
    let (wanted, crop) = (training.network.image_channels as usize, training.crop);
    ensure!(channels == wanted, "{shown}: images have {channels} channels, a segmenter of these has {wanted}; is --images right?");
    ensure!(rows.min(columns) >= crop, "{shown}: images have {rows} x {columns} pixels, at least {crop} a side are needed");
    let name = out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut curve = Curves::begin(folder, &name, "step", vec!["segmenter/loss".into()], &[])?;
    let mut unwritten = Ok(());
    let mut bar = Progress::new(&format!("segmenter on {} images", images.len()), training.steps);
    let mut rng = stream(seed, Role::Segmenter, 0, 0);
    let segmenter = train(&training, configure::task(experiment), &images, device, &mut rng, |step, loss| {
        bar.set(step);
        if let (Ok(()), Some(loss)) = (&unwritten, loss) {
            unwritten = curve.add(step - 1, &[loss as f32]);
        }
    })?;
    unwritten?;
    write_described(out, &segmenter.parameters.named(), Some(serde_json::to_string(&run)?))?;
    eprintln!("{}", out.display());
    Ok(())
}

use std::path::Path;

use anyhow::{Result, ensure};
use asyndgan_data::{CaseSet, Export};
use asyndgan_paper::{Arm, Step};
use asyndgan_task::ImageKind;

use crate::{
    configure,
    progress::Progress,
    run::{RunFolder, synthesize::made},
};

/// The layout of an exported folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportLayout {
    /// nnU-Net version 2, raw.
    Nnunet,
    /// Images, masks and a pairs.toml.
    Pairs,
}

/// Exports an arm's synthetic images as a data set for other programs; returns their number.
///
/// # Errors
/// If the images are not made yet, or `out` exists or cannot be written.
pub fn export(folder: &RunFolder, arm: Arm, seed: u64, layout: ExportLayout, out: &Path) -> Result<usize> {
    ensure!(folder.run.task().is_some(), "the toy experiment has no images to export");
    ensure!(arm.is_synthetic(), "{arm} has real images; only synthetic ones are exported");
    let learnt = Learnt::from(folder)?;
    let cases = CaseSet::open(&[made(folder, arm, seed)?])?;
    let task = configure::task(&folder.run)?.clone();
    let set = Export { task, card: card(folder, &learnt, arm, seed, &cases)? };
    let count = cases.len();
    let mut bar = Progress::new("export", cases.len() as u64);
    let progress = |done| bar.set(done as u64);
    match layout {
        ExportLayout::Nnunet => set.write_nnunet(out, &cases, progress)?,
        ExportLayout::Pairs => set.write_pairs(out, &cases, progress)?,
    }
    Ok(count)
}

/// The sites and images that a generator was trained on.
struct Learnt {
    sites: u32,
    from: &'static str,
}

impl Learnt {
    fn from(folder: &RunFolder) -> Result<Self> {
        if !folder.proof(Step::Prepare).exists() {
            // A consortium's server never had images.
            return Ok(Self { sites: folder.run.settings.data.sites, from: "images that stayed at their sites" });
        }
        let prepared = folder.prepared()?;
        Ok(Self { sites: prepared.sites.len() as u32, from: prepared.kind.label() })
    }
}

/// The data set card: README.md of the exported folder.
fn card(folder: &RunFolder, learnt: &Learnt, arm: Arm, seed: u64, cases: &CaseSet) -> Result<String> {
    // The path of a hospital's files and the names of its cases are private.
    let run = folder.run.without_identities();
    let sites = learnt.sites;
    let against = match arm {
        Arm::AsynDgan => {
            format!("discriminators of {sites} sites, which return gradients and no images (AsynDGAN, Chang et al., CVPR 2020)")
        }
        Arm::SynSubset(site) => format!("one discriminator with the images of site {site} only"),
        _ => format!("one discriminator with the images of all {sites} sites together"),
    };
    let (settings, shape) = (&run.settings, cases.image_shape().map_or_else(String::new, |[c, r, k]| format!("{c} x {r} x {k}")));
    let task = configure::task(&run)?;
    let what = format!("images: {} ({})", task.name, task.channels.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", "));
    let spacing = if task.images == ImageKind::Volumes {
        "Intensities range from 0 (background) to 2. The pixel spacing is written as 1 mm; it is a placeholder, not a measurement.\n\n"
    } else {
        ""
    };
    Ok(format!(
        "# Synthetic {what}\n\n\
         Every image in this data set is synthetic: a generator made it from a mask. No image shows a real patient. \
         The masks are those of the training cases, or were recombined from them.\n\n\
         - Size: {} images of {shape} (channels, rows, columns), {} per mask.\n\
         - Method: a generator trained against {against}; {} rounds, seed {seed}, profile {}, L1 weight {} \
         (with a weight above 0, the gradients of a site reveal its images to the server).\n\
         - Trained on: {}.\n\
         - Configuration: run.json below.\n\n\
         {spacing}\
         ## Limits\n\n\
         Synthetic images may lack rare findings and may show findings that do not exist. A generator may reproduce its training\n\
         images. Test models that were trained on this data set on real cases. Do not use it for diagnosis. If the training data have a\n\
         licence, its terms for derived works apply to this data set.\n\n\
         ## run.json\n\n```json\n{}\n```\n",
        cases.len(),
        settings.synthesis.per_condition,
        settings.protocol.rounds,
        run.profile.name(),
        settings.protocol.l1_weight,
        learnt.from,
        serde_json::to_string_pretty(&run)?,
    ))
}

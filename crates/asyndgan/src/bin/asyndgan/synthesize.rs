//! The command `synthesize`: makes synthetic images.

use std::path::PathBuf;

use anyhow::{Context, Result};
use asyndgan::{
    device::device,
    run::{self, RunFolder},
    synthesis::{self, Synthesis},
};
use asyndgan_paper::{Arm, Step};
use clap::{Args, ValueEnum};

use crate::stdout::print_note;

pub(crate) const EXAMPLES: &str = "Examples:
  asyndgan synthesize --run target/reproduce/table2-smoke --arm AsynDgan --seed 0
  asyndgan synthesize --generator generator.safetensors --conditions masks --count 5 --out synthetic
  asyndgan synthesize --generator generator.safetensors --conditions masks --vary deformed --count 5 --out synthetic

The last two commands write images and masks for other programs, and synthetic/cases as input for train-segmenter.";

/// How conditions are made from masks.
#[derive(Clone, Copy, ValueEnum)]
enum Vary {
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

#[derive(Args)]
pub(crate) struct SynthesizeArguments {
    /// The run folder (contains run.json).
    #[arg(long, requires = "arm", required_unless_present = "generator")]
    run: Option<PathBuf>,
    /// RealAll, RealSubset-N, SynAll, SynSubset-N, AsynDgan or AsynDgan-Overlap.
    #[arg(long, requires = "run")]
    arm: Option<Arm>,
    /// A standalone generator.safetensors, for masks that are not part of its run.
    #[arg(long, conflicts_with = "run", requires_all = ["conditions", "out"])]
    generator: Option<PathBuf>,
    /// Folder of masks: PNG or TIFF for pictures; NIfTI, NRRD or MetaImage for volumes, with the outline, if the task
    /// has one, as the label above the highest.
    #[arg(long, requires = "generator")]
    conditions: Option<PathBuf>,
    /// How the conditions are made from the masks.
    #[arg(long, value_enum, default_value_t = Vary::Given, requires = "generator")]
    vary: Vary,
    /// Number of images per mask. With --run, the setting `synthesis.per_condition` applies instead.
    #[arg(long, default_value_t = 1, requires = "generator")]
    count: u32,
    /// Output folder; it must not exist yet.
    #[arg(long, requires = "generator")]
    out: Option<PathBuf>,
    /// One of the run's seeds; with --generator, the seed of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Device for --generator: auto, cpu or cuda.
    #[arg(long, default_value = "auto", requires = "generator")]
    device: String,
}

impl SynthesizeArguments {
    pub(crate) fn go(self) -> Result<()> {
        if let (Some(run), Some(arm)) = (&self.run, self.arm) {
            run::synthesize(&RunFolder::open_arm(run, arm, self.seed)?, arm, self.seed)?;
            let (run, out) = (run.display(), Step::synthetic(run, arm, self.seed));
            print_note(&format!(
                "{}: synthetic images; asyndgan data export --run {run} --arm {arm} --seed {} --layout nnunet --out FOLDER writes them \
                 for other programs",
                out.display(),
                self.seed
            ));
            return Ok(());
        }
        let needed = "either --run and --arm are required, or --generator, --conditions and --out";
        let (generator, conditions) = (self.generator.context(needed)?, self.conditions.context(needed)?);
        let mut job = Synthesis::new(generator, conditions, self.out.context(needed)?);
        job.vary = match self.vary {
            Vary::Given => synthesis::Vary::Given,
            Vary::Deformed => synthesis::Vary::Deformed,
            Vary::Recombined => synthesis::Vary::Recombined,
        };
        job.count = self.count;
        job.seed = self.seed;
        job.device = device(&self.device)?;
        let made = job.run()?;
        print_note(&format!(
            "{}: {} synthetic images from {} conditions; use {} as --cases for train-segmenter",
            job.out.display(),
            made.images,
            made.conditions,
            job.out.join("cases").display()
        ));
        Ok(())
    }
}

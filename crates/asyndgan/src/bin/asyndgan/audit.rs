//! The command `audit`: attacks a finished run.

use std::path::PathBuf;

use anyhow::Result;
use asyndgan::audit::AuditJob;
use asyndgan_paper::Arm;
use clap::Args;

use crate::stdout::print_note;

pub(crate) const EXAMPLES: &str = "Examples:
  asyndgan audit --run target/reproduce/table2-desk --out audit.html
  asyndgan audit --run run --site prepared/site-2 --answers 200 --out audit.html

The page shows images of patients. The record audit.json has the figures alone.";

#[derive(Args)]
pub(crate) struct AuditArguments {
    /// The run folder (contains run.json).
    #[arg(long)]
    run: PathBuf,
    /// The arm whose generator is attacked.
    #[arg(long, default_value = "AsynDgan")]
    arm: Arm,
    /// One of the run's seeds.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Prepared cases of the site whose feedback is attacked [default: those of the site with the most patients].
    #[arg(long)]
    site: Option<PathBuf>,
    /// Answers about each image in an attack on feedback; 0 leaves these attacks out, which take the longest.
    #[arg(long, default_value_t = 60)]
    answers: u64,
    /// The page to write; a record (.json) and a picture are written beside it.
    #[arg(long)]
    out: PathBuf,
}

impl AuditArguments {
    pub(crate) fn go(self) -> Result<()> {
        let mut job = AuditJob::new(self.run, self.out);
        (job.arm, job.seed, job.site, job.answers) = (self.arm, self.seed, self.site, self.answers);
        job.audit()?;
        print_note(&format!("{}", job.out.display()));
        Ok(())
    }
}

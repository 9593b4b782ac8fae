//! The command `plan`: proposes a task for a data set.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::stdout::print;

pub(crate) const EXAMPLES: &str = "Examples:
  asyndgan plan /data/Dataset042_Prostate --out task.toml
  asyndgan plan data/monuseg --out nuclei.toml --name nuclei";

#[derive(Args)]
pub(crate) struct PlanArguments {
    /// A folder in the layout of BraTS, MoNuSeg, nnU-Net or with a pairs.toml.
    dir: PathBuf,
    /// The task file to write; it must not exist yet.
    #[arg(long)]
    out: PathBuf,
    /// Name of the task [default: that of the folder].
    #[arg(long)]
    name: Option<String>,
}

impl PlanArguments {
    pub(crate) fn go(&self) -> Result<()> {
        let found = asyndgan::plan::plan(&self.dir, &self.out, self.name.as_deref())?;
        let (task, dir) = (self.out.display(), self.dir.display());
        let incomplete = match found.incomplete {
            0 => String::new(),
            n => format!("; {n} more lack a file or labels (see asyndgan data inspect {dir})"),
        };
        print(&format!(
            "{task}: a task for {} cases of {dir}, of which {} were read{incomplete}. Review it, and correct what is wrong. Next:\n\
             asyndgan experiment --task {task} --data {dir} --sites 4 --profile smoke --out trial   # every step once, in minutes\n\
             asyndgan experiment --task {task} --data {dir} --sites SITES --out run                 # a file of sites, or their number\n",
            found.cases, found.read
        ))
    }
}

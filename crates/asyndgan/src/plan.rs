//! `asyndgan plan`: looks at a data set, and proposes a task for it, with the reason for every line.

mod fingerprint;
mod proposal;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use asyndgan_files::Access;
use asyndgan_medio::DataSet;
use clap::Args;

use self::{fingerprint::Fingerprint, proposal::proposal};
use crate::{stdout::print, task_file::TaskFile};

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

/// Writes a task file for a data set.
pub(crate) fn plan(PlanArguments { dir, out, name }: &PlanArguments) -> Result<()> {
    ensure!(!out.exists(), "{} already exists: remove it, or choose another file with --out", out.display());
    let set = DataSet::find(dir)?;
    let found = Fingerprint::of(&set)?;
    let name = name.clone().unwrap_or_else(|| name_of(dir));
    let text = proposal(&name, &set, &found, tch::Cuda::is_available());
    TaskFile::parse(&text)
        .and_then(|task| task.run(None, &[]))
        .with_context(|| format!("the proposal for {} is not valid", dir.display()))?;
    asyndgan_files::write(out, Access::Shared, text.as_bytes()).with_context(|| format!("cannot write {}", out.display()))?;
    let (task, dir) = (out.display(), dir.display());
    print(&format!(
        "{task}: a task for {} cases of {dir}, of which {} were read. Read it, and change what you know better. Next:\n\
         asyndgan experiment --task {task} --data {dir} --sites 4 --profile smoke --out trial   # every step once, in minutes\n\
         asyndgan experiment --task {task} --data {dir} --sites SITES --out run                 # a file of sites, or their number\n",
        found.cases, found.read
    ))
}

/// The name of a data set's folder, without nnU-Net's number.
fn name_of(dir: &Path) -> String {
    let folder = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let numbered = name.strip_prefix("Dataset").and_then(|rest| rest.split_once('_'));
    let name = numbered.filter(|(number, _)| number.chars().all(|c| c.is_ascii_digit())).map_or(name.as_str(), |(_, name)| name);
    let plain: String = name.chars().map(|c| if c == '_' || c.is_control() { ' ' } else { c }).take(60).collect();
    if plain.trim().is_empty() { "task".into() } else { plain.trim().into() }
}

//! Looks at a data set, and proposes a task for it, with the reason for every line.

mod fingerprint;
mod proposal;
mod scale;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use asyndgan_files::Access;
use asyndgan_medio::DataSet;

use self::{fingerprint::Fingerprint, proposal::proposal};
use crate::task_file::TaskFile;

/// What a proposal is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// Cases with labels.
    pub cases: usize,
    /// How many of them were read.
    pub read: usize,
    /// Cases that lack a file, or labels.
    pub incomplete: usize,
}

/// Proposes a task for the data set in `dir`, and writes it to `out` with the reason for every line. The name of the
/// task is that of the folder unless another is given.
///
/// # Errors
/// If `out` exists, or the folder is not a data set with labels.
pub fn plan(dir: &Path, out: &Path, name: Option<&str>) -> Result<Plan> {
    ensure!(!out.exists(), "{} already exists: remove it, or choose another file with --out", out.display());
    let set = DataSet::find(dir)?;
    let found = Fingerprint::measure(&set)?;
    let name = name.map_or_else(|| name_of(dir), str::to_owned);
    let text = proposal(&name, &set, &found, tch::Cuda::is_available());
    TaskFile::parse(&text)
        .and_then(|task| task.run(None, &[]))
        .with_context(|| format!("the proposal for {} is not valid", dir.display()))?;
    asyndgan_files::write(out, Access::Shared, text.as_bytes()).with_context(|| format!("cannot write {}", out.display()))?;
    Ok(Plan { cases: found.cases, read: found.read, incomplete: set.cases.len() - found.cases })
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

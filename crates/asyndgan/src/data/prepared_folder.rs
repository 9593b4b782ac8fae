//! Prepared cases on disk, while they are prepared.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use asyndgan_data::{Case, CaseOrigin, CaseSet, TestCase, write_cases, write_test_case};
use asyndgan_paper::{DataKind, Prepared, PreparedSite};

/// File name suffix of prepared files; no other file is ever removed.
const ENDING: &str = ".prepared.safetensors";

/// Prepared cases on disk: one folder per site and one for held-out cases. Each file contains all cases made from one
/// volume or tile. Cases are staged while volumes are read, and move to their place when all have been read.
pub(crate) struct PreparedFolder {
    place: PathBuf,
    sites: Vec<PreparedSite>,
    /// Files that belong to the current folder.
    kept: BTreeSet<PathBuf>,
}

/// A site's folder in a folder of prepared cases; sites count from 1.
pub(crate) fn site_folder(place: &Path, site: usize) -> PathBuf {
    place.join(format!("site-{site}"))
}

/// The held-out cases' folder.
pub(crate) fn test_folder(place: &Path) -> PathBuf {
    place.join("test")
}

/// What a prepared file is for.
#[derive(Clone, Copy)]
enum Role {
    Training,
    HeldOut,
}

impl PreparedFolder {
    /// A folder, which need not exist yet.
    pub(crate) fn new(place: &Path) -> Self {
        Self { place: place.into(), sites: Vec::new(), kept: BTreeSet::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// Writes the cases of one volume or tile before its site is known, unless they exist already.
    pub(super) fn stage_cases(&self, stem: &str, origin: CaseOrigin, make: impl FnOnce() -> Vec<Case>) -> Result<()> {
        let path = file(&self.staging(Role::Training), stem)?;
        if !path.exists() && !self.exists_at_a_site(stem)? {
            put(&path, origin, make())?;
        }
        Ok(())
    }

    /// Writes a held-out case before the other cases are read, unless it exists already.
    pub(super) fn stage_test_case(&self, stem: &str, make: impl FnOnce() -> TestCase) -> Result<()> {
        let path = file(&self.staging(Role::HeldOut), stem)?;
        if !path.exists() && !test_folder(&self.place).join(name(stem)).exists() {
            put_test(&path, &make())?;
        }
        Ok(())
    }

    /// Adds the cases of one volume or tile to the current site, unless they exist there; they are those that were
    /// staged, if any.
    pub(crate) fn put_cases(&mut self, stem: &str, origin: CaseOrigin, make: impl FnOnce() -> Result<Vec<Case>>) -> Result<()> {
        let path = file(&site_folder(&self.place, self.sites.len() + 1), stem)?;
        if path.exists() || self.move_staged(Role::Training, stem, &path)? || put(&path, origin, make()?)? {
            self.kept.insert(path);
        }
        Ok(())
    }

    /// Finishes the current site; a site without cases is dropped.
    pub(crate) fn close_site(&mut self, name: String, patients: Vec<String>) -> Result<()> {
        let folder = site_folder(&self.place, self.sites.len() + 1);
        self.clear(&folder)?;
        let cases = CaseSet::open(&[folder])?.len();
        if cases > 0 {
            self.sites.push(PreparedSite { name, patients, cases });
        }
        Ok(())
    }

    /// Adds a held-out case, unless it exists; it is the one that was staged, if any. Returns whether it has anything
    /// to score.
    pub(crate) fn put_test_case(&mut self, stem: &str, make: impl FnOnce() -> Result<TestCase>) -> Result<bool> {
        let path = file(&test_folder(&self.place), stem)?;
        let exists = path.exists() || self.move_staged(Role::HeldOut, stem, &path)? || put_test(&path, &make()?)?;
        if exists {
            self.kept.insert(path);
        }
        Ok(exists)
    }

    /// Finishes the held-out cases and the preparation; `patients` are those of the held-out cases.
    pub(crate) fn finish(mut self, kind: DataKind, test: Vec<String>, patients: Vec<String>) -> Result<Prepared> {
        self.clear(&test_folder(&self.place))?;
        // An earlier preparation may have had more sites, with patients who are elsewhere now.
        for site in self.sites.len() + 1.. {
            let folder = site_folder(&self.place, site);
            if !folder.is_dir() {
                break;
            }
            self.clear(&folder)?;
        }
        let is_one_each = patients.iter().collect::<BTreeSet<_>>().len() == patients.len();
        let named = test.iter().cloned().zip(patients);
        let test_patients = if is_one_each { BTreeMap::new() } else { named.collect() };
        Ok(Prepared { kind, sites: std::mem::take(&mut self.sites), test, test_patients })
    }

    /// Removes outdated files of an earlier preparation; nothing else.
    fn clear(&mut self, folder: &Path) -> Result<()> {
        let removed = remove_ours(folder, &std::mem::take(&mut self.kept))?;
        if removed > 0 {
            tracing::info!("{}: removed {removed} files of an earlier preparation", folder.display());
        }
        Ok(())
    }

    /// The folder of cases whose place is not known yet.
    fn staging(&self, role: Role) -> PathBuf {
        self.place.join("staged").join(match role {
            Role::Training => "training",
            Role::HeldOut => "held-out",
        })
    }

    /// Whether a site has a file of this name, which is then up to date.
    fn exists_at_a_site(&self, stem: &str) -> Result<bool> {
        let folders = match fs::read_dir(&self.place) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            folders => folders.with_context(|| format!("cannot list {}", self.place.display()))?,
        };
        for folder in folders {
            let folder = folder?;
            if folder.file_name().to_string_lossy().starts_with("site-") && folder.path().join(name(stem)).exists() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn move_staged(&self, role: Role, stem: &str, path: &Path) -> Result<bool> {
        let staged = self.staging(role).join(name(stem));
        let is_staged = staged.exists();
        if is_staged {
            asyndgan_files::rename(&staged, path).with_context(|| format!("cannot move {} to {}", staged.display(), path.display()))?;
        }
        Ok(is_staged)
    }

    /// Removes what is staged. A process that is killed leaves it, and the next preparation uses it.
    fn clear_staged(&self) -> Result<()> {
        for role in [Role::Training, Role::HeldOut] {
            remove_ours(&self.staging(role), &BTreeSet::new())?;
        }
        remove_ours(&self.place.join("staged"), &BTreeSet::new())?;
        // Only empty folders are removed; the last one is there only if nothing was prepared.
        for folder in [self.staging(Role::Training), self.staging(Role::HeldOut), self.place.join("staged"), self.place.clone()] {
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }
}

impl Drop for PreparedFolder {
    fn drop(&mut self) {
        let _ = self.clear_staged();
    }
}

/// Removes prepared files from a folder, except those to keep; returns how many.
fn remove_ours(folder: &Path, kept: &BTreeSet<PathBuf>) -> Result<usize> {
    let mut removed = 0;
    if !folder.is_dir() {
        return Ok(removed);
    }
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let ours = path.file_name().is_some_and(|n| n.to_string_lossy().ends_with(ENDING));
        if ours && !kept.contains(&path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Writes cases; returns whether there were any.
fn put(path: &Path, origin: CaseOrigin, cases: Vec<Case>) -> Result<bool> {
    if !cases.is_empty() {
        write_cases(path, origin, &cases)?;
    }
    Ok(!cases.is_empty())
}

/// Writes a held-out case; returns whether it has anything to score.
fn put_test(path: &Path, case: &TestCase) -> Result<bool> {
    if !case.images.is_empty() {
        write_test_case(path, case)?;
    }
    Ok(!case.images.is_empty())
}

fn file(folder: &Path, stem: &str) -> Result<PathBuf> {
    asyndgan_files::create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder.join(name(stem)))
}

/// The name of a prepared file.
fn name(stem: &str) -> String {
    format!("{stem}{ENDING}")
}

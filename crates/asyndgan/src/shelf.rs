use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use asyndgan_data::{Case, CaseOrigin, CaseSet, TestCase, write_cases, write_test_case};
use asyndgan_paper::{DataKind, Prepared, PreparedSite};
use asyndgan_task::ImageDescription;

/// File name suffix of prepared files; no other file is ever removed.
const ENDING: &str = ".prepared.safetensors";

/// Prepared cases on disk: one folder per site and one for held-out cases. Each file contains all cases made from one
/// volume or tile.
pub(crate) struct Shelf {
    place: PathBuf,
    images: ImageDescription,
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

impl Shelf {
    pub(crate) fn new(place: &Path, images: ImageDescription) -> Self {
        Self { place: place.into(), images, sites: Vec::new(), kept: BTreeSet::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// Adds the cases of one patient to the current site, unless they already exist.
    pub(crate) fn put_cases(&mut self, stem: &str, origin: CaseOrigin, make: impl FnOnce() -> Result<Vec<Case>>) -> Result<()> {
        let path = file(&site_folder(&self.place, self.sites.len() + 1), stem)?;
        if !path.exists() {
            let cases = make()?;
            if cases.is_empty() {
                return Ok(());
            }
            write_cases(&path, CaseOrigin { images: Some(&self.images), ..origin }, &cases)?;
        }
        self.kept.insert(path);
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

    /// Adds a held-out case, unless it already exists; returns whether it has anything to score.
    pub(crate) fn put_test_case(&mut self, stem: &str, make: impl FnOnce() -> Result<TestCase>) -> Result<bool> {
        let path = file(&test_folder(&self.place), stem)?;
        if !path.exists() {
            let case = make()?;
            if case.images.is_empty() {
                return Ok(false);
            }
            write_test_case(&path, &case)?;
        }
        self.kept.insert(path);
        Ok(true)
    }

    /// Finishes the held-out cases and the preparation.
    pub(crate) fn finish(mut self, kind: DataKind, test: Vec<String>) -> Result<Prepared> {
        self.clear(&test_folder(&self.place))?;
        // An earlier preparation may have had more sites, with patients who are elsewhere now.
        for site in self.sites.len() + 1.. {
            let folder = site_folder(&self.place, site);
            if !folder.is_dir() {
                break;
            }
            self.clear(&folder)?;
        }
        Ok(Prepared { kind, sites: self.sites, test })
    }

    /// Removes outdated files of an earlier preparation; nothing else.
    fn clear(&mut self, folder: &Path) -> Result<()> {
        let (kept, mut removed) = (std::mem::take(&mut self.kept), 0);
        if !folder.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            let ours = path.file_name().is_some_and(|n| n.to_string_lossy().ends_with(ENDING));
            if ours && !kept.contains(&path) {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                removed += 1;
            }
        }
        if removed > 0 {
            eprintln!("{}: removed {removed} files of an earlier preparation", folder.display());
        }
        Ok(())
    }
}

fn file(folder: &Path, stem: &str) -> Result<PathBuf> {
    asyndgan_files::create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder.join(format!("{stem}{ENDING}")))
}

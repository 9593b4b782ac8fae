//! Patients and tiles, real or artificial: what is prepared of each, and a folder's cases one at a time.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use asyndgan_medio::{Brain, Case, CaseFiles, DataSet, Layout, Split, Subject, TestCase, Tile, phantom, prepare};
use asyndgan_paper::DataKind;
use asyndgan_protocol::{Role, stream};

use crate::sources::Item;

/// One of them in memory.
pub(crate) enum Patient {
    Brain(Brain),
    Tile(Tile),
}

/// How each is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// Rows and columns of what comes out.
    pub(crate) size: usize,
    /// Tiles are shrunk by this first.
    pub(crate) shrink: usize,
}

impl Recipe {
    pub(crate) fn cases(self, patient: &Patient) -> Result<Vec<Case>> {
        match patient {
            Patient::Brain(brain) => Ok(prepare::brain_cases(brain, self.size)),
            Patient::Tile(tile) => {
                self.check(tile)?;
                Ok(prepare::tile_cases(tile, self.size, self.shrink))
            }
        }
    }

    pub(crate) fn test_case(self, patient: &Patient) -> Result<TestCase> {
        match patient {
            Patient::Brain(brain) => Ok(prepare::brain_test_case(brain, self.size)),
            Patient::Tile(tile) => {
                self.check(tile)?;
                Ok(prepare::tile_test_case(tile, self.shrink))
            }
        }
    }

    fn check(self, tile: &Tile) -> Result<()> {
        let (needed, side) = (self.size * self.shrink, tile.instances.nrows().min(tile.instances.ncols()));
        ensure!(
            side >= needed,
            "{} has {side} pixels on its shorter side, {needed} are needed; leave it out, or take smaller patches (size)",
            tile.id
        );
        Ok(())
    }

    /// A phantom has no file that a digest could be of; the number in front of the size changes whenever phantoms do.
    pub(crate) fn phantom_stem(self, name: &str) -> String {
        format!("{name}-3-{}x{}", self.size, self.shrink)
    }

    /// Changes whenever preparation makes something else of the same files.
    fn about(self) -> String {
        format!("preparation 2, size {}, shrink {}", self.size, self.shrink)
    }
}

/// A folder of real images, of which one channel is used.
pub(crate) struct RealData {
    pub(crate) set: DataSet,
    channel: usize,
    pub(crate) volumes: bool,
}

impl RealData {
    /// Opens a folder that must be complete; of volumes with several channels it takes the named one.
    pub(crate) fn open(folder: &Path, channel: &str) -> Result<Self> {
        let mut set = DataSet::complete(folder)?;
        // Held-out images without labels are of no use here.
        set.cases.retain(|c| c.labels.is_some());
        ensure!(!set.cases.is_empty(), "{}: no case has labels", folder.display());
        let pictures = matches!(set.read(&set.cases[0], 0)?, Subject::Picture { .. });
        let channel = if pictures || set.channels.len() == 1 { 0 } else { set.channel(channel)? };
        Ok(Self { set, channel, volumes: !pictures })
    }

    pub(crate) fn kind(&self) -> DataKind {
        match (self.set.layout, self.volumes) {
            (Layout::Brats, _) => DataKind::Brats,
            (Layout::Monuseg, _) => DataKind::Monuseg,
            (_, true) => DataKind::Volumes,
            (_, false) => DataKind::Pictures,
        }
    }

    fn subject(&self, case: &CaseFiles) -> Result<Subject> {
        Ok(self.set.read(case, self.channel)?)
    }

    /// What sharing out needs to know of a case.
    pub(crate) fn item(&self, case: &CaseFiles) -> Result<Item> {
        let size = self.subject(case)?.labelled();
        Ok(Item { case: case.id.clone(), patient: case.patient.clone(), size, held_out: case.split == Split::Test })
    }

    pub(crate) fn read(&self, case: &CaseFiles) -> Result<Patient> {
        let subject = self.subject(case)?;
        let patient =
            if self.volumes { subject.into_brain(&case.id).map(Patient::Brain) } else { subject.into_tile(&case.id).map(Patient::Tile) };
        patient.with_context(|| format!("{} cannot be prepared", case.images[0].display()))
    }

    /// What a case's prepared file is called: its name, and a digest of its files, of whose it is and of how it is prepared.
    pub(crate) fn stem(&self, case: &CaseFiles, recipe: Recipe) -> Result<String> {
        Ok(format!("{}-{}", case.id, case.digest(self.channel, &format!("{}, patient {}", recipe.about(), case.patient))?))
    }
}

/// Where the numbers of held-out phantoms begin: far from those of any site's own.
pub(crate) const HELD_OUT: u64 = 1 << 32;

/// An artificial brain or tile of a site, under its own scanner or stain.
pub(crate) fn phantom_patient(brains: bool, site: usize, number: usize, part: u64, recipe: Recipe) -> Patient {
    let mut rng = stream(0, Role::Phantom, site as u32, part + number as u64);
    let id = phantom_name(site, number, part);
    if brains {
        return Patient::Brain(phantom::brain(&id, number, &phantom::Scanner::of_site(site), &mut rng));
    }
    Patient::Tile(phantom::tile(&id, 3 * recipe.size * recipe.shrink, &phantom::Stain::of_site(site), &mut rng))
}

pub(crate) fn phantom_name(site: usize, number: usize, part: u64) -> String {
    format!("phantom-{part}-{site}-{number}")
}

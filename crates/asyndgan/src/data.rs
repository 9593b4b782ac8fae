//! Real and artificial patients and tiles: how each is prepared, and how a folder's cases are read one at a time.

use std::path::Path;

use anyhow::{Result, ensure};
use asyndgan_medio::{Brain, Case, CaseFiles, DataSet, Layout, Split, Subject, TestCase, Tile, dicom, is_volume, phantom, prepare};
use asyndgan_paper::DataKind;
use asyndgan_protocol::{Role, stream};

use crate::{progress::Progress, sources::Item};

/// One patient or tile in memory.
pub(crate) enum Patient {
    Brain(Brain),
    Tile(Tile),
}

/// How patients and tiles are prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// Rows and columns of the output.
    pub(crate) size: usize,
    /// Factor by which tiles are shrunk first.
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
            Patient::Brain(brain) => {
                let ignored = brain.labels.iter().filter(|&&l| l == prepare::IGNORED).count();
                ensure!(
                    ignored == 0,
                    "{} is held out, but {ignored} of its voxels have the ignore label; hold out fully annotated cases (--lists)",
                    brain.id
                );
                Ok(prepare::brain_test_case(brain, self.size))
            }
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
            "{} has {side} pixels on its shorter side, but {needed} are required; exclude it, or use smaller patches (size)",
            tile.id
        );
        Ok(())
    }

    /// A phantom has no file to compute a digest of; the number before the size changes whenever the phantoms change.
    pub(crate) fn phantom_stem(self, name: &str) -> String {
        format!("{name}-3-{}x{}", self.size, self.shrink)
    }

    /// Changes whenever preparation gives a different result for the same files.
    fn about(self) -> String {
        format!("preparation 3, size {}, shrink {}", self.size, self.shrink)
    }
}

/// A folder of real images, of which one channel is used.
pub(crate) struct RealData {
    pub(crate) set: DataSet,
    channel: usize,
    pub(crate) volumes: bool,
    items: Vec<Item>,
}

/// Which part of a folder of real images is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selection<'a> {
    /// The channel to use, for volumes with several.
    pub(crate) channel: &'a str,
    /// The layer to use, for annotations with several.
    pub(crate) layer: Option<&'a str>,
    /// Whether cases and files that cannot be used are skipped.
    pub(crate) skip_unusable: bool,
}

impl Default for Selection<'_> {
    fn default() -> Self {
        Self { channel: "t2", layer: None, skip_unusable: false }
    }
}

impl RealData {
    /// Opens a folder; for volumes with several channels, the named one is used. A folder with unusable cases or files
    /// is rejected, unless they are to be skipped.
    pub(crate) fn open(folder: &Path, Selection { channel, layer, skip_unusable }: Selection, recipe: Recipe) -> Result<Self> {
        let mut set = DataSet::find(folder)?;
        set.layer = layer.map(str::to_owned);
        let mut unusable = set.unusable();
        for skipped in set.skipped.iter().filter(|p| !p.is_problem) {
            eprintln!("note: {} is skipped: {}", skipped.path.display(), skipped.reason);
        }
        // Held-out images without labels are of no use here.
        let (cases, unlabelled): (Vec<CaseFiles>, Vec<CaseFiles>) =
            std::mem::take(&mut set.cases).into_iter().filter(|case| case.missing.is_empty()).partition(|case| case.labels.is_some());
        if !unlabelled.is_empty() {
            let names: Vec<&str> = unlabelled.iter().map(|case| case.id.as_str()).collect();
            eprintln!("note: held-out cases without labels are skipped: {}", names.join(", "));
        }
        let kind = cases.iter().find_map(|case| is_case_of_volumes(case).ok());
        let channel = if kind != Some(true) || set.channels.len() == 1 { 0 } else { set.channel(channel)? };
        let mut data = Self { set, channel, volumes: kind == Some(true), items: Vec::new() };
        let mut bar = Progress::new("check cases", cases.len() as u64);
        for (n, case) in cases.into_iter().enumerate() {
            for folder in case.images.iter().filter(|path| path.is_dir()) {
                // What cannot be read is an error of the case.
                for skipped in dicom::skipped(folder).unwrap_or_default() {
                    bar.say(&format!("note: {} is skipped: {}", skipped.path.display(), skipped.reason));
                }
            }
            match data.item(&case, recipe) {
                Ok(item) => {
                    data.items.push(item);
                    data.set.cases.push(case);
                }
                Err(error) => unusable.push(format!("{}: {error:#}", case.id)),
            }
            bar.set(n as u64 + 1);
        }
        drop(bar);
        if !unusable.is_empty() {
            let (count, listed) = (unusable.len(), unusable.join("\n  "));
            ensure!(
                skip_unusable && !data.set.cases.is_empty(),
                "{count} problems in {}:\n  {listed}\nfix them, remove these files, or skip them with `data prepare --skip-unusable`",
                folder.display()
            );
            eprintln!("skipped, because they cannot be used:\n  {listed}");
        }
        ensure!(!data.set.cases.is_empty(), "{}: no case has labels", folder.display());
        Ok(data)
    }

    /// The facts about each case that the split needs, in the order of the data set's cases.
    pub(crate) fn items(&self) -> &[Item] {
        &self.items
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

    /// Reads a case, to see whether it can be prepared.
    fn item(&self, case: &CaseFiles, recipe: Recipe) -> Result<Item> {
        let subject = self.subject(case)?;
        let size = subject.labelled(self.set.ignore);
        if let (Some(ignore), Subject::Picture { labels: Some(labels), .. }) = (self.set.ignore, &subject) {
            let count = labels.iter().filter(|&&l| l == ignore).count();
            ensure!(count == 0, "{count} pixels have the ignore label {ignore}; training uses whole pictures, so exclude this case");
        }
        match self.patient(case, subject)? {
            Patient::Tile(tile) => recipe.check(&tile)?,
            Patient::Brain(brain) => {
                let ignored = brain.labels.outer_iter().filter(|plane| plane.iter().any(|&l| l == prepare::IGNORED)).count();
                if ignored > 0 {
                    eprintln!("note: {ignored} slices of {} are skipped: they contain voxels with the ignore label", case.id);
                }
            }
        }
        Ok(Item { case: case.id.clone(), patient: case.patient.clone(), size, held_out: case.split == Split::Test })
    }

    pub(crate) fn read(&self, case: &CaseFiles) -> Result<Patient> {
        self.patient(case, self.subject(case)?)
    }

    fn patient(&self, case: &CaseFiles, subject: Subject) -> Result<Patient> {
        let image = self.image(case);
        Ok(if self.volumes {
            Patient::Brain(subject.into_brain(&case.id, image, self.set.ignore)?)
        } else {
            Patient::Tile(subject.into_tile(&case.id, image)?)
        })
    }

    /// The file or folder that holds the channel.
    fn image<'a>(&self, case: &'a CaseFiles) -> &'a Path {
        case.images.get(self.channel).unwrap_or(&case.images[0])
    }

    /// The name of a case's prepared file: the case name, and a digest of its files, its patient and its preparation.
    pub(crate) fn stem(&self, case: &CaseFiles, recipe: Recipe) -> Result<String> {
        let DataSet { layout, layer, ignore, .. } = &self.set;
        let labels = case.labels.as_deref().and_then(Path::file_name).unwrap_or_default();
        let read_as = format!("{layout:?}, mask {}, layer {layer:?}, ignore {ignore:?}", labels.display());
        let about = format!("{}, {read_as}, patient {}", recipe.about(), case.patient);
        Ok(format!("{}-{}", case.id, case.digest(self.channel, &about)?))
    }
}

/// Whether a case's image is a volume, and not a picture.
fn is_case_of_volumes(case: &CaseFiles) -> Result<bool> {
    Ok(case.images[0].is_dir() || is_volume(&case.images[0])?)
}

/// The first number of held-out phantoms, far above the numbers of any site's phantoms.
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

//! Real and artificial studies: how a folder's cases are read one at a time, for a task.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_data::{Preparation, Study, phantom, to_slice_order};
use asyndgan_medio::{CaseFiles, DataSet, Layout, Split, Subject, dicom, is_grey, is_volume};
use asyndgan_paper::DataKind;
use asyndgan_protocol::{Role, stream};
use asyndgan_task::{Absent, ImageKind, SiteLists, Task};
use ndarray::{Array3, Array4, Axis};

use super::split::Item;
use crate::progress::Progress;

/// A folder of real images, of which the channels of a task are used.
pub(crate) struct RealData {
    pub(crate) set: DataSet,
    /// The task; it has the ignore label of the data set if it names none.
    pub(crate) task: Task,
    size: usize,
    downsampling: usize,
    /// The index of each channel of the task in the data set; `None` if the data do not have it.
    channels: Vec<Option<usize>>,
    /// The parts of the task that the data do not have.
    absent: Absent,
    /// The user's own lists, which name what a site does not have.
    lists: SiteLists,
    items: Vec<Item>,
    stems: Vec<String>,
}

/// Which part of a folder of real images is used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Selection<'a> {
    /// The layer to use, for annotations with several.
    pub(crate) layer: Option<&'a str>,
    /// Whether cases and files that cannot be used are skipped.
    pub(crate) skip_unusable: bool,
    /// The user's own lists: cases in none of them are not read, and what a site does not have is not required.
    pub(crate) lists: Option<&'a SiteLists>,
}

impl RealData {
    /// Opens a folder and reads every case once; `each` gets those that can be
    /// prepared, with the name of their file. A folder with unusable cases or files is
    /// rejected, unless they are to be skipped.
    pub(crate) fn open(
        folder: &Path,
        Selection { layer, skip_unusable, lists }: Selection,
        preparation: Preparation,
        each: impl Fn(&Self, &CaseFiles, &str, &Study) -> Result<()>,
    ) -> Result<Self> {
        let mut set = DataSet::find(folder)?;
        set.layer = layer.map(str::to_owned);
        let lists = lists.cloned().unwrap_or_default();
        let is_listed = |id: &String| lists.test.contains(id) || lists.sites.iter().any(|site| site.cases.contains(id));
        if let Some(name) =
            lists.sites.iter().flat_map(|site| &site.cases).chain(&lists.test).find(|name| set.cases.iter().all(|case| case.id != **name))
        {
            bail!("the lists name {name}, which is not a case of {}; correct them", folder.display());
        }
        if lists != SiteLists::default() {
            set.cases.retain(|case| is_listed(&case.id));
        }
        let absent_of = |case: &CaseFiles| preparation.absent.union(lists.absent(&case.id));
        for case in &mut set.cases {
            let absent = absent_of(case);
            let needed =
                |k: usize| !set.channels.get(k).is_some_and(|name| absent.channels.iter().any(|other| other.eq_ignore_ascii_case(name)));
            let not_needed: Vec<PathBuf> = (0..case.images.len()).filter(|&k| !needed(k)).map(|k| case.images[k].clone()).collect();
            case.missing.retain(|path| !not_needed.contains(path));
        }
        let mut unusable = set.unusable();
        for skipped in set.skipped.iter().filter(|p| !p.is_problem) {
            tracing::info!("{} is skipped: {}", skipped.path.display(), skipped.reason);
        }
        // Held-out images without labels are of no use here.
        let (cases, unlabelled): (Vec<CaseFiles>, Vec<CaseFiles>) =
            std::mem::take(&mut set.cases).into_iter().filter(|case| case.missing.is_empty()).partition(|case| case.labels.is_some());
        if !unlabelled.is_empty() {
            let names: Vec<&str> = unlabelled.iter().map(|case| case.id.as_str()).collect();
            tracing::info!("held-out cases without labels are skipped: {}", names.join(", "));
        }
        let mut task = preparation.task.clone();
        task.ignore = task.ignore.or(set.ignore);
        task.check().with_context(|| format!("{} marks label {:?} as ignored", folder.display(), set.ignore))?;
        if let Some(kind) = cases.iter().find_map(|case| kind_of(case).ok()) {
            let [wanted, found] = [task.images, kind].map(|k| if k == ImageKind::Volumes { "volumes" } else { "pictures" });
            ensure!(wanted == found, "{} contains {found}, but {} requires {wanted}; choose another folder", folder.display(), task.name);
        }
        let Preparation { size, downsampling, absent, .. } = preparation;
        absent.check(&task)?;
        let channels = channels_of(&set, &cases, &task, absent)?;
        let mut data = Self {
            set,
            task,
            size,
            downsampling,
            channels,
            absent: absent.clone(),
            lists: lists.clone(),
            items: Vec::new(),
            stems: Vec::new(),
        };
        let mut bar = Progress::new("read cases", cases.len() as u64);
        for (n, case) in cases.into_iter().enumerate() {
            for folder in case.images.iter().filter(|path| path.is_dir()) {
                // What cannot be read is an error of the case.
                for skipped in dicom::skipped(folder).unwrap_or_default() {
                    tracing::info!("{} is skipped: {}", skipped.path.display(), skipped.reason);
                }
            }
            match data.checked(&case) {
                Ok((item, study)) => {
                    let stem = data.stem(&case)?;
                    each(&data, &case, &stem, &study)?;
                    data.stems.push(stem);
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
                "{count} problems in {}:\n  {listed}\nfix them or remove these files; `data prepare` leaves them out with --skip-unusable",
                folder.display()
            );
            tracing::warn!("skipped, because they cannot be used:\n  {listed}");
        }
        ensure!(!data.set.cases.is_empty(), "{}: no case has labels", folder.display());
        if !data.set.are_patients_known {
            tracing::info!(
                "{}: the patients of some cases are unknown, and each such case counts as a patient; if several show the same patient, \
                 name the patients in patients.toml",
                folder.display()
            );
        }
        Ok(data)
    }

    pub(crate) fn preparation(&self) -> Preparation<'_> {
        Preparation { task: &self.task, size: self.size, downsampling: self.downsampling, absent: &self.absent }
    }

    /// The parts of the task that the data of a case's site do not have.
    pub(crate) fn absent(&self, case: &CaseFiles) -> Absent {
        self.absent.union(self.lists.absent(&case.id))
    }

    /// Whether a case is held out: by the user's own lists, or by the data set if there are none.
    pub(crate) fn is_held_out(&self, case: &CaseFiles) -> bool {
        if self.lists == SiteLists::default() { case.split == Split::Test } else { self.lists.test.contains(&case.id) }
    }

    /// The facts about each case that the split needs, in the order of the data set's cases.
    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    /// The names of the cases' prepared files, in the order of the data set's cases.
    pub(crate) fn stems(&self) -> &[String] {
        &self.stems
    }

    pub(crate) fn kind(&self) -> DataKind {
        match (self.set.layout, self.task.images) {
            (Layout::Brats, _) => DataKind::Brats,
            (Layout::Monuseg, _) => DataKind::Monuseg,
            (_, ImageKind::Volumes) => DataKind::Volumes,
            (_, ImageKind::Pictures) => DataKind::Pictures,
        }
    }

    /// Reads a case, and checks that it can be prepared.
    fn checked(&self, case: &CaseFiles) -> Result<(Item, Study)> {
        let absent = self.absent(case);
        let subject = self.set.read(case, &self.present(case))?;
        let size = subject.labelled(self.task.ignore);
        let study = self.study(case, subject)?;
        Preparation { absent: &absent, ..self.preparation() }.check(self.image(case), &study)?;
        let codes: BTreeSet<u8> =
            study.labels.iter().filter(|&&label| label > 0).filter_map(|&label| self.task.condition_code_of(label)).collect();
        let item = Item {
            case: case.id.clone(),
            patient: case.patient.clone(),
            size,
            held_out: self.is_held_out(case),
            is_complete: absent.is_none(),
            classes: codes.into_iter().filter(|&code| self.task.is_class(code)).map(|code| usize::from(code) - 1).collect(),
        };
        Ok((item, study))
    }

    pub(crate) fn read(&self, case: &CaseFiles) -> Result<Study> {
        self.study(case, self.set.read(case, &self.present(case))?)
    }

    /// The indices in the task of the channels that a case has.
    fn present_in_task(&self, case: &CaseFiles) -> Vec<usize> {
        let absent = self.absent(case);
        (0..self.channels.len()).filter(|&k| self.channels[k].is_some() && !absent.is_channel_absent(&self.task, k)).collect()
    }

    /// The indices in the data set of the channels that a case has.
    fn present(&self, case: &CaseFiles) -> Vec<usize> {
        // A picture in one file is read whole, whichever colours are absent.
        if let [Some(file)] = self.channels[..]
            && self.task.channels.len() > 1
        {
            return vec![file];
        }
        self.present_in_task(case).into_iter().filter_map(|k| self.channels[k]).collect()
    }

    /// A case as the task sees it, with 0 in absent channels.
    fn study(&self, case: &CaseFiles, subject: Subject) -> Result<Study> {
        let mut read = study(&self.task, &case.id, subject)?;
        let present = self.present_in_task(case);
        if present.len() == 1 && self.channels.len() > 1 && read.images.dim().0 > 1 {
            let planes = read.images.index_axis(Axis(1), 0).to_owned();
            ensure!(is_grey(&planes), "{} is a colour picture, but its site has one channel of the task", case.id);
            read.images = read.images.slice_axis(Axis(0), (0..1).into()).to_owned();
        }
        // A picture in one file has all its colours.
        if present.len() == self.channels.len() || read.images.dim().0 != present.len() {
            return Ok(read);
        }
        let (_, slices, rows, columns) = read.images.dim();
        let mut images = Array4::zeros((self.channels.len(), slices, rows, columns));
        for (k, plane) in present.into_iter().zip(read.images.outer_iter()) {
            images.index_axis_mut(Axis(0), k).assign(&plane);
        }
        Ok(Study { images, ..read })
    }

    /// The file or folder that holds the first channel.
    fn image<'a>(&self, case: &'a CaseFiles) -> &'a Path {
        self.present(case).first().and_then(|&first| case.images.get(first)).unwrap_or(&case.images[0])
    }

    /// The name of a case's prepared file: the case name, and a digest of its files, its patient and its preparation.
    fn stem(&self, case: &CaseFiles) -> Result<String> {
        let absent = self.absent(case);
        let DataSet { layout, layer, .. } = &self.set;
        let labels = case.labels.as_deref().and_then(Path::file_name).unwrap_or_default();
        let read_as = format!("{layout:?}, mask {}, layer {layer:?}", labels.display());
        // Where classes are absent, background has its own code.
        let unmarked = if absent.classes.is_empty() { "" } else { ", unmarked" };
        let about = format!(
            "preparation {PREPARATION}, size {}, downsampling {}, {read_as}, patient {}, absent {absent:?}{unmarked}, task {}",
            self.size,
            self.downsampling,
            case.patient,
            self.task.to_toml()
        );
        Ok(format!("{}-{}", case.id, case.digest(&self.present(case), &about)?))
    }
}

/// Changes whenever preparation gives a different result for the same files.
const PREPARATION: u32 = 5;
/// Changes whenever phantoms change.
const PHANTOMS: u32 = 3;

/// The channels of a task in a data set: those of the same names, or the only one; `None` for those that the data do
/// not have.
fn channels_of(set: &DataSet, cases: &[CaseFiles], task: &Task, absent: &Absent) -> Result<Vec<Option<usize>>> {
    let single_pictures = task.images == ImageKind::Pictures && cases.iter().all(|case| case.images.len() == 1);
    // A site with one of the channels, each of which has a file of its own elsewhere.
    let present = (0..task.channels.len()).filter(|&k| !absent.is_channel_absent(task, k)).count();
    let is_one_of_several = present == 1 && task.channels.len() > 1 && !task.is_coloured();
    if single_pictures && !is_one_of_several || set.channels.len() <= 1 && task.channels.len() == 1 {
        if let ([found], [wanted]) = (set.channels.as_slice(), task.channels.as_slice())
            && !found.eq_ignore_ascii_case(&wanted.name)
        {
            tracing::info!("channel {found} of the data is used as {} of the task", wanted.name);
        }
        return Ok(vec![Some(0)]);
    }
    let channel = |k: usize| if absent.is_channel_absent(task, k) { Ok(None) } else { Ok(Some(set.channel(&task.channels[k].name)?)) };
    (0..task.channels.len()).map(channel).collect()
}

/// A case as the task sees it.
pub(crate) fn study(task: &Task, id: &str, subject: Subject) -> Result<Study> {
    let (images, labels, spacing_mm) = match subject {
        Subject::Volume { channels, labels } => {
            let spacing = channels[0].spacing_mm();
            let channels: Vec<Array3<f32>> = channels.into_iter().map(|channel| to_slice_order(task.axis, channel.voxels)).collect();
            let images = ndarray::stack(Axis(0), &channels.iter().map(|array| array.view()).collect::<Vec<_>>())?;
            (images, labels.map(|labels| to_slice_order(task.axis, labels.voxels)), task.axis.order().map(|k| spacing[k]))
        }
        Subject::Picture { planes, labels } => {
            (colours(task, id, planes)?.insert_axis(Axis(1)), labels.map(|labels| labels.insert_axis(Axis(0))), [1.0; 3])
        }
    };
    let labels = labels.unwrap_or_else(|| Array3::zeros((images.dim().1, images.dim().2, images.dim().3)));
    Ok(Study { id: id.into(), images, labels, spacing_mm })
}

/// A picture's channels: a grey picture has three equal ones, of which a task with one channel takes the first.
fn colours(task: &Task, id: &str, planes: Array3<f32>) -> Result<Array3<f32>> {
    if task.channels.len() != 1 || planes.len_of(Axis(0)) != 3 {
        return Ok(planes);
    }
    ensure!(is_grey(&planes), "{id} is a colour picture, but the task has one channel; use a task with red, green and blue");
    Ok(planes.slice_axis(Axis(0), (0..1).into()).to_owned())
}

/// The kind of images in a folder: volumes or pictures; `None` if no image is there.
///
/// # Errors
/// If the folder cannot be read as a data set.
pub fn image_kind(folder: &Path) -> Result<Option<ImageKind>> {
    Ok(DataSet::find(folder)?.cases.iter().find_map(|case| kind_of(case).ok()))
}

/// The kind of a case's images.
pub(crate) fn kind_of(case: &CaseFiles) -> Result<ImageKind> {
    let volume = case.images[0].is_dir() || is_volume(&case.images[0])?;
    Ok(if volume { ImageKind::Volumes } else { ImageKind::Pictures })
}

/// The first number of held-out phantoms, far above the numbers of any site's phantoms.
pub(crate) const HELD_OUT: u64 = 1 << 32;

/// An artificial brain or tile of a site, with its own scanner or stain.
pub(crate) fn phantom_study(site: usize, number: usize, part: u64, preparation: Preparation) -> Study {
    let mut rng = stream(0, Role::Phantom, site as u32, part + number as u64);
    let id = phantom_name(site, number, part);
    if preparation.task.images == ImageKind::Volumes {
        return phantom::brain(&id, number, &phantom::Scanner::of_site(site), &mut rng);
    }
    phantom::tile(&id, 3 * preparation.size * preparation.downsampling, &phantom::Stain::of_site(site), &mut rng)
}

pub(crate) fn phantom_name(site: usize, number: usize, part: u64) -> String {
    format!("phantom-{part}-{site}-{number}")
}

/// A phantom has no file to compute a digest of.
pub(crate) fn phantom_stem(name: &str, preparation: Preparation) -> String {
    format!("{name}-{PHANTOMS}-{}x{}", preparation.size, preparation.downsampling)
}

/// The channels of an image that is not part of a data set: one file with all colours, or one volume per channel.
pub(crate) fn unlabelled(task: &Task, id: &str, subject: Subject) -> Result<(Array4<f32>, [f64; 3])> {
    let study = study(task, id, subject)?;
    Ok((study.images, study.spacing_mm))
}

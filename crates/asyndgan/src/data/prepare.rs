//! Converts volumes and pictures into the shapes that the networks expect, one at a time, and writes each to its own
//! file in the folder of its site.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Result, ensure};
use asyndgan_data::{CaseOrigin, Preparation, check_disjoint};
use asyndgan_medio::CaseFiles;
use asyndgan_paper::Prepared;
use asyndgan_protocol::{Role, Stream, stream};
use asyndgan_task::{Absent, ImageDescription, SiteLists, Task};
use rand::RngExt;

use super::{
    prepared_folder::PreparedFolder,
    real::{RealData, Selection},
    split::{Rule, SharedOut, share_out},
};
use crate::{files::write_json, progress::Progress, task_file::TaskFile};

/// How the patients of a folder are split across sites.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Partition {
    /// By the user's own lists; cases in no list are not used.
    Lists(SiteLists),
    /// By published lists; unlisted cases go to the smallest site. Without a listed case in the folder, by size.
    Published(SiteLists),
    /// By the size of the labelled regions.
    Size,
    /// By skewed mixtures of the size quartiles.
    Dirichlet {
        /// Concentration: how similar the mixtures of the sites are (0.1: very different, 100: almost equal).
        alpha: f64,
        /// Seed of the random split.
        seed: u64,
    },
}

/// How a folder of images is prepared.
///
/// # Example
/// ```no_run
/// use std::path::Path;
///
/// use asyndgan::{data::{Partition, PrepareOptions, prepare_folder}, task_file::TaskFile};
///
/// let mut options = PrepareOptions::new(TaskFile::read("task.toml")?.task()?.clone());
/// options.size = 72;
/// options.partition = Partition::Size;
/// options.sites = 4;
/// let prepared = prepare_folder(Path::new("Dataset042_Prostate"), Path::new("prepared"), &options)?;
/// println!("{} sites, {} held-out cases", prepared.sites.len(), prepared.test.len());
/// # Ok::<(), asyndgan::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PrepareOptions {
    /// The task.
    pub task: Task,
    /// Rows and columns of a prepared image.
    pub size: usize,
    /// Factor by which pictures are downsampled first.
    pub downsampling: usize,
    /// The parts of the task that the images do not have.
    pub absent: Absent,
    /// How patients are split across sites.
    pub partition: Partition,
    /// Maximum number of sites.
    pub sites: usize,
    /// Cases that are held out under every partition but [`Partition::Lists`], besides those that the folder itself
    /// holds out.
    pub held_out: Vec<String>,
    /// The layer to read, for annotations with several.
    pub layer: Option<String>,
    /// Whether cases and files that cannot be used are skipped and listed; otherwise they are an error.
    pub skip_unusable: bool,
}

impl PrepareOptions {
    /// Images of 286 x 286 at up to 10 sites, split by size. [`PrepareOptions::of_task_file`] takes the size of a task
    /// file.
    pub fn new(task: Task) -> Self {
        Self {
            task,
            size: 286,
            downsampling: 1,
            absent: Absent::default(),
            partition: Partition::Size,
            sites: 10,
            held_out: Vec::new(),
            layer: None,
            skip_unusable: false,
        }
    }

    /// The task of a file, at the size and downsampling that it names.
    ///
    /// # Errors
    /// If the file has no task, or its size is not a number.
    pub fn of_task_file(file: &TaskFile) -> Result<Self> {
        let options = Self::new(file.task()?.clone());
        let [size, downsampling] = file.scale()?;
        Ok(Self { size: size.unwrap_or(options.size), downsampling: downsampling.unwrap_or(options.downsampling), ..options })
    }

    fn check(&self) -> Result<()> {
        ensure!((1..=16_384).contains(&self.size), "the size must be from 1 to 16384");
        ensure!(self.downsampling > 0 && self.sites > 0, "the downsampling and the number of sites must be at least 1");
        if let Partition::Dirichlet { alpha, .. } = self.partition {
            ensure!(alpha > 0.0 && alpha.is_finite(), "alpha must be greater than 0");
        }
        Ok(())
    }
}

/// Prepares a folder in the layout of BraTS, MoNuSeg, nnU-Net or with a `pairs.toml`: writes `out/site-N`, `out/test`
/// and `out/prepared.json`. Up-to-date files are kept, and outdated prepared files removed.
///
/// # Errors
/// If a case or file cannot be used, a list does not fit the folder, or a file cannot be written.
pub fn prepare_folder(folder: &Path, out: &Path, options: &PrepareOptions) -> Result<Prepared> {
    options.check()?;
    ensure!(!lies_in(out, folder), "{} is in the input folder; choose another location", out.display());
    let PrepareOptions { task, size, downsampling, absent, .. } = options;
    let own = match &options.partition {
        Partition::Lists(lists) => Some(lists),
        _ => None,
    };
    let selection = Selection { layer: options.layer.as_deref(), skip_unusable: options.skip_unusable, lists: own };
    let preparation = Preparation { task, size: *size, downsampling: *downsampling, absent };
    let (data, staged) = read(out, folder, selection, preparation)?;
    let (mut lists, rule) = match options.partition.clone() {
        Partition::Lists(lists) => (own_lists(lists, &data, options.sites)?, Rule::OwnLists),
        Partition::Published(lists) => (lists, Rule::Lists),
        Partition::Size => (SiteLists::default(), Rule::Size),
        Partition::Dirichlet { alpha, seed } => (SiteLists::default(), Rule::Dirichlet { alpha, seed }),
    };
    if rule != Rule::OwnLists {
        lists.test.extend(options.held_out.iter().filter(|name| !lists.test.contains(name)).cloned().collect::<Vec<_>>());
    }
    let prepared = real(staged, &data, &lists, options.sites, rule, false)?;
    write_json(&out.join("prepared.json"), &prepared)?;
    Ok(prepared)
}

/// Whether a path, which need not exist yet, is in a folder.
pub(super) fn lies_in(place: &Path, folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let there = std::path::absolute(place).unwrap_or_default();
    there.ancestors().find_map(|a| a.canonicalize().ok()).is_some_and(|a| a.starts_with(&folder))
}

/// Checks the user's own lists: every list becomes a site, and the task has what a site lacks.
pub(crate) fn own_lists(lists: SiteLists, data: &RealData, sites: usize) -> Result<SiteLists> {
    lists.check(&data.task)?;
    let found = lists.sites.len();
    ensure!(found <= sites, "{found} sites are listed, but --sites allows {sites}; use --sites {found}");
    Ok(lists)
}

/// Reads a folder of real images, and prepares each case at once: a case that the folder or the lists hold out as a
/// held-out case, every other one for training.
pub(crate) fn read(place: &Path, folder: &Path, selection: Selection, preparation: Preparation) -> Result<(RealData, PreparedFolder)> {
    let prepared = PreparedFolder::new(place);
    let data = RealData::open(folder, selection, preparation, |data, case, stem, study| {
        if data.is_held_out(case) {
            return prepared.stage_test_case(stem, || data.preparation().test_case(study));
        }
        CaseTraining::new(data, case).with(|preparation, origin| prepared.stage_cases(stem, origin, || preparation.cases(study)))
    })?;
    Ok((data, prepared))
}

/// How a case becomes training cases.
struct CaseTraining<'a> {
    data: &'a RealData,
    case: &'a CaseFiles,
    absent: Absent,
    images: ImageDescription,
}

impl<'a> CaseTraining<'a> {
    fn new(data: &'a RealData, case: &'a CaseFiles) -> Self {
        Self { data, case, absent: data.absent(case), images: data.preparation().description() }
    }

    fn with<T>(&self, write: impl FnOnce(Preparation, CaseOrigin) -> T) -> T {
        let preparation = Preparation { absent: &self.absent, ..self.data.preparation() };
        let (absent_channels, absent_classes) = (&preparation.absent_channels(), &preparation.absent_classes());
        let patient = Some(&self.case.patient[..]);
        write(
            preparation,
            CaseOrigin::default().with(|origin| {
                origin.patient = patient;
                origin.absent_channels = absent_channels;
                origin.absent_classes = absent_classes;
                origin.images = Some(&self.images);
            }),
        )
    }
}

/// Splits the cases that were read among the sites: writes `site-N` and `test`, one file per case. Existing files for
/// the same content and recipe are kept. With `validate`, one patient of every site with at least two patients is held
/// out instead of the usual held-out cases.
pub(crate) fn real(
    mut prepared: PreparedFolder,
    data: &RealData,
    lists: &SiteLists,
    wanted: usize,
    rule: Rule,
    validate: bool,
) -> Result<Prepared> {
    let cases = &data.set.cases;
    let mut bar = Progress::new("prepare data", cases.len() as u64);
    let mut done = 0;
    let mut step = || {
        done += 1;
        bar.set(done);
    };
    let items = data.items();
    let nothing: Vec<&str> = items.iter().filter(|item| item.size == 0.0).map(|item| item.case.as_str()).collect();
    if !nothing.is_empty() {
        tracing::info!("cases without any label, which add nothing to training: {}", nothing.join(", "));
    }
    let SharedOut { mut sites, mut test } = share_out(lists, items, wanted, rule, &data.set.folder)?;
    // Published lists are for more sites than most folders have.
    if sites.len() < wanted && (rule != Rule::Lists || lists.sites.is_empty()) {
        tracing::info!("there are patients for {} sites, not {wanted}", sites.len());
    }
    for (name, of) in &sites {
        for (k, class) in data.task.classes.iter().enumerate() {
            let is_declared = of.iter().any(|&i| data.absent(&cases[i]).classes.contains(&class.name));
            if !is_declared && of.iter().all(|&i| !items[i].classes.contains(&k)) && items.iter().any(|item| item.classes.contains(&k)) {
                tracing::warn!(
                    "no case of {name} shows {}; if its masks do not mark this class, list it in without_classes, or it counts as \
                     background there",
                    class.name
                );
            }
        }
    }
    if validate {
        let patient = |i: usize| cases[i].patient.as_str();
        test = (0..)
            .zip(&mut sites)
            // What a site does not have cannot be scored.
            .filter(|(_, (_, of))| of.iter().all(|&i| items[i].is_complete))
            .flat_map(|(site, (_, of))| drawn_patient(of, patient, &mut stream(0, Role::Validation, site, 0)))
            .collect();
        ensure!(
            !test.is_empty(),
            "{}: validation holds out one patient of every site with all channels and classes, but no such site has two patients; add patients",
            data.set.folder.display()
        );
    }
    let patients = |of: &[usize]| of.iter().map(|&i| cases[i].patient.as_str()).collect::<Vec<_>>();
    check_disjoint(sites.iter().map(|(name, of)| (name.as_str(), patients(of))).chain([("the held-out set", patients(&test))]))?;
    for (name, items) in sites {
        for &i in &items {
            let (stem, case) = (&data.stems()[i], &cases[i]);
            CaseTraining::new(data, case)
                .with(|preparation, origin| prepared.put_cases(stem, origin, || Ok(preparation.cases(&data.read(case)?))))?;
            step();
        }
        prepared.close_site(name, items.iter().map(|&i| cases[i].id.clone()).collect())?;
    }
    let (mut held_out, mut of_patients, mut not_scored) = (Vec::new(), Vec::new(), Vec::new());
    for &i in &test {
        if prepared.put_test_case(&data.stems()[i], || Ok(data.preparation().test_case(&data.read(&cases[i])?)))? {
            held_out.push(cases[i].id.clone());
            of_patients.push(cases[i].patient.clone());
        } else {
            not_scored.push(cases[i].id.as_str());
        }
        step();
    }
    if !not_scored.is_empty() {
        tracing::warn!(
            "held-out cases without a slice of at least {} marked pixels are not scored: {}",
            data.task.marked_pixels_min,
            not_scored.join(", ")
        );
    }
    ensure!(
        !prepared.is_empty() && !held_out.is_empty(),
        "{}: no training case or no held-out case has a slice with at least {} marked pixels; add cases",
        data.set.folder.display(),
        data.task.marked_pixels_min
    );
    prepared.finish(data.kind(), held_out, of_patients)
}

/// Removes a random patient from a site that has others. (The last one would have the largest tumour.)
fn drawn_patient<'a>(items: &mut Vec<usize>, patient: impl Fn(usize) -> &'a str, rng: &mut Stream) -> Vec<usize> {
    let patients: BTreeSet<&str> = items.iter().map(|&i| patient(i)).collect();
    if patients.len() < 2 {
        return Vec::new();
    }
    let drawn = patients.iter().nth(rng.random_range(0..patients.len())).copied();
    let (taken, left): (Vec<usize>, Vec<usize>) = items.iter().partition(|&&i| Some(patient(i)) == drawn);
    *items = left;
    taken
}

#[cfg(test)]
mod tests {
    use std::fs;

    use asyndgan_data::{CaseSet, TestSet};

    use super::*;

    const CELLS: &str = r#"
        name = "cells"
        images = "pictures"
        channels = [{ name = "grey", normalisation = { window = { low = 0.0, high = 255.0 } } }]
        classes = [{ name = "cell", labels = [1] }]
    "#;

    const PAIRS: &str = r#"
        images = "images"
        masks = "masks"
        channels = ["grey"]
        labels = { cell = 1 }
    "#;

    /// A data set with as many pictures as names.
    fn pictures(data: &Path, names: &[&str]) {
        for (folder, scale) in [("images", 200), ("masks", 1)] {
            fs::create_dir_all(data.join(folder)).expect("created");
            for (k, name) in (0..).zip(names) {
                let picture = ndarray::Array2::from_shape_fn((40, 40), |(r, c)| scale * u8::from(c > r + k));
                asyndgan_medio::write_grey(&data.join(folder).join(format!("{name}.png")), picture.view()).expect("written");
            }
        }
        fs::write(data.join("pairs.toml"), PAIRS).expect("written");
    }

    fn options(partition: Partition) -> PrepareOptions {
        let task = Task::parse(CELLS).expect("a task");
        PrepareOptions { size: 32, partition, sites: 2, ..PrepareOptions::new(task) }
    }

    /// Cases of each site, and held-out ones, all of which can be read.
    fn counts(out: &Path) -> [usize; 3] {
        let of_site = |folder: &str| {
            let set = CaseSet::open(&[out.join(folder)]).expect("cases");
            (0..set.len()).filter(|&case| set.read(case).is_ok()).count()
        };
        let test = TestSet::open(&out.join("test")).expect("held-out cases");
        [of_site("site-1"), of_site("site-2"), (0..test.len()).filter(|&case| test.read(case).is_ok()).count()]
    }

    #[test]
    fn every_picture_is_read_once_and_an_unchanged_one_is_kept() {
        let place = tempfile::tempdir().expect("a folder");
        let (data, out) = (place.path().join("data"), place.path().join("out"));
        let names = ["a", "b", "c"];
        pictures(&data, &names);
        let lists = SiteLists::parse("north = [\"a\"]\nsouth = [\"b\"]\ntest = [\"c\"]").expect("lists");
        let options = options(Partition::Lists(lists.clone()));
        let preparation = Preparation { task: &options.task, size: 32, downsampling: 1, absent: Absent::none() };
        let read = || read(&out, &data, Selection { lists: Some(&lists), ..Selection::default() }, preparation).expect("read");
        let (of_first, staged) = read();
        fs::remove_dir_all(data.join("images")).expect("removed");
        let prepared = real(staged, &of_first, &lists, 2, Rule::OwnLists, false).expect("prepared without the pictures");
        assert_eq!((prepared.sites.len(), prepared.test), (2, vec!["c".to_owned()]));
        assert_eq!((counts(&out), out.join("staged").exists()), ([4, 4, 1], false));
        pictures(&data, &names);
        let (_, staged) = read();
        let files = |role: &str| fs::read_dir(out.join("staged").join(role)).expect("a folder").count();
        assert_eq!((files("training"), files("held-out")), (0, 0), "nothing is prepared twice");
        drop(staged);
    }

    #[test]
    fn held_out_cases_are_held_out_under_every_partition() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let listed = SiteLists::parse("north = [\"a\", \"b\"]\nsouth = [\"c\", \"d\"]\ntest = [\"e\"]").expect("lists");
        // Every fifth patient by size, from the third on, is held out if no list names one; larger letters have smaller
        // objects.
        let partitions = [
            (Partition::Size, vec![], "d", 20),
            (Partition::Size, vec!["b".to_owned()], "b", 20),
            (Partition::Dirichlet { alpha: 100.0, seed: 0 }, vec!["f".to_owned()], "f", 20),
            (Partition::Lists(listed.clone()), vec![], "e", 16),
            (Partition::Published(listed), vec![], "e", 20),
        ];
        let place = tempfile::tempdir().expect("a folder");
        let data = place.path().join("data");
        pictures(&data, &names);
        let again = place.path().join("again");
        for (k, (partition, named, test, cases)) in partitions.into_iter().enumerate() {
            // Into a new folder, and over what the partition before has left.
            for out in [&place.path().join(k.to_string()), &again] {
                let options = PrepareOptions { held_out: named.clone(), ..options(partition.clone()) };
                assert_eq!(prepare_folder(&data, out, &options).expect("prepared").test, [test], "{partition:?}");
                let [first, second, held_out] = counts(out);
                assert_eq!((first + second, held_out), (cases, 1), "{partition:?}");
                assert!(!out.join("staged").exists());
            }
        }
    }

    /// An nnU-Net folder of pictures with the given channels, of which files have the first alone; `t` is in its test
    /// set.
    fn nnunet(data: &Path, channels: &str) {
        for (images, masks, names) in [("imagesTr", "labelsTr", &["a", "b"][..]), ("imagesTs", "labelsTs", &["t"])] {
            for (k, name) in names.iter().enumerate() {
                let picture = |high: u8| ndarray::Array2::from_shape_fn((40, 40), |(r, c)| high * u8::from(c > r + k));
                for (folder, file, high) in [(images, format!("{name}_0000.png"), 200), (masks, format!("{name}.png"), 1)] {
                    fs::create_dir_all(data.join(folder)).expect("created");
                    asyndgan_medio::write_grey(&data.join(folder).join(file), picture(high).view()).expect("written");
                }
            }
        }
        let about = format!(
            r#"{{"channel_names": {{{channels}}}, "labels": {{"background": 0, "cell": 1}}, "numTraining": 2, "file_ending": ".png"}}"#
        );
        fs::write(data.join("dataset.json"), about).expect("written");
    }

    #[test]
    fn the_users_own_lists_replace_the_split_of_the_folder() {
        let place = tempfile::tempdir().expect("a folder");
        let (data, out) = (place.path().join("data"), place.path().join("out"));
        nnunet(&data, r#""0": "grey""#);
        let lists = SiteLists::parse("north = [\"t\"]\nsouth = [\"a\"]\ntest = [\"b\"]").expect("lists");
        let prepared = prepare_folder(&data, &out, &options(Partition::Lists(lists))).expect("prepared");
        assert_eq!((prepared.sites.len(), prepared.test, counts(&out)), (2, vec!["b".to_owned()], [4, 4, 1]));
        let prepared = prepare_folder(&data, &out, &options(Partition::Size)).expect("prepared");
        assert_eq!(prepared.test, ["t"], "the folder's own");
    }

    #[test]
    fn a_site_may_have_one_of_two_channels_of_pictures() {
        let place = tempfile::tempdir().expect("a folder");
        let (data, out) = (place.path().join("data"), place.path().join("out"));
        nnunet(&data, r#""0": "grey", "1": "membrane""#);
        let channel = r#"{ name = "grey", normalisation = { window = { low = 0.0, high = 255.0 } } }"#;
        let two = format!("{channel}, {}", channel.replace("grey", "membrane"));
        let task = Task::parse(&CELLS.replace(channel, &two)).expect("a task");
        let absent = Absent { channels: vec!["membrane".into()], classes: Vec::new() };
        let lists = SiteLists::parse("north = [\"a\"]\nsouth = [\"b\"]\ntest = [\"t\"]").expect("lists");
        let options = PrepareOptions { task, absent, ..options(Partition::Lists(lists)) };
        prepare_folder(&data, &out, &options).expect("prepared");
        let case = CaseSet::open(&[out.join("site-1")]).expect("cases").read(0).expect("a case");
        assert_eq!(case.image.dim(), (2, 32, 32));
        let [grey, membrane] = [0, 1].map(|k| case.image.index_axis(ndarray::Axis(0), k).iter().any(|v| *v != 0.0));
        assert!(grey && !membrane);
    }

    #[test]
    fn a_refused_folder_leaves_nothing() {
        let place = tempfile::tempdir().expect("a folder");
        let (data, out) = (place.path().join("data"), place.path().join("out"));
        pictures(&data, &["a", "b", "c"]);
        fs::write(data.join("images/c.png"), "no picture").expect("written");
        assert!(prepare_folder(&data, &out, &options(Partition::Size)).is_err() && !out.exists());
    }

    #[test]
    fn a_patient_is_taken_whole_and_never_the_only_one() {
        let names = ["a", "a", "b", "c", "a"];
        let patient = |i: usize| names[i];
        let mut found = BTreeSet::new();
        for seed in 0..30 {
            let mut items = vec![0, 1, 2, 3, 4];
            let taken = drawn_patient(&mut items, patient, &mut stream(seed, Role::Validation, 0, 0));
            let of: BTreeSet<&str> = taken.iter().map(|&i| patient(i)).collect();
            assert!(of.len() == 1 && items.iter().all(|&i| !of.contains(patient(i))) && taken.len() + items.len() == 5);
            found.extend(of);
        }
        assert_eq!(found.len(), 3, "some are never taken");
        let mut only = vec![0, 1, 4];
        assert!(drawn_patient(&mut only, patient, &mut stream(0, Role::Validation, 0, 0)).is_empty() && only.len() == 3);
    }
}

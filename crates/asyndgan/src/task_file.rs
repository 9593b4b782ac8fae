//! Task files: a task, with the profile and the settings that suit its data.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use asyndgan_paper::{Experiment, Profile, Run, Settings};
use asyndgan_task::{SiteLists, Task};
use serde::Deserialize;
use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, Deserializer},
};

use crate::precision::bfloat16_by_default;

/// Reads a file with the cases of each site.
///
/// # Errors
/// If the file cannot be read or does not fit the format.
pub fn read_site_lists(path: &Path) -> Result<SiteLists> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    SiteLists::parse(&text).with_context(|| path.display().to_string())
}

/// A task of the paper by name, or one from a file.
#[derive(Debug, Clone)]
pub struct TaskFile {
    experiment: Experiment,
    /// The file, for errors.
    path: Option<PathBuf>,
    /// The task, unless it is one of the paper's.
    own: Option<Task>,
    /// The profile that the file names.
    profile: Option<Profile>,
    /// The sizes at which networks see images, with any profile.
    scale: Vec<(String, Value)>,
    /// Settings that the file changes, with its own profile.
    settings: Vec<(String, Value)>,
}

/// What a task file has besides the task.
#[derive(Default, Deserialize)]
struct Sections {
    profile: Option<Profile>,
    #[serde(default)]
    data: Map<String, Value>,
    /// Settings by section, or by the flat names of the first version.
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Takes the sections out of the text of a task file; the rest is a task. Errors name lines of the file.
fn split(text: &str) -> Result<(Sections, Task), toml::de::Error> {
    let mut task = DeTable::parse(text)?;
    let mut sections = DeTable::new();
    for name in ["profile", "settings"].into_iter().chain(Settings::SECTIONS) {
        sections.extend(task.get_mut().remove_entry(name));
    }
    let in_file = |mut error: toml::de::Error| {
        error.set_input(Some(text));
        error
    };
    let sections = Deserializer::from(Spanned::new(0..text.len(), sections));
    Ok((Sections::deserialize(sections).map_err(in_file)?, Task::deserialize(Deserializer::from(task)).map_err(in_file)?))
}

/// The settings of the data that apply with any profile.
const SCALE: [&str; 4] = ["data.size", "data.crop", "data.downsampling", "data.flips"];

impl TaskFile {
    /// A task of the paper.
    pub fn paper(experiment: Experiment) -> Self {
        Self { experiment, path: None, own: None, profile: None, scale: Vec::new(), settings: Vec::new() }
    }

    /// A task of one's own, with the settings of its profile.
    pub fn own(task: Task) -> Self {
        Self { own: Some(task), ..Self::paper(Experiment::Custom) }
    }

    /// Reads `brain`, `tissue`, or the path of a task file.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a valid task.
    pub fn read(name: &str) -> Result<Self> {
        match name {
            "brain" => return Ok(Self::paper(Experiment::Table1)),
            "tissue" => return Ok(Self::paper(Experiment::Table2)),
            _ => {}
        }
        let path = Path::new(name);
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read {}: use brain, tissue, or a task file, which `asyndgan plan` writes", path.display()))?;
        let file = Self::parse(&text).with_context(|| path.display().to_string())?;
        Ok(Self { path: Some(path.into()), ..file })
    }

    /// Parses the text of a task file.
    ///
    /// # Errors
    /// If the text is not a valid task; the error names the line.
    pub fn parse(text: &str) -> Result<Self> {
        let (Sections { profile, data, settings, others }, task) = split(text)?;
        task.check()?;
        let of_data = data.into_iter().map(|(name, value)| (format!("data.{name}"), value));
        let (scale, own): (Vec<_>, Vec<_>) = of_data.partition(|(name, _)| SCALE.contains(&name.as_str()));
        let settings = [own, Settings::changes(settings), Settings::changes(others)].concat();
        if let Some(name) = Settings::repeated(scale.iter().chain(&settings).map(|(name, _)| name.as_str())) {
            bail!("{name} is set twice; keep one");
        }
        for (name, _) in scale.iter().chain(&settings) {
            Settings::check_name(name)?;
        }
        Ok(Self { experiment: Experiment::Custom, path: None, own: Some(task), profile, scale, settings })
    }

    /// The experiment of the paper that this is, or [`Experiment::Custom`].
    pub fn experiment(&self) -> Experiment {
        self.experiment
    }

    /// The task.
    ///
    /// # Errors
    /// For the toy experiment, which has none.
    pub fn task(&self) -> Result<&Task> {
        self.own.as_ref().or_else(|| self.experiment.task()).context("the toy has no task")
    }

    /// The size and the downsampling at which images are prepared, if the file names them.
    ///
    /// # Errors
    /// If one is not a number.
    pub fn scale(&self) -> Result<[Option<usize>; 2]> {
        let number = |wanted: &str| {
            let value = self.scale.iter().find(|(name, _)| name.strip_prefix("data.") == Some(wanted)).map(|(_, value)| value);
            let size = |value: &Value| value.as_u64().map(|size| size as usize);
            value.map(|value| size(value).with_context(|| format!("{wanted} is not a number"))).transpose()
        };
        Ok([number("size")?, number("downsampling")?])
    }

    /// The same, with layers in bfloat16 if that is the default of a run in this folder: in one that has begun so, and
    /// with the desk profile on a CPU with AMX. The file and later changes decide otherwise.
    ///
    /// # Errors
    /// If the run in the folder cannot be read, or there is no such device.
    pub fn with_precision_of(mut self, profile: Option<Profile>, device: &str, folder: &Path) -> Result<Self> {
        let profile = profile.or(self.profile).unwrap_or(Profile::Desk);
        if let Some(bfloat16) = bfloat16_by_default(self.experiment, profile, device, folder)? {
            self.scale.insert(0, ("compute.bfloat16".to_owned(), bfloat16.into()));
        }
        Ok(self)
    }

    /// A run of this task: the settings of the profile, then those of the file, then `changes`.
    ///
    /// # Errors
    /// If a setting does not exist or does not accept its value.
    pub fn run(&self, profile: Option<Profile>, changes: &[(String, Value)]) -> Result<Run> {
        // Settings that suit a profile do not suit another.
        let (profile, own) = match (profile, self.profile) {
            (Some(profile), Some(own)) if profile != own => {
                if !self.settings.is_empty() {
                    let names: Vec<&str> = self.settings.iter().map(|(name, _)| name.as_str()).collect();
                    tracing::info!(
                        "of the task file, {} apply to its profile {} only, not to {}",
                        names.join(", "),
                        own.name(),
                        profile.name()
                    );
                }
                (profile, &[][..])
            }
            (profile, own) => (profile.or(own).unwrap_or(Profile::Desk), &self.settings[..]),
        };
        let first = match &self.own {
            Some(task) => Settings::of_task(task, profile),
            None => Settings::new(self.experiment, profile),
        };
        // Settings of the file that do not apply must be right all the same.
        let of_file = self.scale.iter().chain(&self.settings).map(|(name, value)| (name.as_str(), value.clone()));
        first
            .with(self.experiment, of_file)
            .with_context(|| self.path.as_ref().map_or_else(|| "the settings of the task".to_owned(), |path| path.display().to_string()))?;
        let changes = self.scale.iter().chain(own).chain(changes).map(|(name, value)| (name.as_str(), value.clone()));
        let settings = first.with(self.experiment, changes)?;
        let run = Run { task: self.own.clone(), ..Run::phantoms(self.experiment, profile, settings) };
        run.check()?;
        Ok(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        profile = "desk"
        name = "liver"
        images = "volumes"
        channels = [{ name = "CT", normalisation = { window = { low = -160, high = 240 } } }]
        classes = [{ name = "liver", labels = [1] }]
        [data]
        size = 144
        crop = 128
        [protocol]
        rounds = 2000
    "#;

    #[test]
    fn a_run_that_has_begun_keeps_its_precision_and_the_user_decides() {
        let place = tempfile::tempdir().expect("a folder");
        for begun in [false, true] {
            let mut run = Run::phantoms(Experiment::Table2, Profile::Desk, Settings::new(Experiment::Table2, Profile::Desk));
            run.settings.compute.bfloat16 = begun;
            crate::files::write_json(&place.path().join("run.json"), &run).expect("written");
            let of = |file: TaskFile, changes: &[(&str, bool)]| {
                let changes: Vec<(String, Value)> = changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
                let file = file.with_precision_of(None, "cpu", place.path()).expect("a precision");
                file.run(None, &changes).expect("a run").settings.compute.bfloat16
            };
            let paper = || TaskFile::paper(Experiment::Table2);
            assert_eq!(of(paper(), &[]), begun);
            for value in [false, true] {
                assert_eq!(of(paper(), &[("compute.bfloat16", value)]), value);
                assert_eq!(of(paper(), &[("bfloat16", value)]), value, "by its name in the first version");
            }
        }
        let own = TaskFile::parse(&format!("{TEXT}\n[compute]\nbfloat16 = false")).expect("a task file");
        let own = own.with_precision_of(None, "cpu", place.path()).expect("a precision");
        assert!(!own.run(None, &[]).expect("a run").settings.compute.bfloat16, "the file decides");
        fs::write(place.path().join("run.json"), "{").expect("written");
        assert!(TaskFile::paper(Experiment::Table2).with_precision_of(None, "cpu", place.path()).is_err());
    }

    #[test]
    fn settings_of_the_file_apply_to_its_profile_and_changes_come_last() {
        let file = TaskFile::parse(TEXT).expect("a task file");
        let sizes = |run: Run| (run.settings.data.size, run.settings.data.crop, run.settings.protocol.rounds);
        let desk = file.run(None, &[("protocol.rounds".into(), 7.into())]).expect("a run");
        assert_eq!((sizes(desk.clone()), desk.task.as_ref().map(|t| t.name.as_str())), ((144, 128, 7), Some("liver")));
        assert_eq!(sizes(file.run(None, &[]).expect("a run")), (144, 128, 2000));
        assert_eq!(sizes(file.run(Some(Profile::Smoke), &[]).expect("a run")), (144, 128, 6));
        let flat = TaskFile::parse(&TEXT.replace("[protocol]", "[settings]")).expect("a task file");
        assert_eq!(sizes(flat.run(None, &[]).expect("a run")), (144, 128, 2000));
        let twice = TEXT.replace("[protocol]", "[settings]\ncrop = 64\n[protocol]");
        assert!(TaskFile::parse(&twice).is_err_and(|e| e.to_string().contains("data.crop is set twice")));
        let unknown = TaskFile::parse(&TEXT.replace("[data]", "[data]\nrounds = 3"));
        assert!(unknown.is_err_and(|e| format!("{e:#}").contains("unknown setting data.rounds; data has")));
        assert!(TaskFile::parse(&TEXT.replace("size = 144", "size = 20")).expect("a task file").run(None, &[]).is_err());
    }

    #[test]
    fn every_documented_setting_can_be_in_a_task_file() {
        let defaults = Settings::new(Experiment::Table2, Profile::Desk).plain();
        for (name, _) in Settings::documentation() {
            let (section, field) = name.split_once('.').expect("a section");
            assert!(Settings::SECTIONS.contains(&section), "{name}");
            // TOML has no null.
            let value = Some(&defaults[&name]).filter(|value| !value.is_null()).map_or_else(|| "8.0".to_owned(), Value::to_string);
            let text = TEXT.replace("[data]\n", "").replace("size = 144\n", "").replace("crop = 128\n", "");
            let text = text.replace("[protocol]\n", "").replace("rounds = 2000\n", "") + &format!("\n[{section}]\n{field} = {value}\n");
            TaskFile::parse(&text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
    }

    #[test]
    fn the_tasks_of_the_data_folder_are_valid() {
        let file = TaskFile::parse(include_str!("../../../data/tasks/brats2018.toml")).expect("a task file");
        let task = file.task().expect("a task");
        assert_eq!((task.channels.len(), task.classes.len(), task.region_names().len()), (4, 3, 3));
        let sites =
            asyndgan_task::SiteLists::parse(include_str!("../../../data/tasks/brats2018-institutions.toml")).expect("lists of cases");
        assert_eq!((sites.sites.iter().map(|site| site.cases.len()).collect::<Vec<_>>(), sites.test.len()), (vec![3; 4], 6));
        sites.check(task).expect("sites of this task");
    }

    #[test]
    fn errors_name_the_line_of_the_file() {
        for (written, wrong, line) in [("\"volumes\"", "\"films\"", 4), ("[protocol]", "[protocoll]", 10)] {
            let error = TaskFile::parse(&TEXT.replace(written, wrong)).expect_err("not a task");
            assert!(format!("{error:#}").contains(&format!("line {line},")), "{error:#}");
        }
    }

    #[test]
    fn the_tasks_of_the_paper_have_names() {
        let brain = TaskFile::read("brain").expect("a task");
        assert_eq!((brain.experiment, brain.task().expect("a task").name.as_str()), (Experiment::Table1, "brain tumour"));
        assert!(TaskFile::read("absent.toml").expect_err("absent").to_string().contains("asyndgan plan"));
    }
}

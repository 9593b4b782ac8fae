//! Task files: a task, with the profile and the settings that suit its data.

use std::{fs, path::Path, str::FromStr};

use anyhow::{Context, Result, bail};
use asyndgan_paper::{Experiment, Profile, Run, Settings};
use asyndgan_task::{SiteLists, Task};

/// Reads a file with the cases of each site.
pub(crate) fn read_site_lists(path: &Path) -> Result<SiteLists> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    SiteLists::parse(&text).with_context(|| path.display().to_string())
}

/// A task of the paper by name, or one from a file.
#[derive(Debug, Clone)]
pub(crate) struct TaskFile {
    pub(crate) experiment: Experiment,
    /// The task, unless it is one of the paper's.
    own: Option<Task>,
    /// The profile that the file names.
    profile: Option<Profile>,
    /// The sizes at which networks see images, with any profile.
    scale: Vec<(String, serde_json::Value)>,
    /// Settings that the file changes, with its own profile.
    settings: Vec<(String, serde_json::Value)>,
}

/// The settings of `[data]`.
const SCALE: [&str; 4] = ["size", "crop", "downsampling", "flips"];

/// Takes a section out of a file.
fn taken(table: &mut toml::Table, section: &str) -> Result<Vec<(String, serde_json::Value)>> {
    let Some(value) = table.remove(section) else { return Ok(Vec::new()) };
    let fields = value.as_table().with_context(|| format!("{section} is not a section: write [{section}]"))?;
    fields.iter().map(|(name, value)| Ok((name.clone(), serde_json::to_value(value)?))).collect()
}

impl TaskFile {
    /// A task of the paper.
    pub(crate) fn paper(experiment: Experiment) -> Self {
        Self { experiment, own: None, profile: None, scale: Vec::new(), settings: Vec::new() }
    }

    /// A task of one's own, with the settings of its profile.
    pub(crate) fn own(task: Task) -> Self {
        Self { own: Some(task), ..Self::paper(Experiment::Custom) }
    }

    /// Reads `brain`, `tissue`, or the path of a task file.
    pub(crate) fn read(name: &str) -> Result<Self> {
        match name {
            "brain" => return Ok(Self::paper(Experiment::Table1)),
            "tissue" => return Ok(Self::paper(Experiment::Table2)),
            _ => {}
        }
        let path = Path::new(name);
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read {}: use brain, tissue, or a task file, which `asyndgan plan` writes", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Parses the text of a task file.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut table: toml::Table = text.parse()?;
        let profile = match table.remove("profile") {
            Some(value) => Some(Profile::from_str(value.as_str().context("profile is not a string")?)?),
            None => None,
        };
        let scale = taken(&mut table, "data")?;
        if let Some((name, _)) = scale.iter().find(|(name, _)| !SCALE.contains(&name.as_str())) {
            bail!("[data] has {name}; it has size, crop, downsampling and flips; other settings belong to [settings]");
        }
        let settings = taken(&mut table, "settings")?;
        let own = Task::parse(&table.to_string())?;
        Ok(Self { experiment: Experiment::Custom, own: Some(own), profile, scale, settings })
    }

    /// The task.
    pub(crate) fn task(&self) -> Result<&Task> {
        self.own.as_ref().or_else(|| self.experiment.task()).context("the toy has no task")
    }

    /// The size and the downsampling at which images are prepared, if the file names them.
    pub(crate) fn scale(&self) -> Result<[Option<usize>; 2]> {
        let number = |wanted: &str| {
            let value = self.scale.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
            let size = |value: &serde_json::Value| value.as_u64().map(|size| size as usize);
            value.map(|value| size(value).with_context(|| format!("{wanted} is not a number"))).transpose()
        };
        Ok([number("size")?, number("downsampling")?])
    }

    /// A run of this task: the settings of the profile, then those of the file, then `changes`.
    pub(crate) fn run(&self, profile: Option<Profile>, changes: &[(String, serde_json::Value)]) -> Result<Run> {
        // Settings that suit a profile do not suit another.
        let (profile, own) = match (profile, self.profile) {
            (Some(profile), Some(own)) if profile != own => (profile, &[][..]),
            (profile, own) => (profile.or(own).unwrap_or(Profile::Desk), &self.settings[..]),
        };
        let first = match &self.own {
            Some(task) => Settings::of_task(task, profile),
            None => Settings::new(self.experiment, profile),
        };
        // Those that do not apply must be right all the same.
        let unused = self.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        first.with(self.experiment, self.scale.iter().map(|(name, value)| (name.as_str(), value.clone())).chain(unused))?;
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
        [settings]
        rounds = 2000
    "#;

    #[test]
    fn settings_of_the_file_apply_to_its_profile_and_changes_come_last() {
        let file = TaskFile::parse(TEXT).expect("a task file");
        let sizes = |run: Run| (run.settings.size, run.settings.crop, run.settings.rounds);
        let desk = file.run(None, &[("rounds".into(), 7.into())]).expect("a run");
        assert_eq!((sizes(desk.clone()), desk.task.as_ref().map(|t| t.name.as_str())), ((144, 128, 7), Some("liver")));
        assert_eq!(sizes(file.run(None, &[]).expect("a run")), (144, 128, 2000));
        assert_eq!(sizes(file.run(Some(Profile::Smoke), &[]).expect("a run")), (144, 128, 6));
        assert!(TaskFile::parse(&TEXT.replace("[data]", "[data]\nrounds = 3")).is_err_and(|e| e.to_string().contains("rounds")));
        assert!(TaskFile::parse(&TEXT.replace("size = 144", "size = 20")).expect("a task file").run(None, &[]).is_err());
    }

    #[test]
    fn the_tasks_of_the_paper_have_names() {
        let brain = TaskFile::read("brain").expect("a task");
        assert_eq!((brain.experiment, brain.task().expect("a task").name.as_str()), (Experiment::Table1, "brain tumour"));
        assert!(TaskFile::read("absent.toml").expect_err("absent").to_string().contains("asyndgan plan"));
    }
}

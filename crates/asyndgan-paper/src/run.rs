use std::path::{Path, PathBuf};

use asyndgan_task::{ImageKind, Metric, SiteLists, Task};
use serde::{Deserialize, Serialize};

use crate::{Arm, Experiment, Profile, Settings};

/// Everything that determines the result of a run; stored as `run.json` in the run folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The experiment.
    pub experiment: Experiment,
    /// The task of [`Experiment::Custom`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The profile.
    pub profile: Profile,
    /// Folder of real data; `None` for phantoms.
    pub data: Option<PathBuf>,
    /// The cases of each site; `None` for the published lists, or by size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<SiteLists>,
    /// Seeds: every step except preparation runs once per seed.
    pub seeds: Vec<u64>,
    /// Device: auto, cpu or cuda.
    pub device: String,
    /// Score on validation patients, one per site, instead of the held-out ones, to choose settings. Validation
    /// patients are not used for training.
    pub validate: bool,
    /// Arms to compute; `None` for all but [`Experiment::further_arms`].
    pub arms: Option<Vec<Arm>>,
    /// All settings.
    pub settings: Settings,
}

/// Environment of a step's process, unless the user has set other values.
pub const STEP_ENVIRONMENT: [(&str, &str); 3] = [
    // Tensors of one size come and go all the time: their memory is kept, not returned to the system and requested
    // again.
    ("MALLOC_MMAP_THRESHOLD_", "1073741824"),
    ("MALLOC_TRIM_THRESHOLD_", "4294967296"),
    ("MALLOC_TOP_PAD_", "268435456"),
];

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name in records.
    pub name: String,
    /// Its heading.
    pub heading: String,
    /// Whether higher is better.
    pub higher_is_better: bool,
}

fn heading(metric: Metric, images: ImageKind) -> &'static str {
    match (metric, images) {
        (Metric::Sensitivity, _) => "Sensitivity",
        (Metric::Specificity, _) => "Specificity",
        (Metric::Hd95, ImageKind::Volumes) => "HD95 (mm)",
        (Metric::Hd95, ImageKind::Pictures) => "HD95 (pixels)",
        (Metric::Aji, _) => "AJI",
        _ => "Dice",
    }
}

/// One unit of work, with the file that marks it as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read or generate the images and split them among the sites.
    Prepare,
    /// Time a few rounds and estimate how long the run will take.
    Estimate,
    /// Train an arm's generator.
    Train(Arm, u64),
    /// Generate the synthetic images of an arm.
    Synthesize(Arm, u64),
    /// Train and score an arm's segmenter.
    Evaluate(Arm, u64),
    /// Train and score a segmenter for each intermediate generator.
    Curve(Arm, u64),
    /// Write the table and pictures.
    Report,
}

impl Run {
    /// A run of all arms on phantoms, with seed 0 on the CPU.
    pub fn phantoms(experiment: Experiment, profile: Profile, settings: Settings) -> Self {
        Self {
            experiment,
            task: None,
            profile,
            data: None,
            lists: None,
            seeds: vec![0],
            device: "cpu".into(),
            validate: false,
            arms: None,
            settings,
        }
    }

    /// The task of the run; `None` for the toy.
    pub fn task(&self) -> Option<&Task> {
        self.task.as_ref().or_else(|| self.experiment.task())
    }

    /// Checks the task and the settings.
    ///
    /// # Errors
    /// [`InvalidSetting`](crate::InvalidSetting).
    pub fn check(&self) -> Result<(), crate::InvalidSetting> {
        if (self.experiment == Experiment::Custom) != self.task.is_some() {
            return Err(crate::InvalidSetting::new("only a run of a task of one's own has a task"));
        }
        if let Some(task) = &self.task {
            task.check().map_err(|error| crate::InvalidSetting::new(format!("task: {error}")))?;
        }
        if let (Some(task), Some(lists)) = (self.task(), &self.lists) {
            lists.check(task).map_err(|error| crate::InvalidSetting::new(error.to_string()))?;
        }
        self.settings.check(self.experiment)
    }

    /// The columns of the table, in order.
    pub fn columns(&self) -> Vec<TableColumn> {
        let Some(task) = self.task() else {
            let column = |name: &str, heading: &str| TableColumn { name: name.into(), heading: heading.into(), higher_is_better: false };
            return vec![
                column("wasserstein_1", "Wasserstein-1 to the mixture"),
                column("wasserstein_1_predicted", "to what theory predicts"),
            ];
        };
        let names = task.region_names();
        let column = |column: asyndgan_task::Column| {
            let metric = heading(column.metric, task.images);
            let heading = match column.region {
                _ if names.len() == 1 => metric.into(),
                Some(region) => format!("{} {metric}", names[region]),
                None => format!("{metric}, mean"),
            };
            TableColumn { name: column.name, heading, higher_is_better: column.metric.is_higher_better() }
        };
        task.columns().into_iter().map(column).collect()
    }

    /// The arms of the table for the given number of sites, in order.
    pub fn arms(&self, sites: u32) -> Vec<Arm> {
        let Some(wanted) = &self.arms else { return self.experiment.arms(sites) };
        self.possible_arms(sites).into_iter().filter(|arm| wanted.contains(arm)).collect()
    }

    /// The arms that a run with the given number of sites can compute, in table order.
    pub fn possible_arms(&self, sites: u32) -> Vec<Arm> {
        [self.experiment.arms(sites), self.experiment.further_arms().to_vec()].concat()
    }

    /// The steps after preparation for the given number of sites, in order. The steps of one arm and seed are
    /// consecutive; arms that use the synthetic images of another come last.
    pub fn steps(&self, sites: u32) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.profile == Profile::Paper {
            steps.push(Step::Estimate);
        }
        let (after, arms): (Vec<Arm>, Vec<Arm>) = self.arms(sites).into_iter().partition(|arm| arm.uses().is_some());
        for &seed in &self.seeds {
            for &arm in &arms {
                if arm.is_synthetic() {
                    steps.extend([Step::Train(arm, seed), Step::Synthesize(arm, seed)]);
                }
                steps.push(Step::Evaluate(arm, seed));
                // Of one seed: it shows how learning goes, and decides nothing.
                if arm == Arm::AsynDgan && self.seeds.first() == Some(&seed) && !self.settings.curve_rounds().is_empty() {
                    steps.push(Step::Curve(arm, seed));
                }
            }
        }
        // Once the synthetic images are there that they use.
        steps.extend(self.seeds.iter().flat_map(|&seed| after.iter().map(move |&arm| Step::Evaluate(arm, seed))));
        steps.push(Step::Report);
        steps
    }
}

/// The file in the run folder in which the runner records the duration of each step: subcommand, step, seconds. An
/// interrupted step counts from its last start only.
pub const SPENT: &str = "steps.csv";

impl Step {
    /// The step's subcommand and arguments.
    pub fn arguments(self) -> Vec<String> {
        let with = |name: &str, arm: Arm, seed: u64| vec![name.into(), "--arm".into(), arm.to_string(), "--seed".into(), seed.to_string()];
        match self {
            Step::Prepare => vec!["prepare".into()],
            Step::Estimate => vec!["estimate".into()],
            Step::Train(arm, seed) => with("train", arm, seed),
            Step::Synthesize(arm, seed) => with("synthesize", arm, seed),
            Step::Evaluate(arm, seed) => with("evaluate", arm, seed),
            Step::Curve(arm, seed) => with("curve", arm, seed),
            Step::Report => vec!["report".into()],
        }
    }

    /// The arm and seed of the step; steps of different arms or seeds do not wait for each other, except that arms
    /// which use the images of another arm come last.
    pub fn arm(self) -> Option<(Arm, u64)> {
        match self {
            Step::Train(arm, seed) | Step::Synthesize(arm, seed) | Step::Evaluate(arm, seed) | Step::Curve(arm, seed) => Some((arm, seed)),
            Step::Prepare | Step::Estimate | Step::Report => None,
        }
    }

    /// The label shown while the step runs.
    pub fn label(self) -> String {
        match self {
            Step::Prepare => "prepare data".into(),
            Step::Estimate => "estimate total time".into(),
            Step::Train(arm, seed) => format!("{arm}: train generator (seed {seed})"),
            Step::Synthesize(arm, seed) => format!("{arm}: synthesize (seed {seed})"),
            Step::Evaluate(arm, seed) => format!("{arm}: evaluate (seed {seed})"),
            Step::Curve(arm, seed) => format!("{arm}: score against rounds (seed {seed})"),
            Step::Report => "table and pictures".into(),
        }
    }

    /// The file in the run folder that exists once the step is done.
    pub fn proof(self, run: &Path, experiment: Experiment) -> PathBuf {
        match self {
            Step::Prepare => run.join("prepared/prepared.json"),
            Step::Estimate => run.join("estimate.json"),
            Step::Train(arm, seed) => Self::folder(run, arm, seed).join("train.json"),
            Step::Synthesize(arm, seed) => Self::synthetic(run, arm, seed).join("made.json"),
            Step::Evaluate(arm, seed) => Self::folder(run, arm, seed).join("scores.json"),
            Step::Curve(arm, seed) => Self::folder(run, arm, seed).join("curve.csv"),
            Step::Report => run.join(format!("{}.json", experiment.name())),
        }
    }

    /// The folder of an arm's synthetic images.
    pub fn synthetic(run: &Path, arm: Arm, seed: u64) -> PathBuf {
        Self::folder(run, arm, seed).join("synthetic")
    }

    /// The intermediate generator of an arm after the given number of rounds.
    pub fn kept_generator(run: &Path, arm: Arm, seed: u64, rounds: u64) -> PathBuf {
        Self::folder(run, arm, seed).join(format!("generator-{rounds:08}.safetensors"))
    }

    /// The folder of an arm and seed.
    pub fn folder(run: &Path, arm: Arm, seed: u64) -> PathBuf {
        run.join(format!("seed-{seed}")).join(arm.to_string())
    }

    /// Rough relative cost of the step, used to estimate the remaining time.
    pub fn cost(self, settings: &Settings, sites: u32) -> u64 {
        // In floating point, where nothing overflows.
        let pixels = (settings.data.crop as f64).powi(2).max(4.0) / 4.0;
        let round = f64::from(sites) * f64::from(settings.protocol.batch) * pixels * settings.generator.width as f64;
        let segmenter = settings.segmenter.batch as f64 * pixels * settings.segmenter.width as f64 / 8.0;
        let cost = match self {
            Step::Prepare => 2e6,
            Step::Estimate => 20.0 * round,
            Step::Train(..) => settings.protocol.rounds as f64 * round / 4.0,
            Step::Synthesize(..) => 300.0 * pixels * settings.generator.width as f64,
            Step::Curve(..) => settings.curve_rounds().len() as f64 * (settings.segmenter.steps as f64 / 2.0 + 200.0) * segmenter,
            Step::Evaluate(..) => (settings.segmenter.steps as f64 + 200.0) * segmenter,
            Step::Report => 1e6,
        };
        (cost / 1000.0) as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arm_is_evaluated_once_a_seed_and_trained_if_synthetic() {
        let settings = Settings::new(Experiment::Table1, Profile::Desk);
        let mut run = Run::phantoms(Experiment::Table1, Profile::Desk, settings);
        run.seeds = vec![0, 1];
        let steps = run.steps(10);
        let count = |f: fn(&Step) -> bool| steps.iter().filter(|s| f(s)).count();
        assert_eq!(count(|s| matches!(s, Step::Evaluate(..))), 2 * 24);
        let first = steps.iter().position(|s| matches!(s, Step::Evaluate(Arm::OwnPlusSyn(_), _)));
        let last = steps.iter().rposition(|s| matches!(s, Step::Synthesize(..)));
        assert!(first > last);
        assert_eq!(count(|s| matches!(s, Step::Train(..))), 2 * 2);
        assert_eq!(steps.last(), Some(&Step::Report));
        run.arms = Some(vec![Arm::AsynDgan]);
        assert_eq!(run.steps(10).len(), 2 * 3 + 2);
        run.arms = Some(vec![Arm::MdGan, Arm::FedAvg]);
        assert_eq!(run.arms(10), [Arm::FedAvg, Arm::MdGan]);
        assert_eq!(run.steps(10).len(), 2 * (1 + 3) + 1);
    }
}

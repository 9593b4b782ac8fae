//! Measures the effect of each choice of a recipe on validation patients of the training sites.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result, ensure};
use asyndgan_paper::{Arm, ArmScores, Experiment, Run, Settings, Step};

use super::{ExperimentJob, share_prepared};
use crate::files::write_text;

/// Each choice, and the setting that removes it.
const CHOICES: [(&str, &str); 10] = [
    ("average of the generator's weights", "generator.average_decay=0.0"),
    ("U-Net discriminators", "protocol.gan_loss=cross_entropy"),
    ("augmentation at the site", "discriminator.augmentation=0.0"),
    ("noise at every scale, including a code per site", "generator.noise_code=0"),
    ("a code per site", "generator.site_code=false"),
    ("condition at every scale", "generator.guided=false"),
    ("resize convolutions", "generator.resize_convolution=false"),
    ("higher discriminator learning rate", "optimiser.discriminator_learning_rate=0.0002"),
    ("quarter turns", "data.quarter_turns=false"),
    ("stain jitter", "segmenter.stain_jitter=0.0"),
];

/// How many of an experiment's metrics the table shows: Dice, and AJI or sensitivity.
const METRICS: usize = 2;

impl ExperimentJob {
    /// Removes each choice of the recipe of a table, one at a time, and returns the effects on `AsynDgan` as Markdown.
    /// Scores are those of validation patients.
    ///
    /// # Errors
    /// As [`ExperimentJob::run`].
    pub fn ablate(&self) -> Result<String> {
        ablate(self)
    }
}

fn ablate(job: &ExperimentJob) -> Result<String> {
    let base = job.run.clone();
    ensure!(base.experiment != Experiment::Fig5, "fig5 has no such choices: use table1 or table2");
    ensure!(base.arms.is_none(), "an ablation covers AsynDgan only: remove --arms");
    let base = Run { validate: true, arms: Some(vec![Arm::AsynDgan]), ..base };
    let base = Run { settings: base.settings.with(base.experiment, [("synthesis.curve_points", 0.into())])?, ..base };
    let folder = &job.folder;
    tracing::info!("--- everything");
    let all = folder.join("everything");
    ExperimentJob { run: base.clone(), folder: all.clone(), ..job.clone() }.carry_out()?;
    let everything = values(&base, &all)?;
    let mut table = String::from("|removed choice|");
    let _ = base.columns().iter().take(METRICS).try_for_each(|column| write!(table, "{}|difference|standard error|", column.name));
    let _ = write!(table, "\n|---|{}\n|nothing|", "---:|---:|---:|".repeat(METRICS));
    let _ = everything.iter().try_for_each(|of_seeds| write!(table, "{:.4}|–|–|", mean(of_seeds)));
    table.push('\n');
    for (choice, change) in CHOICES {
        let (name, value) = Settings::change(change)?;
        let settings = base.settings.with(base.experiment, [(name.as_str(), value)])?;
        if settings == base.settings {
            continue;
        }
        tracing::info!("--- without {choice}");
        let (run, place) = (Run { settings, ..base.clone() }, folder.join(&name));
        // No choice changes how data are prepared: all share what was made for the first.
        share_prepared(&all, &place)?;
        ExperimentJob { run: run.clone(), folder: place.clone(), ..job.clone() }.carry_out()?;
        let _ = write!(table, "|{choice}|");
        for (without, with) in values(&run, &place)?.iter().zip(&everything) {
            let differences: Vec<f64> = without.iter().zip(with).map(|(a, b)| a - b).collect();
            let error = standard_error(&differences).map_or_else(|| "–".into(), |e| format!("{e:.4}"));
            let _ = write!(table, "{:.4}|{:+.4}|{error}|", mean(without), mean(&differences));
        }
        table.push('\n');
    }
    let _ = writeln!(
        table,
        "\nAsynDgan, {}, on validation patients of the training sites; seeds {:?}, one value per seed, standard error over seeds. A difference below zero means that the choice helps. Cases without a value count as 0.",
        if base.data.is_some() { "real data" } else { "PHANTOM DATA" },
        base.seeds
    );
    write_text(&folder.join("ablation.md"), &table)?;
    Ok(table)
}

/// For each metric the mean over cases, per seed; undefined values count as 0.
fn values(run: &Run, folder: &Path) -> Result<[Vec<f64>; METRICS]> {
    let mut values = [const { Vec::new() }; METRICS];
    for &seed in &run.seeds {
        let path = Step::Evaluate(Arm::AsynDgan, seed).proof(folder, run.experiment);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let scores: ArmScores =
            serde_json::from_str(&text).with_context(|| format!("{} was written by a different version", path.display()))?;
        for (of_seeds, column) in values.iter_mut().zip(run.columns()) {
            let of_cases: Vec<f64> =
                scores.cases.iter().map(|case| case.metrics.get(&column.name).copied().flatten().unwrap_or(0.0)).collect();
            of_seeds.push(mean(&of_cases));
        }
    }
    Ok(values)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// `None` for a single value.
fn standard_error(values: &[f64]) -> Option<f64> {
    let (centre, n) = (mean(values), values.len() as f64);
    let squares: f64 = values.iter().map(|v| (v - centre) * (v - centre)).sum();
    (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt())
}

#[cfg(test)]
mod tests {
    use asyndgan_paper::{Experiment, Profile};

    use super::*;

    #[test]
    fn every_choice_is_one_of_the_desk_recipe() {
        let desk = Settings::new(Experiment::Table2, Profile::Desk);
        for (choice, change) in CHOICES {
            let (name, value) = Settings::change(change).expect("written as SECTION.NAME=VALUE");
            assert_ne!(desk.with(Experiment::Table2, [(name.as_str(), value)]).expect("a setting"), desk, "{choice}");
        }
    }

    #[test]
    fn the_published_recipe_has_none_of_them() {
        for experiment in [Experiment::Table1, Experiment::Table2] {
            let paper = Settings::new(experiment, Profile::Paper);
            for (choice, change) in CHOICES {
                let (name, value) = Settings::change(change).expect("written as SECTION.NAME=VALUE");
                assert_eq!(paper.with(experiment, [(name.as_str(), value)]).expect("a setting"), paper, "{choice}");
            }
        }
    }

    #[test]
    fn the_standard_error_is_that_of_a_mean() {
        assert!(standard_error(&[1.0, 2.0, 3.0, 4.0]).is_some_and(|e| (e - 0.6455).abs() < 1e-4) && standard_error(&[1.0]).is_none());
    }
}

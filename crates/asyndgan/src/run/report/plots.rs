//! The plots of the page of a run.

use std::collections::BTreeMap;

use anyhow::Result;
use asyndgan_paper::{Arm, ArmScores, Experiment, Row, Step, Table, TableColumn};
use maud::{Markup, PreEscaped, html};

use crate::{
    curves::{Recorded, read_csv},
    figures::{Line, box_plot_text, lines},
    files::read_record,
    run::RunFolder,
};

/// Maximum number of points drawn per curve; if there are more, neighbours are averaged.
const POINTS_MAX: usize = 200;

/// Width of a box plot in pixels: that of the page.
const WIDTH: u32 = 960;

/// The score of AsynDgan against the rounds of its generator.
pub(super) fn score_against_rounds(table: &Table) -> Result<Markup> {
    let columns = table.configuration.columns();
    let points = table.curve.iter().filter_map(|&(round, value)| Some((round as f64, value?))).collect();
    let line = Line { name: "AsynDgan".into(), points };
    let drawn = lines(&format!("{} of segmenters trained with half the steps", columns[0].heading), "generator rounds", &[line])?;
    Ok(html! { figure { (PreEscaped(drawn)) } })
}

/// The score of each distributed arm against what a site sends and receives.
pub(super) fn score_against_bytes(table: &Table) -> Result<Markup> {
    let columns = table.configuration.columns();
    let point = |row: &Row| {
        let at = (table.megabytes_per_site(row.arm)?, row.metrics.get(&columns[0].name)?.mean?);
        Some(Line { name: row.arm.to_string(), points: vec![at] })
    };
    let rows = || table.rows.iter().filter(|row| row.arm.is_distributed());
    let points: Vec<Line> = rows().filter_map(point).collect();
    if points.len() < 2 || table.experiment == Experiment::Fig5 {
        return Ok(html! {});
    }
    let left_out: Vec<String> = rows().filter(|row| point(row).is_none()).map(|row| row.arm.to_string()).collect();
    let title = format!("{} against what a site sends and receives", columns[0].heading);
    let drawn = lines(&title, "MB per site, first seed", &points)?;
    Ok(html! {
        h2 { "Score against bytes" }
        figure { (PreEscaped(drawn)) }
        @if !left_out.is_empty() {
            p.small { "Without " (left_out.join(", ")) ": training was interrupted, and the bytes before that are not known." }
        }
    })
}

/// The scores of the held-out cases, a plot per metric.
pub(super) fn boxes(folder: &RunFolder, table: &Table) -> Result<Markup> {
    let mut figures = Vec::new();
    for TableColumn { name, heading, .. } in table.configuration.columns() {
        let mut by_arm = BTreeMap::<Arm, Vec<f64>>::new();
        for row in &table.rows {
            for &seed in &table.seeds {
                let scores: ArmScores = read_record(&folder.proof(Step::Evaluate(row.arm, seed)))?;
                by_arm.entry(row.arm).or_default().extend(scores.cases.iter().filter_map(|c| c.metrics.get(&name).copied().flatten()));
            }
        }
        figures.push(box_plot_text(&[(heading, by_arm)].into(), WIDTH)?);
    }
    Ok(html! {
        @for drawn in &figures { figure { (PreEscaped(drawn)) } }
        p.small { "One value per case and seed: quartiles, median, and the full range." }
    })
}

/// The losses of the paper's GANs and of all segmenters, first seed.
pub(super) fn losses(folder: &RunFolder, table: &Table) -> Result<Markup> {
    let seed = table.seeds[0];
    let mut drawn = Vec::new();
    // Other distributed GANs keep no losses.
    for row in table.rows.iter().filter(|row| row.arm.is_synthetic() && row.arm.is_of_paper()) {
        let place = Step::folder(&folder.path, row.arm, seed);
        let Recorded { names, rows } = read_csv(&place.join("losses.csv"))?;
        for side in ["discriminator", "generator"] {
            let line = |(k, name): (usize, &String)| {
                let points: Vec<(f64, f64)> = rows.iter().filter_map(|(round, values)| Some((*round, (*values.get(k)?)?))).collect();
                Line { name: name.rsplit('/').next().unwrap_or(name).to_owned(), points: averaged(&points) }
            };
            let of_side: Vec<Line> = names.iter().enumerate().filter(|(_, n)| n.starts_with(side)).map(line).collect();
            drawn.push(lines(&format!("{}: {side} loss", row.arm), "round", &of_side)?);
        }
    }
    let mut segmenters = Vec::new();
    for row in &table.rows {
        // The toy has no segmenter.
        let path = Step::folder(&folder.path, row.arm, seed).join("segmenter.csv");
        if path.is_file() {
            let points: Vec<(f64, f64)> = read_csv(&path)?.rows.iter().filter_map(|(step, v)| Some((*step, (*v.first()?)?))).collect();
            segmenters.push(Line { name: row.arm.to_string(), points: averaged(&points) });
        }
    }
    if !segmenters.is_empty() {
        drawn.push(lines("Segmenter loss on training images", "step", &segmenters)?);
    }
    Ok(html! { @for svg in &drawn { figure { (PreEscaped(svg)) } } })
}

/// Few enough points to draw: neighbours averaged.
fn averaged(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let together = points.len().div_ceil(POINTS_MAX).max(1);
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        (part.iter().map(|p| p.0).sum::<f64>() / n, part.iter().map(|p| p.1).sum::<f64>() / n)
    };
    points.chunks(together).map(mean).collect()
}

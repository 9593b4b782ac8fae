//! Figure 5: the samples of each arm's generator, compared with the true mixture.

use std::fmt::Display;

use anyhow::{Result, anyhow};
use asyndgan_paper::{Arm, Table};
use plotters::{
    coord::Shift,
    prelude::{ChartBuilder, DrawingArea, DrawingBackend, LineSeries, Rectangle},
    style::{BLACK, Color, IntoFont, RED, RGBColor, WHITE},
};

use crate::{
    figures::{save_png, save_svg},
    run::{
        RunFolder,
        evaluate::{mixture, predicted, toy_values},
    },
};

const LOW: f64 = -9.0;
const HIGH: f64 = 7.0;
const BINS: usize = 80;
const FILL: RGBColor = RGBColor(70, 120, 180);
/// Panels beside each other.
const COLUMNS: usize = 3;
/// Of one panel.
const SIZE: (u32, u32) = (320, 270);

struct Panel {
    title: String,
    density: Vec<f64>,
    /// The density that theory predicts, if it is not the mixture.
    predicted: Option<Vec<f64>>,
}

/// Writes the histograms as PNG and SVG.
pub(crate) fn histograms(folder: &RunFolder, table: &Table) -> Result<()> {
    crate::figures::with_font()?;
    let truth = density(&mixture(folder.run.settings.data.phantoms_held_out));
    let mut panels = Vec::new();
    for row in &table.rows {
        let distance = row.metrics.get("wasserstein_1").and_then(|m| m.mean);
        let title = distance.map_or_else(|| row.arm.to_string(), |d| format!("{}: W1 {d:.3}", row.arm));
        let predicted = (row.arm == Arm::AsynDganOverlap).then(|| density(&predicted(row.arm, folder.run.settings.data.phantoms_held_out)));
        panels.push(Panel { title, density: density(&drawn(folder, row.arm)?), predicted });
    }
    let size = (SIZE.0 * COLUMNS as u32, SIZE.1 * panels.len().div_ceil(COLUMNS).max(1) as u32);
    save_svg(&folder.path.join("fig5.svg"), size, |area| draw(area, &truth, &panels))?;
    save_png(&folder.path.join("fig5.png"), size, |area| draw(area, &truth, &panels))
}

fn drawn(folder: &RunFolder, arm: Arm) -> Result<Vec<f64>> {
    toy_values(folder, arm, folder.run.seeds[0])
}

fn density(values: &[f64]) -> Vec<f64> {
    let step = (HIGH - LOW) / BINS as f64;
    let mut bins = vec![0.0; BINS];
    for v in values {
        let bin = ((v - LOW) / step).floor();
        if (0.0..BINS as f64).contains(&bin) {
            bins[bin as usize] += 1.0 / (values.len() as f64 * step);
        }
    }
    bins
}

fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, truth: &[f64], panels: &[Panel]) -> Result<()> {
    area.fill(&WHITE).map_err(explain)?;
    let top = panels.iter().flat_map(|p| &p.density).chain(truth).copied().fold(0.1, f64::max).min(0.9);
    let x = |i: usize| LOW + (HIGH - LOW) * i as f64 / BINS as f64;
    for (panel, area) in panels.iter().zip(area.split_evenly((panels.len().div_ceil(COLUMNS).max(1), COLUMNS))) {
        let mut chart = ChartBuilder::on(&area)
            .caption(&panel.title, ("sans-serif", 17).into_font())
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(34)
            .build_cartesian_2d(LOW..HIGH, 0.0..top * 1.05)
            .map_err(explain)?;
        chart.configure_mesh().disable_mesh().x_labels(6).y_labels(4).draw().map_err(explain)?;
        let bars = panel.density.iter().enumerate().map(|(i, &d)| Rectangle::new([(x(i), 0.0), (x(i + 1), d)], FILL.mix(0.7).filled()));
        chart.draw_series(bars).map_err(explain)?;
        let line = truth.iter().enumerate().map(|(i, &d)| (f64::midpoint(x(i), x(i + 1)), d));
        chart.draw_series(LineSeries::new(line, RED.stroke_width(2))).map_err(explain)?;
        if let Some(predicted) = &panel.predicted {
            let line = predicted.iter().enumerate().map(|(i, &d)| (f64::midpoint(x(i), x(i + 1)), d));
            chart.draw_series(LineSeries::new(line, BLACK.stroke_width(2))).map_err(explain)?;
        }
    }
    area.present().map_err(explain)
}

fn explain(error: impl Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

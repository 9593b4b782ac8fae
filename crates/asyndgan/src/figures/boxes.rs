use std::{collections::BTreeMap, fmt::Display, path::Path};

use anyhow::{Result, anyhow};
use plotters::{
    coord::Shift,
    data::Quartiles,
    prelude::{
        BitMapBackend, Boxplot, ChartBuilder, DrawingArea, DrawingBackend, IntoDrawingArea, IntoSegmentedCoord, SVGBackend, SegmentValue,
    },
    style::{IntoFont, RGBColor, WHITE},
};

const FILL: RGBColor = RGBColor(70, 120, 180);
const SIDE: u32 = 300;
const ACROSS: usize = 4;

/// Draws a box plot for every metric, with a box for every class; by the ending a PNG or an SVG.
pub(crate) fn box_plot(metrics: &BTreeMap<String, BTreeMap<String, Vec<f64>>>, path: &Path) -> Result<()> {
    super::with_font()?;
    let rows = metrics.len().div_ceil(ACROSS).max(1);
    let size = (SIDE * ACROSS as u32, SIDE * rows as u32);
    super::save(path, |path| {
        if path.extension().is_some_and(|e| e == "svg") {
            draw(&SVGBackend::new(path, size).into_drawing_area(), metrics, rows)
        } else {
            draw(&BitMapBackend::new(path, size).into_drawing_area(), metrics, rows)
        }
    })
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    metrics: &BTreeMap<String, BTreeMap<String, Vec<f64>>>,
    rows: usize,
) -> Result<()> {
    let wrong = |e: &dyn Display| anyhow!("{e}");
    area.fill(&WHITE).map_err(|e| wrong(&e))?;
    for (panel, (metric, classes)) in area.split_evenly((rows, ACROSS)).iter().zip(metrics) {
        let names: Vec<&String> = classes.keys().collect();
        let all: Vec<f64> = classes.values().flatten().copied().collect();
        let (low, high) = all.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        let margin = if all.is_empty() { 1.0 } else { (high - low).max(1e-3) * 0.08 };
        let (low, high) = if all.is_empty() { (0.0, 1.0) } else { (low, high) };
        let mut chart = ChartBuilder::on(panel)
            .caption(metric, ("sans-serif", 16).into_font())
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(44)
            .build_cartesian_2d(names[..].into_segmented(), (low - margin) as f32..(high + margin) as f32)
            .map_err(|e| wrong(&e))?;
        chart.configure_mesh().disable_x_mesh().x_labels(names.len()).y_labels(5).draw().map_err(|e| wrong(&e))?;
        let boxes = classes.iter().filter(|(_, values)| !values.is_empty()).map(|(class, values)| {
            let place = names.iter().find(|n| **n == class).expect("one of them");
            Boxplot::new_vertical(SegmentValue::CenterOf(place), &Quartiles::new(values)).width(24).style(FILL)
        });
        chart.draw_series(boxes).map_err(|e| wrong(&e))?;
    }
    area.present().map_err(|e| wrong(&e))
}

use std::{collections::BTreeMap, fmt::Display, path::Path};

use anyhow::{Result, anyhow};
use asyndgan_metrics::percentile_of_sorted;
use plotters::{
    coord::Shift,
    prelude::{BitMapBackend, ChartBuilder, DrawingArea, DrawingBackend, IntoDrawingArea, PathElement, SVGBackend, Text},
    style::{
        Color, IntoFont, RGBColor, TextStyle, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

const FILL: RGBColor = RGBColor(70, 120, 180);
const SIDE: u32 = 300;
const ACROSS: usize = 4;

/// Draws a box plot for every metric, with a box for every class: quartiles, median and the range of all values.
/// The extension of `path` selects PNG or SVG.
pub(crate) fn box_plot(metrics: &BTreeMap<String, BTreeMap<String, Vec<f64>>>, path: &Path) -> Result<()> {
    super::with_font()?;
    let rows = metrics.len().div_ceil(ACROSS).max(1);
    let size = (SIDE * ACROSS as u32, SIDE * rows as u32);
    super::save(path, |path| {
        if path.extension().is_some_and(|e| e == "svg") {
            draw(&SVGBackend::new(path, size).into_drawing_area(), metrics, (rows, ACROSS))
        } else {
            draw(&BitMapBackend::new(path, size).into_drawing_area(), metrics, (rows, ACROSS))
        }
    })
}

/// As [`box_plot`], as the text of an SVG.
pub(crate) fn box_plot_text<K: Ord + Display>(metrics: &BTreeMap<String, BTreeMap<K, Vec<f64>>>, wide: u32) -> Result<String> {
    super::with_font()?;
    let mut text = String::new();
    draw(&SVGBackend::with_string(&mut text, (wide, SIDE)).into_drawing_area(), metrics, (1, metrics.len()))?;
    Ok(text)
}

fn draw<B: DrawingBackend, K: Ord + Display>(
    area: &DrawingArea<B, Shift>,
    metrics: &BTreeMap<String, BTreeMap<K, Vec<f64>>>,
    grid: (usize, usize),
) -> Result<()> {
    let wrong = |e: &dyn Display| anyhow!("{e}");
    area.fill(&WHITE).map_err(|e| wrong(&e))?;
    for (panel, (metric, classes)) in area.split_evenly(grid).iter().zip(metrics) {
        let names: Vec<String> = classes.keys().map(K::to_string).collect();
        let all: Vec<f64> = classes.values().flatten().copied().collect();
        let (low, high) = all.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        let margin = if all.is_empty() { 1.0 } else { (high - low).max(1e-3) * 0.08 };
        let (low, high) = if all.is_empty() { (0.0, 1.0) } else { (low, high) };
        let (floor, ceiling) = (low - 2.0 * margin, high + margin);
        let mut chart = ChartBuilder::on(panel)
            .caption(metric, ("sans-serif", 16).into_font())
            .margin(8)
            .y_label_area_size(44)
            .build_cartesian_2d(0.0..names.len() as f64, floor..ceiling)
            .map_err(|e| wrong(&e))?;
        chart.configure_mesh().disable_x_mesh().disable_x_axis().y_labels(5).light_line_style(WHITE).draw().map_err(|e| wrong(&e))?;
        for (k, (name, values)) in classes.iter().enumerate() {
            let (middle, left, right) = (k as f64 + 0.5, k as f64 + 0.3, k as f64 + 0.7);
            let centred = TextStyle::from(("sans-serif", 14).into_font()).pos(Pos::new(HPos::Center, VPos::Top));
            let name = Text::new(name.to_string(), (middle, floor + margin), centred);
            chart.draw_series([name]).map_err(|e| wrong(&e))?;
            if values.is_empty() {
                continue;
            }
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            // Whiskers end at the least and the largest value that there is.
            let [least, first, median, third, largest] = [0.0, 25.0, 50.0, 75.0, 100.0].map(|p| percentile_of_sorted(&sorted, p));
            let line = |points: Vec<(f64, f64)>| PathElement::new(points, FILL.stroke_width(2));
            let lines = [
                line(vec![(middle, least), (middle, first)]),
                line(vec![(middle, third), (middle, largest)]),
                line(vec![(left, median), (right, median)]),
                line(vec![(left, least), (right, least)]),
                line(vec![(left, largest), (right, largest)]),
                line(vec![(left, first), (right, first), (right, third), (left, third), (left, first)]),
            ];
            chart.draw_series(lines).map_err(|e| wrong(&e))?;
        }
    }
    area.present().map_err(|e| wrong(&e))
}

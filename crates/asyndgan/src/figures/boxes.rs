use std::{collections::BTreeMap, fmt::Display, path::Path};

use anyhow::{Result, anyhow};
use asyndgan_metrics::percentile_of_sorted;
use plotters::{
    coord::Shift,
    prelude::{ChartBuilder, DrawingArea, DrawingBackend, PathElement, Text},
    style::{
        Color, IntoFont, RGBColor, TextStyle, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

const FILL: RGBColor = RGBColor(70, 120, 180);

/// Number of plots side by side in a file.
const COLUMNS: usize = 2;

/// Pixels: width of a plot in a file, height of a box with its gap, and height of the caption and the axis.
const WIDTH: u32 = 560;
const ROW: u32 = 24;
const FRAME: u32 = 76;

/// Draws a box plot for every metric, with a horizontal box for every class: quartiles, median and the range of all
/// values. The extension of `path` selects PNG or SVG.
pub(crate) fn box_plot(metrics: &BTreeMap<String, BTreeMap<String, Vec<f64>>>, path: &Path) -> Result<()> {
    super::with_font()?;
    let grid = (metrics.len().div_ceil(COLUMNS).max(1), metrics.len().clamp(1, COLUMNS));
    let size = (WIDTH * grid.1 as u32, height(metrics) * grid.0 as u32);
    if super::is_svg(path) {
        super::save_svg(path, size, |area| draw(area, metrics, grid))
    } else {
        super::save_png(path, size, |area| draw(area, metrics, grid))
    }
}

/// As [`box_plot`], as the text of an SVG of the given width, with the plots below each other.
pub(crate) fn box_plot_text<K: Ord + Display>(metrics: &BTreeMap<String, BTreeMap<K, Vec<f64>>>, width: u32) -> Result<String> {
    super::with_font()?;
    let size = (width, height(metrics) * metrics.len().max(1) as u32);
    super::svg(size, |area| draw(area, metrics, (metrics.len().max(1), 1)))
}

/// Height of one plot: all have that of the plot with the most classes.
fn height<K>(metrics: &BTreeMap<String, BTreeMap<K, Vec<f64>>>) -> u32 {
    FRAME + ROW * metrics.values().map(BTreeMap::len).max().unwrap_or(0).max(1) as u32
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
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) as u32;
        let (low, high) = range(classes.values().flatten());
        let margin = (high - low).max(1e-3) * 0.04;
        let mut chart = ChartBuilder::on(panel)
            .caption(metric, ("sans-serif", 16).into_font())
            .margin(10)
            .x_label_area_size(28)
            .y_label_area_size((longest * 8 + 16).min(240))
            .build_cartesian_2d(low - margin..high + margin, 0.0..names.len().max(1) as f64)
            .map_err(|e| wrong(&e))?;
        chart.configure_mesh().disable_y_mesh().disable_y_axis().x_labels(7).light_line_style(WHITE).draw().map_err(|e| wrong(&e))?;
        for (k, (name, values)) in names.iter().zip(classes.values()).enumerate() {
            // The first class is at the top.
            let middle = names.len() as f64 - k as f64 - 0.5;
            let (x, y) = chart.backend_coord(&(low - margin, middle));
            let beside = TextStyle::from(("sans-serif", 14).into_font()).pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Text::new(name.clone(), (x - 8, y), beside)).map_err(|e| wrong(&e))?;
            chart.draw_series(lines(values, middle)).map_err(|e| wrong(&e))?;
        }
    }
    area.present().map_err(|e| wrong(&e))
}

/// The lowest and highest value; 0 to 1 without a value.
fn range<'a>(values: impl Iterator<Item = &'a f64> + Clone) -> (f64, f64) {
    let low = values.clone().copied().reduce(f64::min).unwrap_or(0.0);
    (low, values.copied().reduce(f64::max).unwrap_or(1.0))
}

/// The lines of one box around the height `middle`. Whiskers end at the lowest and the highest value.
fn lines(values: &[f64], middle: f64) -> Vec<PathElement<(f64, f64)>> {
    if values.is_empty() {
        return Vec::new();
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let [lowest, first, median, third, highest] = [0.0, 25.0, 50.0, 75.0, 100.0].map(|p| percentile_of_sorted(&sorted, p));
    let (below, above) = (middle - 0.3, middle + 0.3);
    let points = [
        vec![(lowest, middle), (first, middle)],
        vec![(third, middle), (highest, middle)],
        vec![(median, below), (median, above)],
        vec![(lowest, below), (lowest, above)],
        vec![(highest, below), (highest, above)],
        vec![(first, below), (first, above), (third, above), (third, below), (first, below)],
    ];
    points.into_iter().map(|points| PathElement::new(points, FILL.stroke_width(2))).collect()
}

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{
    chart::ChartBuilder,
    coord::Shift,
    prelude::{DrawingArea, DrawingBackend, IntoLogRange, Rectangle, Text},
    style::{BLACK, Color, IntoFont, RGBColor, WHITE},
};

/// Named values as bars, on a logarithmic scale.
pub(crate) fn bars(path: &Path, title: &str, rows: &[(String, f64)]) -> Result<()> {
    super::with_font()?;
    let size = (900, 60 * rows.len() as u32 + 110);
    if super::is_svg(path) {
        super::save_svg(path, size, |area| draw(area, title, rows))
    } else {
        super::save_png(path, size, |area| draw(area, title, rows))
    }
}

fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, title: &str, rows: &[(String, f64)]) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| anyhow!("cannot draw the bars: {e}");
    area.fill(&WHITE).map_err(|e| failed(&e))?;
    let most = rows.iter().map(|r| r.1).fold(1e-3, f64::max);
    let least = rows.iter().map(|r| r.1).filter(|&v| v > 0.0).fold(most, f64::min) / 3.0;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(32)
        .build_cartesian_2d((least..most * 12.0).log_scale(), 0.0..rows.len() as f64)
        .map_err(|e| failed(&e))?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().draw().map_err(|e| failed(&e))?;
    let height = rows.len() as f64;
    let bars = rows.iter().enumerate().map(|(i, (_, value))| {
        let top = height - i as f64;
        Rectangle::new(
            [(least, top - 0.25), (value.max(least), top - 0.75)],
            RGBColor(70, 120, 180).mix(if i == 0 { 1.0 } else { 0.5 }).filled(),
        )
    });
    chart.draw_series(bars).map_err(|e| failed(&e))?;
    let labels = rows.iter().enumerate().map(|(i, (name, value))| {
        let at = (value.max(least) * 1.08, height - i as f64 - 0.4);
        Text::new(format!("{name}: {value:.1}"), at, ("sans-serif", 15).into_font().color(&BLACK))
    });
    chart.draw_series(labels).map_err(|e| failed(&e))?;
    area.present().map_err(|e| failed(&e))
}

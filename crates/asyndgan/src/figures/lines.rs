use anyhow::{Result, anyhow};
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    prelude::{Circle, IntoDrawingArea, LineSeries, PathElement, SVGBackend},
    style::{BLACK, Color, IntoFont, Palette, Palette99, WHITE},
};

/// A named line of points.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over a common axis, as the text of an SVG; few points are marked.
pub(crate) fn lines(title: &str, across: &str, lines: &[Line]) -> Result<String> {
    super::with_font()?;
    let failed = |e: &dyn std::fmt::Display| anyhow!("cannot draw {title}: {e}");
    let all = || lines.iter().flat_map(|l| &l.points);
    let extent = |of: fn(&(f64, f64)) -> f64| all().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let ((left, right), (low, high)) = (extent(|p| p.0), extent(|p| p.1));
    if !(left.is_finite() && low.is_finite()) {
        return Ok(String::new());
    }
    let margin = (high - low).max(1e-3) * 0.06;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (760, 300)).into_drawing_area();
        area.fill(&WHITE).map_err(|e| failed(&e))?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 17).into_font())
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d(left..right.max(left + 1.0), low - margin..high + margin)
            .map_err(|e| failed(&e))?;
        chart.configure_mesh().x_desc(across).x_labels(8).y_labels(6).light_line_style(WHITE).draw().map_err(|e| failed(&e))?;
        for (i, line) in lines.iter().enumerate() {
            let colour = Palette99::pick(i).to_rgba();
            let series = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2));
            let drawn = chart.draw_series(series).map_err(|e| failed(&e))?;
            drawn.label(&line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
            if line.points.len() < 20 {
                let marks = line.points.iter().map(|&at| Circle::new(at, 4, colour.filled()));
                chart.draw_series(marks).map_err(|e| failed(&e))?;
            }
        }
        if lines.len() > 1 {
            let mut labels = chart.configure_series_labels();
            labels.position(SeriesLabelPosition::UpperRight).background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.2));
            labels.draw().map_err(|e| failed(&e))?;
        }
        area.present().map_err(|e| failed(&e))?;
    }
    Ok(text)
}

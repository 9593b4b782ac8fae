use anyhow::{Result, anyhow};
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    prelude::{Circle, IntoDrawingArea, LineSeries, PathElement, SVGBackend},
    style::{BLACK, Color, IntoFont, Palette, Palette99, WHITE},
};

/// A chart over named columns.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    /// How many columns, from the first, are joined by a line.
    pub(crate) joined: usize,
    /// Each row's name, and its value in every column.
    pub(crate) rows: Vec<(String, Vec<Option<f64>>)>,
}

/// Charts side by side, as the text of an SVG; rows have the same colour in each.
pub(crate) fn panels(panels: &[Panel]) -> Result<String> {
    const WIDTH: u32 = 520;
    super::with_font()?;
    let failed = |e: &dyn std::fmt::Display| anyhow!("cannot draw the charts: {e}");
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH * panels.len() as u32, 340)).into_drawing_area();
        area.fill(&WHITE).map_err(|e| failed(&e))?;
        for (panel, place) in panels.iter().zip(area.split_evenly((1, panels.len().max(1)))) {
            let values = || panel.rows.iter().flat_map(|row| row.1.iter().flatten().copied());
            let high = values().fold(0.0, f64::max).max(1e-3);
            let mut chart = ChartBuilder::on(&place)
                .caption(&panel.title, ("sans-serif", 15).into_font())
                .margin(8)
                .x_label_area_size(30)
                .y_label_area_size(44)
                // Room for the legend above the highest value.
                .build_cartesian_2d(-0.5..panel.columns.len() as f64 - 0.5, 0.0..high * 1.35)
                .map_err(|e| failed(&e))?;
            let name = |x: &f64| {
                let column = x.round().max(0.0) as usize;
                if (x - x.round()).abs() < 1e-6 { panel.columns.get(column).cloned().unwrap_or_default() } else { String::new() }
            };
            let labels = 2 * panel.columns.len() + 1;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .x_labels(labels)
                .x_label_formatter(&name)
                .y_labels(6)
                .light_line_style(WHITE)
                .draw()
                .map_err(|e| failed(&e))?;
            for (i, (name, row)) in panel.rows.iter().enumerate() {
                let colour = Palette99::pick(i).to_rgba();
                let points: Vec<(f64, f64)> = row.iter().enumerate().filter_map(|(x, y)| Some((x as f64, (*y)?))).collect();
                let joined = points.iter().copied().filter(|(x, _)| *x < panel.joined as f64);
                let drawn = chart.draw_series(LineSeries::new(joined, colour.stroke_width(2))).map_err(|e| failed(&e))?;
                drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
                chart.draw_series(points.iter().map(|&at| Circle::new(at, 4, colour.filled()))).map_err(|e| failed(&e))?;
            }
            let mut legend = chart.configure_series_labels();
            legend.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.2));
            legend.draw().map_err(|e| failed(&e))?;
        }
        area.present().map_err(|e| failed(&e))?;
    }
    Ok(text)
}

use anyhow::{Result, anyhow};
use plotters::{
    chart::ChartBuilder,
    coord::Shift,
    element::DashedPathElement,
    prelude::{Circle, DrawingArea, IntoDrawingArea, LineSeries, PathElement, SVGBackend, Text},
    series::DashedLineSeries,
    style::{Color, IntoFont, RGBColor, WHITE},
};

/// A named line of points.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Colours that are dark enough on white. Further lines have the same colours and other dashes.
const COLOURS: [RGBColor; 8] = [
    RGBColor(36, 98, 168),
    RGBColor(194, 87, 26),
    RGBColor(31, 138, 76),
    RGBColor(145, 60, 140),
    RGBColor(163, 32, 32),
    RGBColor(90, 103, 117),
    RGBColor(0, 128, 140),
    RGBColor(130, 100, 20),
];
/// Lengths of dashes and of the spaces between them, in pixels; none for a solid line.
const DASHES: [Option<(u32, u32)>; 4] = [None, Some((9, 4)), Some((3, 3)), Some((14, 3))];

const WIDTH: u32 = 760;
const PLOT_HEIGHT: u32 = 300;
/// Entries of the legend beside each other.
const LEGEND_COLUMNS: u32 = 4;
const LEGEND_ROW: u32 = 20;
/// Lines with fewer points have marks.
const MARKED_BELOW: usize = 20;

/// Lines over a common axis, with a legend below, as the text of an SVG; few points are marked.
pub(crate) fn lines(title: &str, across: &str, lines: &[Line]) -> Result<String> {
    super::with_font()?;
    let failed = |e: &dyn std::fmt::Display| anyhow!("cannot draw {title}: {e}");
    let all = || lines.iter().flat_map(|l| &l.points);
    let extent = |of: fn(&(f64, f64)) -> f64| all().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let ((left, right), (low, high)) = (extent(|p| p.0), extent(|p| p.1));
    if !(left.is_finite() && low.is_finite()) {
        return Ok(String::new());
    }
    let are_marked = lines.iter().all(|line| line.points.len() < MARKED_BELOW);
    // A mark needs space beside it, and a single one an axis.
    let side = if right > left { (right - left) * if are_marked { 0.04 } else { 0.0 } } else { 0.5 };
    let margin = (high - low).max(1e-3) * 0.06;
    let rows = if lines.len() > 1 { (lines.len() as u32).div_ceil(LEGEND_COLUMNS) } else { 0 };
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH, PLOT_HEIGHT + rows * LEGEND_ROW)).into_drawing_area();
        area.fill(&WHITE).map_err(|e| failed(&e))?;
        let (plot, legend) = area.split_vertically(PLOT_HEIGHT);
        let mut chart = ChartBuilder::on(&plot)
            .caption(title, ("sans-serif", 17).into_font())
            .margin(8)
            .margin_right(26)
            .x_label_area_size(36)
            .y_label_area_size(58)
            .build_cartesian_2d(left - side..right + side, low - margin..high + margin)
            .map_err(|e| failed(&e))?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(across).x_labels(8).y_labels(6).light_line_style(WHITE);
        mesh.x_label_formatter(&|v| tick(*v)).y_label_formatter(&|v| tick(*v)).draw().map_err(|e| failed(&e))?;
        for (i, line) in lines.iter().enumerate() {
            let (colour, dash) = style(i);
            let (points, stroke) = (line.points.iter().copied(), colour.stroke_width(2));
            let drawn = match dash {
                None => chart.draw_series(LineSeries::new(points, stroke)),
                Some((size, space)) => chart.draw_series(DashedLineSeries::new(points, size, space, stroke)),
            };
            drawn.map_err(|e| failed(&e))?;
            if line.points.len() < MARKED_BELOW {
                let marks = line.points.iter().map(|&at| Circle::new(at, 4, colour.filled()));
                chart.draw_series(marks).map_err(|e| failed(&e))?;
            }
            if rows > 0 {
                entry(&legend, i, &line.name, line.points.len() == 1).map_err(|e| failed(&e))?;
            }
        }
        area.present().map_err(|e| failed(&e))?;
    }
    Ok(text)
}

fn style(i: usize) -> (RGBColor, Option<(u32, u32)>) {
    (COLOURS[i % COLOURS.len()], DASHES[i / COLOURS.len() % DASHES.len()])
}

/// An entry of the legend: a piece of the line, or the mark of a single point, and the name.
fn entry(legend: &DrawingArea<SVGBackend, Shift>, i: usize, name: &str, is_point: bool) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| anyhow!("{e}");
    let (colour, dash) = style(i);
    let (column, row) = (i as u32 % LEGEND_COLUMNS, i as u32 / LEGEND_COLUMNS);
    let (x, y) = ((66 + column * ((WIDTH - 70) / LEGEND_COLUMNS)) as i32, (row * LEGEND_ROW + 8) as i32);
    let piece = [(x, y), (x + 26, y)];
    let stroke = colour.stroke_width(2);
    let drawn = match dash {
        _ if is_point => legend.draw(&Circle::new((x + 13, y), 4, colour.filled())),
        None => legend.draw(&PathElement::new(piece, stroke)),
        Some((size, space)) => legend.draw(&DashedPathElement::new(piece, size, space, stroke)),
    };
    drawn.map_err(|e| failed(&e))?;
    legend.draw(&Text::new(name.to_owned(), (x + 32, y - 6), ("sans-serif", 13).into_font())).map_err(|e| failed(&e))
}

/// A number on an axis, without zeros that say nothing.
fn tick(value: f64) -> String {
    let text = format!("{value:.4}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".into() } else { short.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_have_no_needless_digits() {
        assert_eq!([0.0, -0.000_01, 5.0, 100.0, 0.25, -1.5].map(tick), ["0", "0", "5", "100", "0.25", "-1.5"]);
    }

    #[test]
    fn every_line_is_in_the_legend_and_no_two_look_the_same() {
        let names: Vec<String> = (0..23).map(|i| format!("arm-{i}")).collect();
        let of = |(i, name): (usize, &String)| Line { name: name.clone(), points: vec![(0.0, i as f64), (1.0, 0.0)] };
        let drawn = lines("Loss", "step", &names.iter().enumerate().map(of).collect::<Vec<_>>()).expect("drawn");
        assert!(names.iter().all(|name| drawn.contains(name.as_str())));
        let styles: std::collections::BTreeSet<_> = (0..32).map(|i| format!("{:?}", style(i))).collect();
        assert_eq!(styles.len(), 32);
    }
}

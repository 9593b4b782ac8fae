//! Measures how the cost of a round scales with sites, batch, size and width, compared with the peak rate of the
//! processor.

use std::{error::Error, fmt::Write as _, path::Path, time::Instant};

use plotters::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::{Round, median};

/// What is made larger, by how much, and how.
type Change = (&'static str, &'static [u32], fn(&mut Round, u32));

/// One way to make a round larger, and its seconds at each step.
struct Curve {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// The exponent of the growth of the seconds, by least squares of the logarithms.
    fn exponent(&self) -> f64 {
        let logs: Vec<(f64, f64)> = self.points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
        let n = logs.len() as f64;
        let (mean_x, mean_y) = (logs.iter().map(|l| l.0).sum::<f64>() / n, logs.iter().map(|l| l.1).sum::<f64>() / n);
        let both: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        both / logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>()
    }
}

/// Measures the curves, draws them, and describes them in Markdown.
pub(crate) fn growth(out: &Path) -> Result<String, Box<dyn Error>> {
    let base = || Round { size: 64, width: 16, sites: 10, batch: 1, blocks: 9, rounds: 5, bfloat16: false, device: "cpu".into() };
    let changed: [Change; 4] = [
        ("sites", &[1, 2, 4, 8, 16, 32, 64], |round, n| round.sites = n),
        ("batch", &[1, 2, 4, 8, 16], |round, n| round.batch = n),
        ("rows and columns", &[32, 64, 128, 256], |round, n| round.size = i64::from(n)),
        ("width", &[8, 16, 32, 64], |round, n| round.width = i64::from(n)),
    ];
    let peak = peak();
    let mut text = format!("Product of two 4096 x 4096 matrices, two threads: {peak:.0} GFLOP/s.\n\n");
    text += "|round of 10 sites, batch 1, 64 x 64, width 16, except|seconds|exponent|GFLOP/s|\n|---|---|---:|---|\n";
    let mut curves = Vec::new();
    for (name, values, change) in changed {
        let (mut points, mut rates) = (Vec::new(), Vec::new());
        for &value in values {
            let mut round = base();
            change(&mut round, value);
            let seconds = median(round.seconds()?);
            eprintln!("{name} {value}: {seconds:.4} s");
            points.push((f64::from(value), seconds));
            rates.push(round.gflop() / seconds);
        }
        let curve = Curve { name, points };
        let list = |of: &mut dyn Iterator<Item = String>| of.collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            text,
            "|{name} {}|{}|{:.2}|{}|",
            list(&mut values.iter().map(u32::to_string)),
            list(&mut curve.points.iter().map(|p| format!("{:.3}", p.1))),
            curve.exponent(),
            list(&mut rates.iter().map(|r| format!("{r:.0}"))),
        );
        curves.push(curve);
    }
    draw(&curves, out)?;
    Ok(text)
}

/// The processor's own rate at a large product of matrices, GFLOP/s.
fn peak() -> f64 {
    const SIDE: i64 = 4096;
    asyndgan_models::set_threads(2);
    let a = (Tensor::arange(SIDE * SIDE, (Kind::Float, Device::Cpu)) * 0.1).sin().view([SIDE, SIDE]);
    let once = |_| {
        let begun = Instant::now();
        let _ = a.matmul(&a);
        begun.elapsed().as_secs_f64()
    };
    let _ = once(0);
    2.0 * (SIDE as f64).powi(3) / 1e9 / median((0..5).map(once).collect())
}

fn draw(curves: &[Curve], out: &Path) -> Result<(), Box<dyn Error>> {
    let all = || curves.iter().flat_map(|c| &c.points);
    let least = all().map(|p| p.1).fold(f64::INFINITY, f64::min) / 1.5;
    let most = all().map(|p| p.1).fold(0.0, f64::max) * 1.5;
    plotters::style::register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).map_err(|_| "no font")?;
    let area = SVGBackend::new(out, (720, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((1.0..300.0_f64).log_scale(), (least..most).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("sites, batch, rows and columns, or width")
        .y_desc("seconds per round")
        .y_label_formatter(&|v| format!("{v:.2}"))
        .draw()?;
    for (i, curve) in curves.iter().enumerate() {
        let colour = Palette99::pick(i).to_rgba();
        let name = format!("{}: exponent {:.2}", curve.name, curve.exponent());
        let line = chart.draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)).point_size(3))?;
        line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).draw()?;
    area.present()?;
    Ok(())
}

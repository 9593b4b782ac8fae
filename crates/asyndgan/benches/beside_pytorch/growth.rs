//! Measures how the cost of a round scales with sites, batch, size and width, compared with the peak rate of the
//! processor; and how a site's start-up, its memory and its batches scale with the number of its cases.

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use asyndgan_data::{Case, CaseOrigin, CaseSet, write_cases};
use asyndgan_training::Pairs;
use ndarray::{Array2, Array3};
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
    text += &cases()?;
    Ok(text)
}

/// Cases of one file.
const A_FILE: usize = 1_000;
/// Rows and columns of a case.
const SIDE: usize = 72;

/// How a site with more and more cases starts, each in a process of its own.
fn cases() -> Result<String, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut text =
        format!("\n|cases of a site, {SIDE} x {SIDE}|seconds to start|memory, MB|milliseconds to read 8 images|\n|---:|---:|---:|---:|\n");
    let mut written = 0;
    for count in [1_000, 10_000, 100_000] {
        while written < count {
            let case = |i: usize| Case {
                id: format!("{i:06}"),
                image: Array3::from_shape_fn((1, SIDE, SIDE), |(_, y, x)| ((x * y + i) as f32 * 0.01).sin()),
                condition: Array2::from_shape_fn((SIDE, SIDE), |(y, x)| u8::from((x + y + i).is_multiple_of(9))),
            };
            let some: Vec<Case> = (written..written + A_FILE).map(case).collect();
            write_cases(&folder.path().join(format!("{written:06}.safetensors")), CaseOrigin::default(), &some)?;
            written += A_FILE;
        }
        let output = Command::new(std::env::current_exe()?).arg("open-cases").arg(folder.path()).output()?;
        let line = String::from_utf8(output.stdout)?;
        eprintln!("{count} cases: {}", line.trim());
        let _ = writeln!(text, "|{count}|{}|", line.trim().replace(' ', "|"));
    }
    Ok(text)
}

/// Opens the cases of a folder as a site does; returns the seconds, the memory in MB, and the milliseconds of a batch.
pub(crate) fn open_cases(folder: PathBuf) -> Result<String, Box<dyn Error>> {
    let began = Instant::now();
    let pairs = Pairs::of_cases(CaseSet::open(std::slice::from_ref(&folder))?)?;
    let seconds = began.elapsed().as_secs_f64();
    let set = CaseSet::open(&[folder])?;
    let status = fs::read_to_string("/proc/self/status")?;
    let kib: u64 = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    let batch = |first: usize| -> Result<f64, Box<dyn Error>> {
        let began = Instant::now();
        for case in 0..8 {
            set.read((first * 7_919 + case * 104_729) % set.len())?;
        }
        Ok(began.elapsed().as_secs_f64() * 1e3)
    };
    let batches = (0..100).map(batch).collect::<Result<Vec<f64>, _>>()?;
    drop(pairs);
    Ok(format!("{seconds:.3} {:.0} {:.2}", kib as f64 / 1024.0, median(batches)))
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

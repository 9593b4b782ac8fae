//! `cargo xtask publish`: copies the record, table and pictures of a run or a benchmark to `data/results`, and the
//! claims of a run to README and guide.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use asyndgan_paper::{DataKind, Experiment, Profile, Published, Step, Table, TradeOffRecord};
use clap::Args;
use image::imageops::FilterType;

use crate::{
    bench::{self, record::Record},
    generated::{self, RESULTS, SPEED, TRADE_OFFS, write_whole},
    root,
};

/// Maximum width of a published picture, in pixels.
const WIDTH_MAX: u32 = 960;

/// The record of a trade-off in its folder.
const TRADE_OFF: &str = "trade-off.json";

/// The pictures of a run's folder that are published.
const PICTURES: [(&str, &str); 3] = [
    ("fig5.png", "Samples of the generator of each arm (blue), the true mixture (red) and the barycentre (black)."),
    ("synthetic.png", "Conditions, synthetic images of each generator, and the real image of the same condition."),
    ("predictions.png", "Held-out images, the truth, and the prediction of each arm's segmenter."),
];

#[derive(Args)]
pub(crate) struct Arguments {
    /// Folders of finished runs, trade-offs or benchmarks.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Name of the result, for a single run only; default EXPERIMENT-DATA-PROFILE.
    #[arg(long)]
    name: Option<String>,
    /// Also publish pictures of real images, if the licence of the data allows it.
    #[arg(long)]
    pictures: bool,
}

pub(crate) fn publish(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.name.is_none() || arguments.runs.len() == 1, "--name requires a single run");
    let is_plain = |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    ensure!(arguments.name.as_ref().is_none_or(is_plain), "--name may contain only letters, digits and hyphens");
    for run in &arguments.runs {
        one(run, arguments)?;
    }
    generated::write()
}

fn one(run: &Path, arguments: &Arguments) -> Result<()> {
    if run.join(TRADE_OFF).is_file() {
        return trade_off(run, arguments);
    }
    if run.join(bench::RECORD).is_file() {
        return speed(run, arguments);
    }
    let table = record(run)?;
    ensure!(
        table.profile != Profile::Smoke,
        "{} is a smoke run, whose numbers mean nothing: publish a run with the profile desk or paper",
        run.display()
    );
    let name = arguments.name.clone().unwrap_or_else(|| name(&table));
    ensure!(
        table.experiment != Experiment::Custom || arguments.name.is_some(),
        "the result of a task of your own needs a name: --name NAME"
    );
    let results = root().join(RESULTS);
    fs::create_dir_all(&results).with_context(|| format!("cannot create {}", results.display()))?;
    let mut pictures = Vec::new();
    if table.configuration.data.is_none() || arguments.pictures {
        for (file, caption) in PICTURES {
            if run.join(file).is_file() {
                let published = format!("{name}-{file}");
                write_whole(&results.join(&published), &small(&run.join(file))?)?;
                pictures.push((published, caption.to_owned()));
            }
        }
    }
    let published = Published::new(table, pictures);
    let text = serde_json::to_string_pretty(&published)? + "\n";
    write_whole(&results.join(format!("{name}.json")), text.as_bytes())
}

/// Publishes a trade-off between privacy and Dice: its record and its plot.
fn trade_off(run: &Path, arguments: &Arguments) -> Result<()> {
    let name = arguments.name.as_deref().context("a trade-off needs a name: --name NAME")?;
    let text = fs::read_to_string(run.join(TRADE_OFF)).with_context(|| format!("cannot read {}", run.display()))?;
    serde_json::from_str::<TradeOffRecord>(&text).with_context(|| format!("{} was written by a different version", run.display()))?;
    let plot = fs::read(run.join("trade-off.svg")).with_context(|| format!("{} has no plot", run.display()))?;
    let results = root().join(TRADE_OFFS);
    fs::create_dir_all(&results).with_context(|| format!("cannot create {}", results.display()))?;
    write_whole(&results.join(format!("{name}.svg")), &plot)?;
    write_whole(&results.join(format!("{name}.json")), text.as_bytes())
}

/// Publishes a comparison with PyTorch: its record and its plot.
fn speed(run: &Path, arguments: &Arguments) -> Result<()> {
    let name = arguments.name.as_deref().context("a comparison needs a name: --name NAME")?;
    let path = run.join(bench::RECORD);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str::<Record>(&text).with_context(|| format!("{} was written by a different version", path.display()))?;
    let results = root().join(SPEED);
    fs::create_dir_all(&results).with_context(|| format!("cannot create {}", results.display()))?;
    // Without a GPU only.
    if let Ok(plot) = fs::read(run.join(bench::GROWTH)) {
        write_whole(&results.join(format!("{name}.svg")), &plot)?;
    }
    write_whole(&results.join(format!("{name}.json")), text.as_bytes())
}

/// The record of a finished run.
fn record(run: &Path) -> Result<Table> {
    for experiment in [Experiment::Fig5, Experiment::Table1, Experiment::Table2, Experiment::Custom] {
        let path = Step::Report.proof(run, experiment);
        if path.is_file() {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            return serde_json::from_str(&text).with_context(|| {
                format!("{} was written by a different version: run `cargo xtask report {}` first", path.display(), run.display())
            });
        }
    }
    bail!("{} is not the folder of a finished run: it has no fig5.json, table1.json, table2.json or table.json", run.display())
}

fn name(table: &Table) -> String {
    let data = match table.data.kind {
        DataKind::Toy => "",
        DataKind::Phantom => "-phantoms",
        DataKind::Brats => "-brats",
        DataKind::Monuseg => "-monuseg",
        DataKind::Volumes => "-volumes",
        DataKind::Pictures => "-pictures",
    };
    format!("{}{data}-{}", table.experiment.name(), table.profile.name())
}

/// A picture as PNG, shrunk to the width that is published.
fn small(path: &Path) -> Result<Vec<u8>> {
    let picture = image::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let small = if picture.width() > WIDTH_MAX { picture.resize(WIDTH_MAX, u32::MAX, FilterType::Triangle) } else { picture };
    let mut bytes = std::io::Cursor::new(Vec::new());
    small.write_to(&mut bytes, image::ImageFormat::Png).with_context(|| format!("cannot encode {}", path.display()))?;
    Ok(bytes.into_inner())
}

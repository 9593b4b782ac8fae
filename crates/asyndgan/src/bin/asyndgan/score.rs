//! `asyndgan score`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use asyndgan::score::{ScoreOptions, score_folders};
use asyndgan_files::Access;
use asyndgan_metrics::ConventionName;
use clap::Args;

use crate::stdout::print;

#[derive(Args)]
#[command(after_help = "Examples:
  asyndgan score --truth labelsTs --prediction nnunet-output --out scores.json --plot scores.png
  asyndgan score --truth truth --prediction predicted --instances --out scores.csv
  asyndgan score --truth truth --prediction predicted --convention medpy --tolerance-mm 2

Files are matched by name without extension; masks may be NIfTI, NRRD, MetaImage, PNG or TIFF. Every label above 0 is a separate
class or, with --instances, an instance. Distances are in millimetres. PNG and TIFF have no spacing, so their distances are in pixels,
unless nnU-Net's spacing file is next to the mask. A volume of one slice is scored as a 2D image.")]
pub(crate) struct ScoreArguments {
    /// Folder of ground-truth masks, or one file.
    #[arg(long)]
    truth: PathBuf,
    /// Folder of predicted masks, one per ground-truth mask, or one file.
    #[arg(long)]
    prediction: PathBuf,
    /// Labels are instance numbers: compute AJI, AJI+, PQ, SQ, F1 and object Dice.
    #[arg(long)]
    instances: bool,
    /// Ignore label of the ground truth, as in nnU-Net: its voxels count as background in truth and prediction.
    #[arg(long, value_name = "LABEL")]
    ignore: Option<u32>,
    /// Convention where implementations of the metrics disagree: standard, paper, monai or medpy.
    #[arg(long, default_value = "standard")]
    convention: ConventionName,
    /// Tolerance of the normalised surface distance.
    #[arg(long, default_value_t = 1.0)]
    tolerance_mm: f64,
    /// Where to write all scores: .json or .csv.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where to draw a box plot of every metric: .png or .svg.
    #[arg(long)]
    plot: Option<PathBuf>,
}

pub(crate) fn score(arguments: &ScoreArguments) -> Result<()> {
    let ScoreArguments { truth, prediction, out, plot, .. } = arguments;
    let ends = |path: &Option<PathBuf>, endings: [&str; 2]| {
        path.as_ref().is_none_or(|p| endings.iter().any(|e| p.extension().is_some_and(|x| x == *e)))
    };
    ensure!(ends(out, ["json", "csv"]), "--out must end in .json or .csv");
    ensure!(ends(plot, ["png", "svg"]), "--plot must end in .png or .svg");
    for path in out.iter().chain(plot) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        ensure!(folder.is_none_or(std::path::Path::is_dir), "{}: its folder does not exist; create it first", path.display());
    }
    let mut options = ScoreOptions::default();
    options.instances = arguments.instances;
    options.ignore = arguments.ignore;
    options.convention = arguments.convention;
    options.tolerance_mm = arguments.tolerance_mm;
    let report = score_folders(truth, prediction, &options)?;
    print(&report.text())?;
    if let Some(path) = out {
        let text = if path.extension().is_some_and(|e| e == "json") { serde_json::to_string_pretty(&report)? + "\n" } else { report.csv() };
        asyndgan_files::write(path, Access::Shared, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    plot.as_ref().map_or(Ok(()), |path| report.draw(path))
}

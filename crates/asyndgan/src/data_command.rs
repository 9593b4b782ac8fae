use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use asyndgan_medio::{BRATS_2018, KUMAR, PublishedSplit, published_split};
use clap::{Subcommand, ValueEnum};

use crate::{
    Which,
    data::{RealData, Recipe, Selection},
    export::{self, ExportLayout},
    inspect, prepare,
    run_folder::write_json,
    sources::Rule,
};

const INSPECT: &str = "Examples:
  asyndgan data inspect data/monuseg
  asyndgan data inspect /data/Dataset501_Hip --picture hip.png";
const PREPARE: &str = "Examples:
  asyndgan data prepare data/brats2018 --out prepared --size 286
  asyndgan data prepare /data/hips --out prepared --partition dirichlet --alpha 0.5 --sites 4
  asyndgan data prepare /data/hips --out prepared --partition size --sites 4 --channel CT
  asyndgan data prepare /data/hips --out prepared --lists hospitals.toml

A lists file names the cases of each site: north = [\"hip_1\"], south = [\"hip_2\"], test = [\"hip_3\"].
Cases under names that start with test are held out.";
const EXPORT: &str = "Examples:
  asyndgan data export --run target/reproduce/table2-desk --arm AsynDgan --seed 0 --layout nnunet --out Dataset501_SyntheticNuclei
  asyndgan data export --run target/reproduce/table1-desk --arm AsynDgan --seed 0 --layout pairs --out synthetic-brains";

#[derive(Subcommand)]
pub(crate) enum DataCommand {
    /// List the contents and the problems of a folder, and draw a contact sheet.
    #[command(after_help = INSPECT)]
    Inspect {
        /// A folder in the layout of BraTS, MoNuSeg, nnU-Net or with a pairs.toml.
        dir: PathBuf,
        /// Where to draw the contact sheet.
        #[arg(long, default_value = "contact-sheet.png")]
        picture: PathBuf,
        /// For ImageScope annotations with several layers: name or number of the layer to read.
        #[arg(long)]
        layer: Option<String>,
    },
    /// Convert a folder's cases into the shapes that the networks expect, split across sites.
    #[command(after_help = PREPARE)]
    Prepare {
        /// A folder in the layout of BraTS, MoNuSeg, nnU-Net or with a pairs.toml.
        dir: PathBuf,
        /// Output folder for site-1, site-2, ..., test and prepared.json. Up-to-date files are kept, outdated prepared
        /// files removed.
        #[arg(long)]
        out: PathBuf,
        /// Rows and columns of a prepared image.
        #[arg(long, default_value_t = 286)]
        size: usize,
        /// Factor by which tiles are shrunk first.
        #[arg(long, default_value_t = 1)]
        shrink: usize,
        /// For volumes with several channels: name of the channel to use.
        #[arg(long, default_value = "t2")]
        channel: String,
        /// For ImageScope annotations with several layers: name or number of the layer to read.
        #[arg(long)]
        layer: Option<String>,
        /// Skip and list cases and files that cannot be used. Without this flag, they are an error.
        #[arg(long)]
        skip_unusable: bool,
        /// Maximum number of sites.
        #[arg(long, default_value_t = 10)]
        sites: usize,
        /// How patients are split across sites.
        #[arg(long, value_enum, default_value_t = Partition::Lists)]
        partition: Partition,
        /// TOML file with the cases of each site. Default: the published lists for BraTS 2018 and Kumar et al.
        #[arg(long, conflicts_with = "partition")]
        lists: Option<PathBuf>,
        /// Dirichlet concentration: how similar the size mixtures of the sites are (0.1: very different, 100: almost
        /// equal).
        #[arg(long, default_value_t = 0.5)]
        alpha: f64,
        /// Seed of the random split (dirichlet).
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Write an arm's synthetic images as a data set for other programs.
    #[command(after_help = EXPORT)]
    Export {
        #[command(flatten)]
        which: Which,
        /// Layout of the output folder.
        #[arg(long, value_enum)]
        layout: ExportLayout,
        /// Output folder; it must not exist yet.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Partition {
    /// By lists; unlisted cases go to the smallest site.
    Lists,
    /// By the size of the labelled regions.
    Size,
    /// By skewed mixtures of the size quartiles.
    Dirichlet,
}

pub(crate) fn run(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Inspect { dir, picture, layer } => {
            ensure!(picture.extension().is_some_and(|e| e == "png"), "{} must end in .png", picture.display());
            ensure!(!lies_in(&picture, &dir), "{} is in the inspected folder; choose another location", picture.display());
            inspect::inspect(&dir, &picture, layer)
        }
        DataCommand::Export { which, layout, out } => export::export(which, layout, &out),
        DataCommand::Prepare { dir, out, size, shrink, channel, layer, skip_unusable, sites, partition, lists, alpha, seed } => {
            ensure!((1..=4096).contains(&size) && shrink > 0 && sites > 0, "--size must be 1 to 4096, --shrink and --sites at least 1");
            ensure!(!lies_in(&out, &dir), "{} is in the input folder; choose another location", out.display());
            ensure!(alpha > 0.0 && alpha.is_finite(), "--alpha must be greater than 0");
            let data =
                RealData::open(&dir, Selection { channel: &channel, layer: layer.as_deref(), skip_unusable }, Recipe { size, shrink })?;
            let lists = match &lists {
                Some(path) => own_lists(path, &data, sites)?,
                None => published_split("the published lists".as_ref(), if data.volumes { BRATS_2018 } else { KUMAR })?,
            };
            let rule = match partition {
                Partition::Lists => Rule::Lists,
                Partition::Size => Rule::Size,
                Partition::Dirichlet => Rule::Dirichlet { alpha, seed },
            };
            let prepared = prepare::real(&out, &data, Recipe { size, shrink }, &lists, sites, rule, false)?;
            for (n, site) in (1..).zip(&prepared.sites) {
                eprintln!("site-{n}: {}, {} volumes or tiles, {} slices or patches", site.name, site.patients.len(), site.cases);
            }
            eprintln!("test: {}", prepared.test.join(", "));
            write_json(&out.join("prepared.json"), &prepared)
        }
    }
}

/// Whether a path, which need not exist yet, is in a folder.
fn lies_in(place: &Path, folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let there = std::path::absolute(place).unwrap_or_default();
    there.ancestors().find_map(|a| a.canonicalize().ok()).is_some_and(|a| a.starts_with(&folder))
}

/// Reads the user's own lists: every name must be a case, and every list becomes a site.
fn own_lists(path: &Path, data: &RealData, sites: usize) -> Result<PublishedSplit> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lists = published_split(path, &text)?;
    let listed = lists.sites.iter().flat_map(|site| &site.1).chain(&lists.test);
    for name in listed {
        let known = data.set.cases.iter().any(|c| c.id == *name);
        ensure!(known, "{} lists {name}, which is not a case of {}; correct the list", path.display(), data.set.folder.display());
    }
    let found = lists.sites.len();
    ensure!(found <= sites, "{} lists {found} sites, but --sites allows {sites}; use --sites {found}", path.display());
    Ok(lists)
}

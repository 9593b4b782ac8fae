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

A file of lists names cases: north = [\"hip_1\"], south = [\"hip_2\"], test = [\"hip_3\"]; one name a site, those with test in front are held out.";
const EXPORT: &str = "Examples:
  asyndgan data export --run target/reproduce/table2-desk --arm AsynDgan --seed 0 --layout nnunet --out Dataset501_SyntheticNuclei
  asyndgan data export --run target/reproduce/table1-desk --arm AsynDgan --seed 0 --layout pairs --out synthetic-brains";

#[derive(Subcommand)]
pub(crate) enum DataCommand {
    /// Say what a folder holds and what is wrong with it, and draw a contact sheet.
    #[command(after_help = INSPECT)]
    Inspect {
        /// A folder in the layout of BraTS, MoNuSeg, nnU-Net or with a pairs.toml.
        dir: PathBuf,
        /// Where to draw the contact sheet.
        #[arg(long, default_value = "contact-sheet.png")]
        picture: PathBuf,
        /// Of ImageScope annotations with several layers, the one to read: its name or number.
        #[arg(long)]
        layer: Option<String>,
    },
    /// Bring a folder's cases into the shapes that networks take, shared out to sites.
    #[command(after_help = PREPARE)]
    Prepare {
        /// A folder in the layout of BraTS, MoNuSeg, nnU-Net or with a pairs.toml.
        dir: PathBuf,
        /// Folder for site-1, site-2, ..., test and prepared.json; what is there already is not made again, what was made otherwise is removed.
        #[arg(long)]
        out: PathBuf,
        /// Rows and columns of a prepared image.
        #[arg(long, default_value_t = 286)]
        size: usize,
        /// Shrink tiles by this first.
        #[arg(long, default_value_t = 1)]
        shrink: usize,
        /// Of volumes with several channels, the one to take.
        #[arg(long, default_value = "t2")]
        channel: String,
        /// Of ImageScope annotations with several layers, the one to read: its name or number.
        #[arg(long)]
        layer: Option<String>,
        /// Leave out cases and files that cannot be used, and list them; without it, one of them ends the command.
        #[arg(long)]
        skip_unusable: bool,
        /// At most so many sites.
        #[arg(long, default_value_t = 10)]
        sites: usize,
        /// How patients are shared out.
        #[arg(long, value_enum, default_value_t = Partition::Lists)]
        partition: Partition,
        /// Lists of cases by site; else the published ones of BraTS 2018 and Kumar et al.
        #[arg(long, conflicts_with = "partition")]
        lists: Option<PathBuf>,
        /// How alike the sites' mixtures of sizes are (dirichlet): 0.1 hardly, 100 very.
        #[arg(long, default_value_t = 0.5)]
        alpha: f64,
        /// Decides the draws (dirichlet).
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Write an arm's synthetic images as a data set for other programs.
    #[command(after_help = EXPORT)]
    Export {
        #[command(flatten)]
        which: Which,
        /// What the folder looks like.
        #[arg(long, value_enum)]
        layout: ExportLayout,
        /// The folder to make.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Partition {
    /// By lists, what they do not name to the smallest site.
    Lists,
    /// By how much is labelled.
    Size,
    /// Skewed mixtures of the quarters by size.
    Dirichlet,
}

pub(crate) fn run(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Inspect { dir, picture, layer } => {
            ensure!(picture.extension().is_some_and(|e| e == "png"), "{} must end in .png", picture.display());
            ensure!(!lies_in(&picture, &dir), "{} lies in the folder that is looked at; choose another place", picture.display());
            inspect::inspect(&dir, &picture, layer)
        }
        DataCommand::Export { which, layout, out } => export::export(which, layout, &out),
        DataCommand::Prepare { dir, out, size, shrink, channel, layer, skip_unusable, sites, partition, lists, alpha, seed } => {
            ensure!((1..=4096).contains(&size) && shrink > 0 && sites > 0, "size must be from 1 to 4096, shrink and sites at least 1");
            ensure!(!lies_in(&out, &dir), "{} lies in the folder that is read; choose another place", out.display());
            ensure!(alpha > 0.0 && alpha.is_finite(), "alpha must be above 0");
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

/// Whether a place that need not exist yet lies in a folder.
fn lies_in(place: &Path, folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let there = std::path::absolute(place).unwrap_or_default();
    there.ancestors().find_map(|a| a.canonicalize().ok()).is_some_and(|a| a.starts_with(&folder))
}

/// A consortium's own lists: every name must be a case's, and every list gets a site.
fn own_lists(path: &Path, data: &RealData, sites: usize) -> Result<PublishedSplit> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lists = published_split(path, &text)?;
    let listed = lists.sites.iter().flat_map(|site| &site.1).chain(&lists.test);
    for name in listed {
        let known = data.set.cases.iter().any(|c| c.id == *name);
        ensure!(known, "{} lists {name}, which is no case of {}; correct it", path.display(), data.set.folder.display());
    }
    let found = lists.sites.len();
    ensure!(found <= sites, "{} lists {found} sites, at most {sites} are to be made; say --sites {found}", path.display());
    Ok(lists)
}

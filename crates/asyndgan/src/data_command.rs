use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use asyndgan_data::Preparation;
use asyndgan_medio::DataSet;
use asyndgan_paper::Experiment;
use asyndgan_task::{Absent, ImageKind, Task};
use clap::{Subcommand, ValueEnum};

use crate::{
    Which,
    data::{RealData, Selection, kind_of},
    export::{self, ExportLayout},
    inspect, prepare,
    run_folder::write_json,
    sources::Rule,
    task_file::{TaskFile, read_site_lists},
};

const INSPECT: &str = "Examples:
  asyndgan data inspect data/monuseg
  asyndgan data inspect /data/Dataset501_Hip --picture hip.png";
const PREPARE: &str = "Examples:
  asyndgan data prepare data/brats2018 --out prepared --size 286
  asyndgan data prepare /data/hips --out prepared --partition dirichlet --alpha 0.5 --sites 4
  asyndgan data prepare /data/hips --out prepared --partition size --sites 4 --channel CT
  asyndgan data prepare /data/hips --out prepared --task task.toml --lists hospitals.toml

A lists file names the cases of each site: north = [\"hip_1\"], south = [\"hip_2\"], test = [\"hip_3\"].
Cases under names that start with test are held out. Cases in no list are not used.";
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
        /// Rows and columns of a prepared image [default: that of the task file, or 286].
        #[arg(long)]
        size: Option<usize>,
        /// Factor by which pictures are downsampled first [default: that of the task file, or 1].
        #[arg(long, alias = "shrink")]
        downsampling: Option<usize>,
        /// brain, tissue, or a task file. Default: brain for volumes, tissue for pictures.
        #[arg(long)]
        task: Option<String>,
        /// For a task with one channel: its name in the data set.
        #[arg(long)]
        channel: Option<String>,
        /// A channel of the task that these images do not have; repeatable.
        #[arg(long = "without-channel", value_name = "NAME")]
        without_channels: Vec<String>,
        /// A class of the task that these masks do not mark; repeatable. Background is then not annotated either.
        #[arg(long = "without-class", value_name = "NAME")]
        without_classes: Vec<String>,
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
    /// By published lists; unlisted cases go to the smallest site.
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
        DataCommand::Prepare {
            dir,
            out,
            size,
            downsampling,
            task,
            channel,
            without_channels,
            without_classes,
            layer,
            skip_unusable,
            sites,
            partition,
            lists,
            alpha,
            seed,
        } => {
            let (experiment, task, scale) = chosen_task(&dir, task.as_deref(), channel)?;
            let (size, downsampling) = (size.or(scale[0]).unwrap_or(286), downsampling.or(scale[1]).unwrap_or(1));
            ensure!(
                (1..=4096).contains(&size) && downsampling > 0 && sites > 0,
                "--size must be 1 to 4096, --downsampling and --sites at least 1"
            );
            ensure!(!lies_in(&out, &dir), "{} is in the input folder; choose another location", out.display());
            ensure!(alpha > 0.0 && alpha.is_finite(), "--alpha must be greater than 0");
            let absent = Absent { channels: without_channels, classes: without_classes };
            let preparation = Preparation { task: &task, size, downsampling, absent: &absent };
            let own = lists.as_deref().map(read_site_lists).transpose()?;
            let selection = Selection { layer: layer.as_deref(), skip_unusable, lists: own.as_ref() };
            let data = RealData::open(&dir, selection, preparation)?;
            let (lists, own) = match own {
                Some(own) => (prepare::own_lists(own, &data, sites)?, true),
                None => (experiment.lists().unwrap_or_default(), false),
            };
            let rule = match partition {
                Partition::Lists if own => Rule::OwnLists,
                Partition::Lists => Rule::Lists,
                Partition::Size => Rule::Size,
                Partition::Dirichlet => Rule::Dirichlet { alpha, seed },
            };
            let prepared = prepare::real(&out, &data, &lists, sites, rule, false)?;
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

/// The named task, or the task of the paper for such images; its experiment; and its size and downsampling.
fn chosen_task(dir: &Path, name: Option<&str>, channel: Option<String>) -> Result<(Experiment, Task, [Option<usize>; 2])> {
    let file = if let Some(name) = name {
        TaskFile::read(name)?
    } else {
        let set = DataSet::find(dir)?;
        let kind = set.cases.iter().find_map(|case| kind_of(case).ok()).unwrap_or(ImageKind::Volumes);
        TaskFile::paper(if kind == ImageKind::Volumes { Experiment::Table1 } else { Experiment::Table2 })
    };
    let mut task = file.task()?.clone();
    if let Some(channel) = channel {
        ensure!(task.channels.len() == 1, "--channel is for tasks with one channel; {} has {}", task.name, task.channels.len());
        task.channels[0].name = channel;
    }
    Ok((file.experiment, task, file.scale()?))
}

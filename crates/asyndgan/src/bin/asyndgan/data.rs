//! `asyndgan data`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use asyndgan::{
    data::{self, PrepareOptions, image_kind, inspect, prepare_folder},
    run::{self, RunFolder},
    task_file::{TaskFile, read_site_lists},
};
use asyndgan_paper::Experiment;
use asyndgan_task::{Absent, ImageKind, Task};
use clap::{Subcommand, ValueEnum};

use crate::{
    Which,
    stdout::{print, print_note},
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
        /// A class of the task that these masks do not mark; repeatable. Background may then show it.
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

/// The layout of an exported folder.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ExportLayout {
    /// nnU-Net version 2, raw.
    Nnunet,
    /// Images, masks and a pairs.toml.
    Pairs,
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

pub(crate) fn data(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Inspect { dir, picture, layer } => {
            let found = inspect(&dir, &picture, layer)?;
            print(&found.text)?;
            if found.problems.is_empty() {
                return print("no problems\n");
            }
            print(&format!("problems:\n  {}\n", found.problems.join("\n  ")))?;
            bail!("{} problems in {}", found.problems.len(), dir.display())
        }
        DataCommand::Export { which, layout, out } => {
            let layout = match layout {
                ExportLayout::Nnunet => run::ExportLayout::Nnunet,
                ExportLayout::Pairs => run::ExportLayout::Pairs,
            };
            let count = run::export(&RunFolder::open_to_read(&which.at.run)?, which.arm, which.seed, layout, &out)?;
            print_note(&format!("{}: {count} synthetic images", out.display()));
            Ok(())
        }
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
            let mut options = PrepareOptions::new(task);
            options.size = size.or(scale[0]).unwrap_or(options.size);
            options.downsampling = downsampling.or(scale[1]).unwrap_or(options.downsampling);
            options.absent = Absent { channels: without_channels, classes: without_classes };
            options.partition = match (partition, lists) {
                (_, Some(lists)) => data::Partition::Lists(read_site_lists(&lists)?),
                (Partition::Lists, None) => data::Partition::Published(experiment.lists().unwrap_or_default()),
                (Partition::Size, None) => data::Partition::Size,
                (Partition::Dirichlet, None) => data::Partition::Dirichlet { alpha, seed },
            };
            options.sites = sites;
            options.held_out = experiment.lists().unwrap_or_default().test;
            options.layer = layer;
            options.skip_unusable = skip_unusable;
            let is_volumes = options.task.images == ImageKind::Volumes;
            let prepared = prepare_folder(&dir, &out, &options)?;
            let (images, parts) = if is_volumes { ("volumes", "slices") } else { ("pictures", "patches") };
            for (n, site) in (1..).zip(&prepared.sites) {
                print_note(&format!("site-{n}: {}, {} {images}, {} {parts}", site.name, site.patients.len(), site.cases));
            }
            print_note(&format!("test: {}", prepared.test.join(", ")));
            Ok(())
        }
    }
}

/// The named task, or the task of the paper for such images; its experiment; and its size and downsampling.
fn chosen_task(dir: &Path, name: Option<&str>, channel: Option<String>) -> Result<(Experiment, Task, [Option<usize>; 2])> {
    let file = if let Some(name) = name {
        TaskFile::read(name)?
    } else {
        let kind = image_kind(dir)?.unwrap_or(ImageKind::Volumes);
        TaskFile::paper(if kind == ImageKind::Volumes { Experiment::Table1 } else { Experiment::Table2 })
    };
    let mut task = file.task()?.clone();
    if let Some(channel) = channel {
        ensure!(task.channels.len() == 1, "--channel is for tasks with one channel; {} has {}", task.name, task.channels.len());
        task.channels[0].name = channel;
    }
    Ok((file.experiment(), task, file.scale()?))
}

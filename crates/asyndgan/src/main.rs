//! `asyndgan`: the steps of an experiment, one subcommand each, which `cargo xtask reproduce` calls in order; and the programs of a run
//! over several hospitals.

mod claims;
mod configure;
mod consortium;
mod curves;
mod data;
mod data_command;
mod evaluate;
mod export;
mod figures;
mod from_masks;
mod inspect;
mod mask_files;
mod network_file;
mod prepare;
mod progress;
mod provenance;
mod recombine;
mod report;
mod run_folder;
mod score;
mod segment;
mod shelf;
mod sources;
mod stdout;
mod synthesize;
mod train;
mod train_segmenter;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use asyndgan_paper::{Arm, Profile, Settings};
use clap::{Args, Parser, Subcommand};
use configure::Images;
use consortium::{InitCommand, JournalCommand, KeysCommand};
use data_command::DataCommand;
use run_folder::{RunFolder, device};
use train_segmenter::SegmenterJob;

const EXAMPLES: &str = "Examples:
  cargo xtask reproduce table2 --profile smoke     all steps of an experiment, in order
  asyndgan train --run target/reproduce/table2-smoke --arm AsynDgan --seed 0
  asyndgan report --run target/reproduce/table2-smoke
  asyndgan data inspect data/brats2018             what a folder of images holds

A step goes on where it was when it is started again; every step leaves its results in the run's folder.";

const SYNTHESIZE: &str = "Examples:
  asyndgan synthesize --run target/reproduce/table2-smoke --arm AsynDgan --seed 0
  asyndgan synthesize --generator generator.safetensors --conditions masks --count 5 --out synthetic

The second makes images and masks for other programs, and in synthetic/cases what train-segmenter takes.";
const SEGMENTER: &str = "Examples:
  asyndgan train-segmenter --cases synthetic/cases --images tissue --shrink 2 --out segmenter.safetensors
  asyndgan train-segmenter --cases prepared/site-1 prepared/site-2 --images brain --out segmenter.safetensors
  asyndgan segment scan.nii.gz --segmenter segmenter.safetensors --out masks";
const REPORT: &str = "Examples:
  asyndgan report --run target/reproduce/table2-desk
  asyndgan report --run target/reproduce/fig5-desk target/reproduce/table1-desk --out all.html";
const SERVER: &str = "Examples:
  asyndgan init server && asyndgan keys init --server gan.example.org && asyndgan keys issue north
  asyndgan server --config run.toml

Started again after whatever ended it, it goes on from its last checkpoint.";
const SITE: &str = "Examples:
  asyndgan init site && asyndgan doctor --config site.toml
  asyndgan site approve --config site.toml       what the run is, and what it means for privacy
  asyndgan site --config site.toml

Started again after whatever ended it, it goes on. While the server is away it tries again.";
const KEYS: &str = "Examples:
  asyndgan keys init --encrypt --server gan.example.org 192.0.2.7
  asyndgan keys request north          at the hospital: the private key stays there
  asyndgan keys sign north north.csr         at the operator
  asyndgan keys issue north            both at once, for a first try
  asyndgan keys revoke north";

#[derive(Parser)]
#[command(version, about = "Learn from medical images that never leave their hospitals", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    step: Command,
}

#[derive(Args)]
struct Where {
    /// The run's folder, with its run.json.
    #[arg(long)]
    run: PathBuf,
}

#[derive(Args)]
struct Which {
    #[command(flatten)]
    at: Where,
    /// RealAll, RealSubset-N, SynAll, SynSubset-N, AsynDgan or AsynDgan-Overlap.
    #[arg(long)]
    arm: Arm,
    /// One of the run's seeds.
    #[arg(long)]
    seed: u64,
}

impl Which {
    fn open(&self) -> Result<RunFolder> {
        RunFolder::open_arm(&self.at.run, self.arm, self.seed)
    }
}

#[derive(Args)]
struct SynthesizeArguments {
    /// The run's folder, with its run.json.
    #[arg(long, requires = "arm", required_unless_present = "generator")]
    run: Option<PathBuf>,
    /// RealAll, RealSubset-N, SynAll, SynSubset-N, AsynDgan or AsynDgan-Overlap.
    #[arg(long, requires = "run")]
    arm: Option<Arm>,
    /// A generator.safetensors by itself, for other masks than its run's.
    #[arg(long, conflicts_with = "run", requires_all = ["conditions", "out"])]
    generator: Option<PathBuf>,
    /// The folder of masks: PNG or TIFF of nuclei, or NIfTI with tumour labels 1 to 3 and the brain's contour as 4.
    #[arg(long, requires = "generator")]
    conditions: Option<PathBuf>,
    /// Images of each mask; a run says in its settings how many.
    #[arg(long, default_value_t = 1, requires = "generator")]
    count: u32,
    /// The folder that is made.
    #[arg(long, requires = "generator")]
    out: Option<PathBuf>,
    /// One of the run's seeds; of a generator by itself, the seed of its noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where a generator by itself is computed: auto, cpu or cuda.
    #[arg(long, default_value = "auto", requires = "generator")]
    device: String,
}

impl SynthesizeArguments {
    fn go(self) -> Result<()> {
        if let (Some(run), Some(arm)) = (&self.run, self.arm) {
            return synthesize::synthesize(&RunFolder::open_arm(run, arm, self.seed)?, arm, self.seed);
        }
        let (Some(generator), Some(conditions), Some(out)) = (&self.generator, &self.conditions, &self.out) else {
            bail!("say of which --run and --arm, or with which --generator of which --conditions into which --out");
        };
        let (count, seed, device) = (self.count, self.seed, device(&self.device)?);
        from_masks::from_masks(&from_masks::FromMasks { generator, conditions, count, seed, out, device })
    }
}

#[derive(Subcommand)]
enum Command {
    /// Read or make the images, and share them out to sites.
    Prepare(Where),
    /// Try a few rounds and say how long the whole will take.
    Estimate(Where),
    /// Train an arm's generator through the protocol.
    Train(Which),
    /// Make synthetic images: an arm's of a run, or anyone's masks with a generator by itself.
    #[command(after_help = SYNTHESIZE)]
    Synthesize(SynthesizeArguments),
    /// Train a segmenter on synthetic images, or on a hospital's own.
    #[command(after_help = SEGMENTER)]
    TrainSegmenter {
        /// Cases: an arm's folder synthetic of a run, the cases of `synthesize --generator`, or folders that `data prepare` wrote.
        #[arg(long, required = true, num_args = 1..)]
        cases: Vec<PathBuf>,
        /// What they show.
        #[arg(long)]
        images: Images,
        /// Whose segmenter settings: smoke, desk or paper.
        #[arg(long, default_value = "desk")]
        profile: Profile,
        /// Another value of one of the profile's settings, as NAME=VALUE.
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = Settings::change)]
        set: Vec<(String, serde_json::Value)>,
        /// By what the pictures of tissue were shrunk: 2 for those of a desk run, for your own what `data prepare` was told.
        #[arg(long)]
        shrink: Option<usize>,
        /// Seed of weights and batches.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// auto, cpu or cuda.
        #[arg(long, default_value = "auto")]
        device: String,
        /// Where the segmenter goes; a CSV of its loss and an event file go beside it under the same name.
        #[arg(long)]
        out: PathBuf,
    },
    /// Segment images; every mask lies on its image's own grid.
    #[command(after_help = SEGMENTER)]
    Segment {
        /// NIfTI volumes of brains, or PNG or TIFF pictures of tissue.
        #[arg(required = true)]
        images: Vec<PathBuf>,
        /// A segmenter that `evaluate` or `train-segmenter` left.
        #[arg(long)]
        segmenter: PathBuf,
        /// auto, cpu or cuda.
        #[arg(long, default_value = "auto")]
        device: String,
        /// The folder for the masks.
        #[arg(long)]
        out: PathBuf,
    },
    /// Train an arm's segmenter and score it on the held-out cases.
    Evaluate(Which),
    /// Train and score segmenters of the generators that an arm's training kept on the way.
    Curve(Which),
    /// Make the table, the pictures and the report of a run; of several, one report of all.
    #[command(after_help = REPORT)]
    Report {
        /// The folder of a run; several may be named.
        #[arg(long, required = true, num_args = 1..)]
        run: Vec<PathBuf>,
        /// Where the report goes; report.html in the run's folder unless given, which several runs need.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Score segmentations, whoever made them, against their truth.
    Score(score::ScoreArguments),
    /// Serve a run over several hospitals: own the generator, wait for sites to dial in.
    #[command(after_help = SERVER)]
    Server {
        /// The server's configuration; `asyndgan init server` writes one.
        #[arg(long)]
        config: PathBuf,
    },
    /// Take part in a run as a hospital: hold data and discriminator, dial the server.
    #[command(after_help = SITE, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Site {
        /// The site's configuration; `asyndgan init site` writes one.
        #[arg(long, required = true)]
        config: Option<PathBuf>,
        #[command(subcommand)]
        command: Option<SiteCommand>,
    },
    /// Write a commented configuration.
    #[command(subcommand)]
    Init(InitCommand),
    /// The consortium's certificates.
    #[command(subcommand, after_help = KEYS)]
    Keys(KeysCommand),
    /// Check a site before the day: data, certificate, clock, the way to the server, disk, libtorch, policy, bytes and hours.
    Doctor {
        /// The site's configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// What travelled in a server's or a site's run, beside what other ways would have moved.
    Ledger {
        /// The folder of the run, as the configuration names it.
        folder: PathBuf,
        /// Also draw it, as PNG or SVG.
        #[arg(long)]
        plot: Option<PathBuf>,
    },
    /// A site's journal of everything that left.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Look at image folders, prepare them, and hand on synthetic images.
    #[command(subcommand)]
    Data(DataCommand),
}

#[derive(Subcommand)]
enum SiteCommand {
    /// Show the run that the server describes, in plain words, with what it means for privacy; take part in it if you agree.
    Approve {
        /// The site's configuration.
        #[arg(long)]
        config: PathBuf,
        /// The run's description from a file that the operator sent (description.json of the server's folder), instead of the server.
        #[arg(long)]
        description: Option<PathBuf>,
        /// Agree without being asked.
        #[arg(long)]
        yes: bool,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().step {
        Command::Prepare(at) => RunFolder::open(&at.run).and_then(|run| prepare::prepare(&run)),
        Command::Estimate(at) => RunFolder::open(&at.run).and_then(|run| train::estimate(&run)),
        Command::Train(which) => which.open().and_then(|run| train::train(&run, which.arm, which.seed)),
        Command::Synthesize(arguments) => arguments.go(),
        Command::TrainSegmenter { cases, images, profile, set, shrink, seed, device: on, out } => {
            let experiment = images.experiment();
            device(&on).and_then(|device| {
                let (cases, set, out) = (&cases[..], &set[..], out.as_path());
                train_segmenter::train_segmenter(&SegmenterJob { cases, experiment, profile, set, shrink, seed, out, device })
            })
        }
        Command::Segment { images, segmenter, device: on, out } => {
            device(&on).and_then(|on| segment::segment(&images, &segmenter, &out, on))
        }
        Command::Evaluate(which) => which.open().and_then(|run| evaluate::evaluate(&run, which.arm, which.seed)),
        Command::Curve(which) => which.open().and_then(|run| evaluate::curve(&run, which.arm, which.seed)),
        Command::Report { run, out } => report::report(&run, out),
        Command::Score(arguments) => score::score(&arguments),
        Command::Data(command) => data_command::run(command),
        Command::Server { config } => consortium::server(&config),
        Command::Site { command: Some(SiteCommand::Approve { config, description, yes }), .. } => {
            consortium::approve(&config, description.as_deref(), yes)
        }
        Command::Site { config: Some(config), .. } => consortium::site(&config),
        // clap asks for one of both.
        Command::Site { config: None, .. } => Ok(()),
        Command::Init(command) => consortium::init(command),
        Command::Keys(command) => consortium::keys(command),
        Command::Doctor { config } => consortium::doctor(&config),
        Command::Ledger { folder, plot } => consortium::ledger(&folder, plot.as_deref()),
        Command::Journal(command) => consortium::journal(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! The workloads that `cargo xtask bench` compares with PyTorch (`peer.py`): one process per measurement, one JSON line
//! of output.
#![allow(missing_docs, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark looks at the clock and prints")]

mod growth;

use std::{error::Error, fs, path::PathBuf, time::Instant};

use asyndgan::in_process::InProcess;
use asyndgan_data::{Case, CaseOrigin, CaseSet, Placement, TestCase, write_cases};
use asyndgan_evaluator::{SegmenterTraining, predict, train_segmenter};
use asyndgan_models::{
    AdamConfig, Conditioning, DiscriminatorConfig, GeneratorConfig, NoiseInjection, Norm, ResNetConfig, Segmenter, SegmenterConfig,
    Upsample, set_threads,
};
use asyndgan_paper::Experiment;
use asyndgan_protocol::{Role, RunDescription, Symmetry, stream};
use asyndgan_task::Task;
use asyndgan_training::{GanConfig, Pairs, Precision};
use asyndgan_transport::ServerRunEvent;
use clap::{Args, Parser, Subcommand};
use ndarray::{Array3, Array4, Axis};
use rand::RngExt;
use tch::{Device, Kind, Tensor};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    work: Option<Work>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Work {
    /// Rounds of the whole protocol: a server and its sites, each on its own thread; adversarial loss only, instance
    /// norm, dropout.
    Round(Round),
    /// Steps of the desk profile's segmenter on images of brains.
    Segmenter {
        #[arg(long, default_value_t = 60)]
        steps: usize,
        #[arg(long)]
        bfloat16: bool,
    },
    /// Segmentation of 100 slices of 240 x 240, scaled to 72 x 72, in windows of 64 that start at most half a window
    /// apart.
    Segment,
    /// How the cost of a round scales: prints Markdown and writes a plot.
    Growth {
        #[arg(long)]
        out: PathBuf,
    },
    /// Opens prepared cases as a site does: prints seconds, memory in MB, and the milliseconds of a batch of 8.
    OpenCases { folder: PathBuf },
}

#[derive(Args)]
struct Round {
    #[arg(long, default_value_t = 64)]
    size: i64,
    #[arg(long, default_value_t = 16)]
    width: i64,
    #[arg(long, default_value_t = 10)]
    sites: u32,
    #[arg(long, default_value_t = 1)]
    batch: u32,
    #[arg(long, default_value_t = 9)]
    blocks: usize,
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    #[arg(long)]
    bfloat16: bool,
    #[arg(long, default_value = "cpu")]
    device: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = match Cli::parse().work {
        Some(Work::Round(round)) => round.seconds()?,
        Some(Work::Segmenter { steps, bfloat16 }) => segmenter(steps, precision(bfloat16))?,
        Some(Work::Segment) => segment(),
        Some(Work::Growth { out }) => {
            print!("{}", growth::growth(&out)?);
            return Ok(());
        }
        Some(Work::OpenCases { folder }) => {
            println!("{}", growth::open_cases(folder)?);
            return Ok(());
        }
        None => return Ok(()),
    };
    let peak_kib: u64 = fs::read_to_string("/proc/self/status")?
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    println!("{{\"seconds\": {seconds:?}, \"peak_bytes\": {}}}", peak_kib * 1024);
    Ok(())
}

fn segmenter_config() -> SegmenterConfig {
    SegmenterConfig::new(1, 2).with(|network| {
        network.width = 16;
        network.depth = 3;
    })
}

/// The task of the paper's Table 1.
fn tumour() -> &'static Task {
    Experiment::Table1.task().expect("a task of the paper")
}

fn precision(bfloat16: bool) -> Precision {
    if bfloat16 { Precision::Bfloat16 } else { Precision::Float32 }
}

fn segmenter(steps: usize, precision: Precision) -> Result<Vec<f64>, Box<dyn Error>> {
    const FIRST: usize = 5;
    set_threads(2);
    let mut rng = stream(0, Role::Segmenter, 0, 0);
    let case = |i: usize| {
        let image = Array3::from_shape_fn((1, 72, 72), |_| rng.random_range(-1.0..1.0_f32));
        let condition = image.index_axis(Axis(0), 0).mapv(|v| u8::from(v > 0.5));
        Case { id: i.to_string(), image, condition }
    };
    let cases: Vec<Case> = (0..256).map(case).collect();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("cases.safetensors");
    write_cases(&file, CaseOrigin::default(), &cases)?;
    let training = SegmenterTraining::new(segmenter_config(), (FIRST + steps) as u64).with(|training| {
        training.batch = 8;
        training.crop = 64;
        training.learning_rate = 1e-3;
        training.colour_jitter = 0.1;
        training.stain_jitter = 0.0;
        training.quarter_turns = false;
        training.precision = precision;
    });
    let mut ends = Vec::new();
    train_segmenter(&training, tumour(), &CaseSet::open(&[file])?, Device::Cpu, &mut rng, |_, _| ends.push(Instant::now()))?;
    Ok(between(&ends[FIRST - 1..]))
}

fn segment() -> Vec<f64> {
    set_threads(2);
    let segmenter = Segmenter::new(&segmenter_config(), Device::Cpu, &mut stream(0, Role::Segmenter, 0, 0));
    let images = Array4::from_shape_fn((100, 1, 72, 72), |(z, _, y, x)| ((z * 7 + y * x) as f32 * 0.01).sin());
    let case = TestCase {
        id: "bench".into(),
        images,
        content: Placement::whole(72, 72),
        truth: Array3::zeros((100, 240, 240)),
        spacing_mm: [1.0; 3],
    };
    let mut ends = vec![Instant::now()];
    for _ in 0..6 {
        predict(&segmenter, tumour(), &case, 64, Device::Cpu);
        ends.push(Instant::now());
    }
    between(&ends[1..])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn between(ends: &[Instant]) -> Vec<f64> {
    ends.windows(2).map(|w| (w[1] - w[0]).as_secs_f64()).collect()
}

/// Warm-up rounds.
const FIRST: usize = 3;

impl Round {
    /// Arithmetic of the convolutions, in 1e9 operations: forwards and backwards through the generator; through the
    /// discriminator with real and synthetic images, and once more for the feedback, which needs no gradient of
    /// weights.
    fn gflop(&self) -> f64 {
        let conv = |kernel: i64, from: i64, to: i64, side: i64| (2 * kernel * kernel * from * to * side * side) as f64;
        let (s, w) = (self.size, self.width);
        let ends = conv(7, 1, w, s) + conv(7, w, 1, s);
        let scales = 2.0 * (conv(3, w, 2 * w, s / 2) + conv(3, 2 * w, 4 * w, s / 4));
        let generator = ends + scales + (2 * self.blocks) as f64 * conv(3, 4 * w, 4 * w, s / 4);
        let halvings = conv(4, 2, w, s / 2) + conv(4, w, 2 * w, s / 4) + conv(4, 2 * w, 4 * w, s / 8);
        let discriminator = halvings + conv(4, 4 * w, 8 * w, s / 8 - 1) + conv(4, 8 * w, 1, s / 8 - 2);
        f64::from(self.sites * self.batch) * (3.0 * generator + 8.0 * discriminator) / 1e9
    }

    fn seconds(&self) -> Result<Vec<f64>, Box<dyn Error>> {
        let device = if self.device == "cuda" { Device::Cuda(0) } else { Device::Cpu };
        let adam = AdamConfig { learning_rate: 2e-4, beta_1: 0.5, beta_2: 0.999 };
        let Self { width, blocks, .. } = *self;
        let (norm, upsample, noise, conditioning) = (Norm::Instance, Upsample::Transposed, NoiseInjection::Dropout, Conditioning::Input);
        let network = ResNetConfig::new(1, 1).with(|network| {
            network.width = width;
            network.blocks = blocks;
            network.norm = norm;
            network.upsample = upsample;
            network.noise = noise;
            network.conditioning = conditioning;
        });
        let config =
            GanConfig::new(GeneratorConfig::ResNet(network), DiscriminatorConfig::Patch { channels: 2, width, norm, spectral: false }, 1)
                .with(|config| {
                    config.generator_adam = adam;
                    config.discriminator_adam = adam;
                    config.precision = precision(self.bfloat16);
                });
        let run = RunDescription::new("bench", (FIRST + self.rounds) as u64).with(|run| {
            run.batch = self.batch;
            run.size = self.size as u32;
            run.crop = self.size as u32;
            run.symmetry = Symmetry::Flips;
            run.checkpoint_every = 1_000_000;
            run.site_threads = if self.sites == 1 { 2 } else { 1 };
            run.networks = config.description();
        });
        let folder = tempfile::tempdir()?;
        let site = |i: u32| {
            let (cases, size) = (i64::from(run.batch).max(4), self.size);
            let images = (Tensor::arange(cases * size * size, (Kind::Float, Device::Cpu)) * 0.1 + f64::from(i)).sin();
            let images = images.view([cases, 1, size, size]);
            Pairs::new(images.shallow_clone(), images.gt(0.5).to_kind(Kind::Uint8))
        };
        let sites = (0..self.sites).map(site).collect();
        let mut job = InProcess::new(config, run, folder.path());
        job.device = device;
        job.server_threads = 2;
        let mut ends = Vec::new();
        job.train(sites, |_, news, _| {
            if let ServerRunEvent::Round { .. } = news {
                ends.push(Instant::now());
            }
        })?;
        Ok(between(&ends[FIRST - 1..]))
    }
}

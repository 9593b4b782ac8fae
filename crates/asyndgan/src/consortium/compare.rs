use anyhow::Result;
use asyndgan_models::{Discriminator, Generator};
use asyndgan_protocol::{Role, RunDescription, stream};
use asyndgan_training::{GanConfig, ServerTrainer, SiteTrainer};
use serde::{Deserialize, Serialize};
use tch::Device;

/// Bytes of one value of a network when models are exchanged.
const VALUE_BYTES: f64 = 4.0;
/// Bytes of one value of an image when the data are shared once: those of 16-bit volumes; pictures have one.
const IMAGE_VALUE_BYTES: f64 = 2.0;
/// Local steps between two exchanges of models, and epochs between two swaps of discriminators, as in the papers.
const FEDGAN_STEPS: f64 = 20.0;
const MDGAN_EPOCHS: f64 = 1.0;

/// The traffic that other methods would cause for the same training.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Alternatives {
    /// Rounds that are compared.
    rounds: u64,
    /// Sites that this comparison is for: all at the server, one at a site.
    sites: u64,
    /// Values of one site's batch of images.
    batch_values: u64,
    /// Bytes of one site's synthetic batch and of its feedback, as they travel.
    round_bytes: (u64, u64),
    /// Pairs of one site in a round.
    batch: u64,
    /// All cases of these sites.
    cases: u64,
    /// Values of one image.
    image_values: u64,
    generator_values: u64,
    discriminator_values: u64,
}

/// One training method.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    /// How `bytes` is computed, as text.
    pub(crate) formula: String,
    pub(crate) bytes: f64,
}

impl Alternatives {
    pub(super) fn compute(run: &RunDescription, server: &ServerTrainer) -> Result<Self> {
        let conditions: Vec<_> = server.conditions().collect();
        let cases = conditions.iter().map(|(_, codes)| codes.size()[0] as u64).sum();
        let channels = match GanConfig::from_description(&run.networks)?.generator {
            asyndgan_models::GeneratorConfig::ResNet(asyndgan_models::ResNetConfig { image_channels, .. })
            | asyndgan_models::GeneratorConfig::Mlp { image_channels, .. } => image_channels as u32,
        };
        let rows = conditions.first().map_or(0, |(_, codes)| codes.size()[2] as u32);
        Self::with(run, conditions.len() as u64, cases, &[channels, rows, rows])
    }

    pub(super) fn at_site(run: &RunDescription, site: &SiteTrainer) -> Result<Self> {
        let summary = site.data();
        Self::with(run, 1, summary.cases.into(), &summary.image_dims)
    }

    /// The comparison after so many rounds, instead of all of the run.
    pub(super) fn after(self, rounds: u64) -> Self {
        Self { rounds: rounds.max(1), ..self }
    }

    fn with(run: &RunDescription, sites: u64, cases: u64, image_dims: &[u32]) -> Result<Self> {
        let config = GanConfig::from_description(&run.networks)?;
        let mut rng = stream(0, Role::GeneratorWeights, 0, 0);
        Ok(Self {
            rounds: run.rounds,
            sites,
            batch_values: run.batch_dims(image_dims).iter().map(|&d| u64::from(d)).product(),
            round_bytes: run.round_bytes(image_dims),
            batch: run.batch.into(),
            cases,
            image_values: image_dims.iter().map(|&d| u64::from(d)).product(),
            generator_values: Generator::new(&config.generator, Device::Cpu, &mut rng).parameters.count() as u64,
            discriminator_values: Discriminator::new(&config.discriminator, Device::Cpu, &mut rng).parameters.count() as u64,
        })
    }

    /// This method first, then the others.
    pub(super) fn ways(&self) -> Vec<Way> {
        let Self { rounds, sites, batch_values, round_bytes, batch, cases, image_values, generator_values, discriminator_values } = *self;
        let (rounds, sites) = (rounds as f64, sites as f64);
        let (generator, discriminator) = (generator_values as f64 * VALUE_BYTES, discriminator_values as f64 * VALUE_BYTES);
        let ours = (round_bytes.0 + round_bytes.1) as f64;
        // Rounds in which a site sees each of its cases once.
        let epoch = (cases as f64 / sites / batch as f64).max(1.0);
        let swaps = rounds / (epoch * MDGAN_EPOCHS);
        vec![
            Way {
                name: "AsynDGAN (this)",
                formula: format!("{rounds} rounds x {sites} sites x (synthetic {} B + feedback {} B)", round_bytes.0, round_bytes.1),
                bytes: rounds * sites * ours,
            },
            Way {
                name: "FedGAN",
                formula: format!(
                    "{rounds} steps / {FEDGAN_STEPS} x {sites} sites x 2 x (generator {generator_values} + discriminator {discriminator_values} values)"
                ),
                bytes: rounds / FEDGAN_STEPS * sites * 2.0 * (generator + discriminator),
            },
            Way {
                name: "MD-GAN",
                formula: format!(
                    "{rounds} rounds x {sites} sites x 3 batches of {batch_values} values + {swaps:.1} swaps of all discriminators"
                ),
                // Two batches of images and one of feedback, in the types of this run.
                bytes: rounds * sites * (2.0 * round_bytes.0 as f64 + round_bytes.1 as f64) + swaps * sites * discriminator,
            },
            Way {
                name: "sharing the data",
                formula: format!("{cases} cases x {image_values} values, once; the images leave their hospitals"),
                bytes: cases as f64 * image_values as f64 * IMAGE_VALUE_BYTES,
            },
        ]
    }

    /// Under which conditions each method is cheaper, as sentences.
    pub(super) fn verdicts(&self) -> Vec<String> {
        let ours = (self.round_bytes.0 + self.round_bytes.1) as f64;
        let models = 2.0 * (self.generator_values + self.discriminator_values) as f64 * VALUE_BYTES;
        let shared = self.cases as f64 * self.image_values as f64 * IMAGE_VALUE_BYTES / self.sites as f64;
        let steps = (models / ours).ceil();
        let often = if steps > 1.0 { format!("if it happens every {steps} steps or less often") } else { "however often".into() };
        vec![
            format!(
                "Exchanging models transfers less {often} (here every {FEDGAN_STEPS} steps): {}.",
                if models / FEDGAN_STEPS < ours { "it would be cheaper than this run" } else { "this run is cheaper" }
            ),
            format!(
                "Sharing the data transfers less from {:.0} rounds on (here {}): {}; but then images leave their hospitals.",
                shared / ours,
                self.rounds,
                if shared < ours * self.rounds as f64 { "it would be cheaper than this run" } else { "this run is cheaper" }
            ),
            "MD-GAN sends two synthetic batches per feedback, and swaps discriminators between hospitals: it always transfers more.".into(),
        ]
    }
}

use serde::{Deserialize, Serialize};

use crate::{Experiment, Profile};

/// Every number that decides what a run computes; written into the run's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Sites, if the data allow as many.
    pub sites: u32,
    /// Rows and columns that pairs are stored with.
    pub size: usize,
    /// Rows and columns that networks see.
    pub crop: usize,
    /// Tiles are shrunk by this first (nuclei).
    pub shrink: usize,
    /// Channels after the generator's first convolution, or hidden units.
    pub generator_width: i64,
    /// Residual blocks of the generator.
    pub generator_blocks: usize,
    /// Channels after the discriminator's first convolution, or hidden units.
    pub discriminator_width: i64,
    /// Batch norm as in the public code; else instance norm.
    pub batch_norm: bool,
    /// Adam's step size of both.
    pub learning_rate: f64,
    /// Adam's decay of the first moment.
    pub beta_1: f64,
    /// Adam's decay of the second moment.
    pub beta_2: f64,
    /// Rounds, one generator step each.
    pub rounds: u64,
    /// Pairs of every site in a round; a GAN on all data sees as many in all.
    pub batch: u32,
    /// Sites weigh the same, as in the public code; else by their share of cases.
    pub uniform_weights: bool,
    /// Weight of the L1 term.
    pub l1_weight: f64,
    /// Both ends keep a checkpoint after so many rounds.
    pub checkpoint_every: u64,
    /// Synthetic images made of every condition (of brains: one of the condition itself, the others with another slice's tumour).
    pub synthetic_per_condition: usize,
    /// Channels of the segmenter's first level.
    pub segmenter_width: i64,
    /// Halvings of the segmenter.
    pub segmenter_depth: usize,
    /// The segmenter's optimiser steps.
    pub segmenter_steps: u64,
    /// Images in a segmenter's step.
    pub segmenter_batch: usize,
    /// The segmenter's step size.
    pub segmenter_learning_rate: f64,
    /// Random scaling and shift of every channel of the segmenter's images, in every arm alike.
    pub colour_jitter: f32,
    /// Artificial patients or tiles of every site, when there are no real data; values of every site in the toy experiment.
    pub phantoms_per_site: usize,
    /// Artificial patients or tiles that are held out; values drawn for the toy's histogram.
    pub phantoms_held_out: usize,
    /// Threads of one libtorch operation at the server, in synthesis and in the segmenter.
    pub server_threads: u32,
    /// Threads of one libtorch operation at a site.
    pub site_threads: u32,
}

impl Settings {
    /// The settings of an experiment under a profile.
    ///
    /// # Reference
    /// The `paper` profile is section 4 and the public code; batch 1 a site for brains, 4 for nuclei.
    pub fn new(experiment: Experiment, profile: Profile) -> Self {
        let desk = Self {
            sites: 10,
            size: 72,
            crop: 64,
            shrink: 2,
            generator_width: 16,
            generator_blocks: 6,
            discriminator_width: 16,
            batch_norm: false,
            learning_rate: 2e-4,
            beta_1: 0.5,
            beta_2: 0.999,
            rounds: 1500,
            batch: 1,
            uniform_weights: false,
            l1_weight: 10.0,
            checkpoint_every: 100,
            synthetic_per_condition: 5,
            segmenter_width: 16,
            segmenter_depth: 3,
            segmenter_steps: 500,
            segmenter_batch: 8,
            segmenter_learning_rate: 1e-3,
            colour_jitter: 0.1,
            phantoms_per_site: 5,
            phantoms_held_out: 20,
            server_threads: 2,
            site_threads: 1,
        };
        let by_experiment = match experiment {
            Experiment::Table1 => desk,
            Experiment::Table2 => Self { sites: 4, batch: 4, phantoms_per_site: 4, phantoms_held_out: 12, ..desk },
            Experiment::Fig5 => return Self::toy(desk, profile),
        };
        match profile {
            Profile::Desk => by_experiment,
            Profile::Smoke => Self {
                rounds: 6,
                checkpoint_every: 3,
                generator_width: 4,
                generator_blocks: 1,
                discriminator_width: 4,
                synthetic_per_condition: 1,
                segmenter_width: 4,
                segmenter_steps: 12,
                segmenter_batch: 4,
                phantoms_per_site: 1,
                phantoms_held_out: 2,
                ..by_experiment
            },
            Profile::Paper => Self {
                size: 286,
                crop: 256,
                shrink: 1,
                generator_width: 64,
                generator_blocks: 9,
                discriminator_width: 64,
                batch_norm: true,
                uniform_weights: true,
                // 200 epochs: of some 1,100 slices a site, of 64 patches a site in batches of 4.
                rounds: if experiment == Experiment::Table1 { 220_000 } else { 3_200 },
                l1_weight: 100.0,
                checkpoint_every: 500,
                segmenter_width: 64,
                segmenter_depth: 4,
                segmenter_steps: 20_000,
                ..by_experiment
            },
        }
    }

    fn toy(desk: Self, profile: Profile) -> Self {
        let toy = Self {
            sites: 3,
            size: 0,
            crop: 0,
            generator_width: 64,
            generator_blocks: 0,
            discriminator_width: 64,
            learning_rate: 1e-3,
            rounds: 6_000,
            batch: 256,
            l1_weight: 0.0,
            checkpoint_every: 1_000,
            synthetic_per_condition: 1,
            phantoms_per_site: 10_000,
            phantoms_held_out: 30_000,
            server_threads: 1,
            ..desk
        };
        match profile {
            Profile::Smoke => Self { rounds: 60, checkpoint_every: 30, batch: 64, phantoms_per_site: 500, phantoms_held_out: 3_000, ..toy },
            Profile::Desk => toy,
            Profile::Paper => Self { rounds: 30_000, ..toy },
        }
    }
}

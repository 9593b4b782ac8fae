//! The values of every profile.

use asyndgan_task::{ImageKind, Task};

use super::{
    ComputeSettings, DataSettings, DiscriminatorSettings, FederatedSettings, GanLossSetting, GeneratorSettings, OptimiserSettings,
    PrivacySettings, ProtocolSettings, SegmenterSettings, Settings, SynthesisSettings,
};
use crate::{Experiment, Profile};

impl Settings {
    /// The settings of an experiment of the paper with a profile.
    ///
    /// # Reference
    /// The `paper` profile follows section 4 and the public code: batch 1 per site for brains, 4 for nuclei.
    pub fn new(experiment: Experiment, profile: Profile) -> Self {
        match experiment {
            Experiment::Fig5 => Self::toy(profile),
            Experiment::Table2 => Self::of_images(ImageKind::Pictures, profile),
            Experiment::Table1 | Experiment::Custom => Self::of_images(ImageKind::Volumes, profile),
        }
    }

    /// The settings of a task of one's own with a profile.
    pub fn of_task(task: &Task, profile: Profile) -> Self {
        let mut settings = Self::of_images(task.images, profile);
        // Several patients in every batch, as a hospital's default policy requires.
        settings.protocol.batch = settings.protocol.batch.max(2);
        settings
    }

    fn of_images(images: ImageKind, profile: Profile) -> Self {
        let mut settings = Self::desk();
        if images == ImageKind::Pictures {
            let Self { data, protocol, synthesis, segmenter, .. } = &mut settings;
            data.sites = 4;
            // 16 patches of 286 at full resolution, as in the paper, are patches of 143 here.
            data.size = 143;
            data.quarter_turns = true;
            data.phantoms_per_site = 4;
            protocol.batch = 2;
            synthesis.per_condition = 20;
            segmenter.stain_jitter = 0.2;
        }
        match profile {
            Profile::Desk => {}
            Profile::Smoke => settings.shrink_to_smoke(),
            Profile::Paper => settings.change_to_paper(images),
        }
        settings
    }

    /// Everything as small as possible.
    fn shrink_to_smoke(&mut self) {
        let Self { data, generator, discriminator, protocol, synthesis, segmenter, federated, .. } = self;
        data.phantoms_per_site = 1;
        data.phantoms_held_out = 2;
        generator.width = 4;
        generator.blocks = 1;
        discriminator.width = 4;
        protocol.rounds = 6;
        protocol.checkpoint_every = 3;
        synthesis.per_condition = 1;
        synthesis.curve_points = 1;
        segmenter.width = 4;
        segmenter.steps = 12;
        segmenter.batch = 4;
        federated.local_steps = 4;
        federated.exchange_every = 2;
    }

    /// The published recipe.
    fn change_to_paper(&mut self, images: ImageKind) {
        let Self { data, generator, discriminator, optimiser, protocol, synthesis, segmenter, .. } = self;
        data.size = 286;
        data.crop = 256;
        data.downsampling = 1;
        data.quarter_turns = false;
        *generator = GeneratorSettings {
            width: 64,
            blocks: 9,
            batch_norm: true,
            resize_convolution: false,
            noise_code: 0,
            site_code: false,
            guided: false,
            average_decay: 0.0,
        };
        *discriminator = DiscriminatorSettings { width: 64, spectral_norm: false, augmentation: 0.0 };
        optimiser.discriminator_learning_rate = 2e-4;
        protocol.gan_loss = GanLossSetting::CrossEntropy;
        protocol.l1_weight = 100.0;
        protocol.uniform_weights = true;
        protocol.checkpoint_every = 500;
        // 200 epochs: of some 1,100 slices a site, of 64 patches a site in batches of 4.
        (protocol.rounds, protocol.batch) = match images {
            ImageKind::Volumes => (220_000, 1),
            ImageKind::Pictures => (3_200, 4),
        };
        synthesis.per_condition = 5;
        segmenter.width = 64;
        segmenter.depth = 4;
        segmenter.steps = 20_000;
        segmenter.stain_jitter = 0.0;
    }

    /// Volumes with the desk profile.
    fn desk() -> Self {
        Self {
            data: DataSettings {
                sites: 10,
                size: 72,
                crop: 64,
                downsampling: 2,
                flips: true,
                quarter_turns: false,
                phantoms_per_site: 5,
                phantoms_held_out: 40,
            },
            generator: GeneratorSettings {
                width: 16,
                blocks: 6,
                batch_norm: false,
                resize_convolution: true,
                noise_code: 16,
                site_code: true,
                guided: true,
                average_decay: 0.995,
            },
            discriminator: DiscriminatorSettings { width: 32, spectral_norm: false, augmentation: 0.5 },
            optimiser: OptimiserSettings { generator_learning_rate: 2e-4, discriminator_learning_rate: 8e-4, beta_1: 0.5, beta_2: 0.999 },
            protocol: ProtocolSettings {
                rounds: 5000,
                batch: 1,
                gan_loss: GanLossSetting::Segmentation,
                l1_weight: 0.0,
                uniform_weights: false,
                checkpoint_every: 100,
            },
            synthesis: SynthesisSettings { per_condition: 5, whole: false, curve_points: 3 },
            segmenter: SegmenterSettings {
                width: 16,
                depth: 3,
                steps: 1200,
                batch: 8,
                learning_rate: 1e-3,
                own_share: 0.5,
                colour_jitter: 0.1,
                stain_jitter: 0.0,
            },
            compute: ComputeSettings { bfloat16: false, server_threads: 2, site_threads: 1 },
            privacy: PrivacySettings::default(),
            federated: FederatedSettings::default(),
        }
    }

    fn toy(profile: Profile) -> Self {
        let mut settings = Self::desk();
        let Self { data, generator, discriminator, optimiser, protocol, synthesis, compute, .. } = &mut settings;
        data.sites = 3;
        data.size = 0;
        data.crop = 0;
        data.phantoms_per_site = 10_000;
        data.phantoms_held_out = 30_000;
        generator.width = 64;
        generator.blocks = 0;
        generator.noise_code = 0;
        generator.site_code = false;
        generator.guided = false;
        generator.resize_convolution = false;
        *discriminator = DiscriminatorSettings { width: 64, spectral_norm: false, augmentation: 0.0 };
        optimiser.generator_learning_rate = 1e-3;
        optimiser.discriminator_learning_rate = 1e-3;
        protocol.gan_loss = GanLossSetting::CrossEntropy;
        protocol.rounds = 6_000;
        protocol.batch = 256;
        protocol.checkpoint_every = 1_000;
        synthesis.per_condition = 1;
        synthesis.curve_points = 0;
        compute.server_threads = 1;
        match profile {
            Profile::Smoke => {
                protocol.rounds = 60;
                protocol.checkpoint_every = 30;
                protocol.batch = 64;
                data.phantoms_per_site = 500;
                data.phantoms_held_out = 3_000;
            }
            Profile::Desk => {}
            Profile::Paper => {
                protocol.rounds = 30_000;
                generator.average_decay = 0.0;
            }
        }
        settings
    }
}

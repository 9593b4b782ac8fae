use std::{collections::BTreeMap, path::Path};

use asyndgan_models::{Adam, Generator, GeneratorConfig, Noise, Norm};
use asyndgan_protocol::{Augmentation, Losses, Payload, Role, RunDescription, ServerWork, stream};
use tch::{Device, Kind, Tensor};

use crate::{
    Error, GanConfig,
    checkpoints::Checkpoints,
    config::learning_rate_scale,
    tensors::{choose, condition_planes, payload_of, tensor_of},
};

/// The server's work: holds the generator and the masks that sites sent, never an image of a patient.
#[derive(Debug)]
pub struct ServerTrainer {
    config: GanConfig,
    run: RunDescription,
    device: Device,
    checkpoints: Checkpoints,
    generator: Generator,
    adam: Adam,
    codes: Vec<Tensor>,
    weights: Vec<f64>,
    /// The round's synthetic images, with the graph that leads back to the generator.
    synthetic: Option<Vec<Tensor>>,
    /// Losses of every round done, `[sites, 2]` each.
    losses: Vec<Vec<f32>>,
}

impl ServerTrainer {
    /// A trainer with checkpoints in a folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(config: GanConfig, run: RunDescription, folder: &Path, device: Device) -> Result<Self, Error> {
        let mut weights = stream(run.seed, Role::GeneratorWeights, 0, 0);
        let generator = Generator::new(&config.generator, device, &mut weights);
        let adam = Adam::new(config.generator_adam, &generator.parameters);
        let checkpoints = Checkpoints::open(folder, "server".into())?;
        let (codes, weights, losses) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { config, run, device, checkpoints, generator, adam, codes, weights, synthetic: None, losses })
    }

    /// The generator as it is.
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// Condition codes of every site, in order, `[cases, 1, rows, columns]` each.
    pub fn conditions(&self) -> &[Tensor] {
        &self.codes
    }

    /// Losses of every round done: of every site in order the discriminator's, then the generator's.
    pub fn losses(&self) -> &[Vec<f32>] {
        &self.losses
    }

    /// Samples of one image leave each other alone unless batch norm joins them.
    fn one_pass(&self) -> bool {
        !matches!(self.config.generator, GeneratorConfig::ResNet { norm: Norm::Batch, .. })
    }
}

impl ServerWork for ServerTrainer {
    type Error = Error;

    fn checkpoints(&mut self) -> Vec<u64> {
        self.checkpoints.rounds()
    }

    fn begin(&mut self, conditions: Vec<Payload>, weights: &[f64], rounds_done: u64) -> Result<(), Error> {
        let codes = conditions.iter().map(|payload| Ok(tensor_of(payload, self.device)?.unsqueeze(1)));
        self.codes = codes.collect::<Result<_, Error>>()?;
        self.weights = weights.into();
        if rounds_done > 0 {
            let tensors = self.checkpoints.read(rounds_done)?;
            self.generator.parameters.load(&tensors)?;
            self.adam.restore("adam", &tensors)?;
            let width = 2 * weights.len();
            let expected = vec![rounds_done as i64, width as i64];
            let losses = tensors.get("losses").filter(|l| l.size() == expected);
            let losses = losses.ok_or_else(|| asyndgan_models::Error::Mismatch {
                name: "losses".into(),
                expected,
                found: tensors.get("losses").map(Tensor::size),
            })?;
            let mut values = vec![0.0; losses.numel()];
            losses.copy_data(&mut values, losses.numel());
            self.losses = values.chunks_exact(width).map(<[f32]>::to_vec).collect();
        }
        Ok(())
    }

    fn synthesize(&mut self, round: u64, draws: &[(Vec<u32>, Vec<Augmentation>)]) -> Result<Vec<Payload>, Error> {
        let planes = self.codes.iter().zip(draws).map(|(codes, (cases, augmentations))| {
            condition_planes(&choose(codes, cases, augmentations, self.run.crop), self.config.codes)
        });
        let planes: Vec<Tensor> = planes.collect();
        let noise = |site: usize| (planes[site].size()[0], stream(self.run.seed, Role::Dropout, site as u32, round));
        let synthetic: Vec<Tensor> = if self.one_pass() {
            let all = self.generator.forward(&Tensor::cat(&planes, 0), &mut Noise::new((0..planes.len()).map(noise).collect()));
            let sizes: Vec<i64> = planes.iter().map(|p| p.size()[0]).collect();
            all.split_with_sizes(&sizes, 0)
        } else {
            planes.iter().enumerate().map(|(site, p)| self.generator.forward(p, &mut Noise::new(vec![noise(site)]))).collect()
        };
        let payloads = synthetic.iter().map(payload_of).collect();
        self.synthetic = Some(synthetic);
        Ok(payloads)
    }

    fn update(&mut self, round: u64, feedback: &[Payload], losses: &[Losses]) -> Result<(), Error> {
        let synthetic = self.synthetic.take().ok_or(Error::NotBegun)?;
        // The chain rule: the gradient of sum_j pi_j loss_j is the feedback, weighted and pushed through the generator.
        let mut pushed = Tensor::zeros([], (Kind::Float, self.device));
        for ((synthetic, payload), weight) in synthetic.iter().zip(feedback).zip(&self.weights) {
            pushed += (synthetic * tensor_of(payload, self.device)?).sum(Kind::Float) * *weight;
        }
        let finite = losses.iter().all(|l| l.discriminator.is_finite() && l.generator.is_finite());
        let gradient = self.generator.parameters.gradient(&pushed);
        if !finite || !gradient.sum(Kind::Float).double_value(&[]).is_finite() {
            return Err(Error::Diverged { round });
        }
        self.adam.step(&self.generator.parameters, &gradient, learning_rate_scale(round, self.run.rounds));
        self.losses.push(losses.iter().flat_map(|l| [l.discriminator, l.generator]).collect());
        Ok(())
    }

    fn checkpoint(&mut self, rounds_done: u64) -> Result<(), Error> {
        let mut tensors: BTreeMap<String, Tensor> = self.generator.parameters.named();
        tensors.extend(self.adam.state("adam"));
        let flat: Vec<f32> = self.losses.concat();
        tensors.insert("losses".into(), Tensor::from_slice(&flat).view([self.losses.len() as i64, -1]));
        self.checkpoints.write(rounds_done, &tensors)
    }
}

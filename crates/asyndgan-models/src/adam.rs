use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{Error, Parameters};

/// Adam's settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamConfig {
    /// Learning rate; 2e-4 in the paper.
    pub learning_rate: f64,
    /// Decay of the first moment; 0.5 in the paper.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
}

impl Default for AdamConfig {
    /// The paper's settings: learning rate 2e-4, betas 0.5 and 0.999.
    fn default() -> Self {
        Self { learning_rate: 2e-4, beta_1: 0.5, beta_2: 0.999 }
    }
}

/// The Adam optimiser with a state that can be saved and restored, which tch's own optimiser does not support.
///
/// # Reference
/// Kingma and Ba, ICLR 2015; epsilon 1e-8 outside the root, as in PyTorch.
#[derive(Debug)]
pub struct Adam {
    config: AdamConfig,
    steps: i64,
    mean: Tensor,
    square: Tensor,
}

impl Adam {
    /// An optimiser for a network's weights.
    pub fn new(config: AdamConfig, parameters: &Parameters) -> Self {
        Self { config, steps: 0, mean: parameters.flat().zeros_like(), square: parameters.flat().zeros_like() }
    }

    /// Number of steps taken, including those before a restart.
    pub fn steps(&self) -> u64 {
        self.steps as u64
    }

    /// Takes one step against the gradient of all weights, with the learning rate multiplied by `scale`.
    ///
    /// # Shapes
    /// The gradient is flat, `[count]`, as [`Parameters::gradient`] returns it.
    pub fn step(&mut self, parameters: &Parameters, gradient: &Tensor, scale: f64) {
        let AdamConfig { learning_rate, beta_1, beta_2 } = self.config;
        self.steps += 1;
        let correct = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        tch::no_grad(|| {
            let _ = self.mean.lerp_(gradient, 1.0 - beta_1);
            let _ = self.square.lerp_(&gradient.square(), 1.0 - beta_2);
            let mut bottom = self.square.sqrt();
            let _ = bottom.g_div_scalar_(correct(beta_2).sqrt()).g_add_scalar_(1e-8);
            let mut step = &self.mean / bottom;
            let _ = step.g_mul_scalar_(learning_rate * scale / correct(beta_1));
            let _ = parameters.flat().shallow_clone().g_sub_(&step);
        });
    }

    /// The state as named tensors; names start with `prefix`.
    pub fn state(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        BTreeMap::from([
            (format!("{prefix}.mean"), self.mean.shallow_clone()),
            (format!("{prefix}.square"), self.square.shallow_clone()),
            (format!("{prefix}.steps"), Tensor::from_slice(&[self.steps])),
        ])
    }

    /// Restores a saved state.
    ///
    /// # Errors
    /// [`Error::Mismatch`].
    pub fn restore(&mut self, prefix: &str, tensors: &BTreeMap<String, Tensor>) -> Result<(), Error> {
        let get = |name: &str, expected: Vec<i64>| {
            let name = format!("{prefix}.{name}");
            match tensors.get(&name) {
                Some(tensor) if tensor.size() == expected => Ok(tensor.shallow_clone()),
                other => Err(Error::Mismatch { found: other.map(Tensor::size), name, expected }),
            }
        };
        let device = self.mean.device();
        let steps = get("steps", vec![1])?;
        let (mean, square) = (get("mean", self.mean.size())?, get("square", self.square.size())?);
        self.mean = mean.to_device(device).to_kind(Kind::Float);
        self.square = square.to_device(device).to_kind(Kind::Float);
        self.steps = steps.int64_value(&[0]);
        Ok(())
    }
}

use std::collections::BTreeMap;

use rand::Rng;
use rand_distr::{Distribution, Normal};
use tch::{Device, Kind, Tensor};

use crate::{Error, threads::know_processor};

/// A network's weights: one flat tensor that the optimiser updates, and named views of it that the layers use.
#[derive(Debug)]
pub struct Parameters {
    flat: Tensor,
    /// Name, and the view that gradients are taken for.
    views: Vec<(String, Tensor)>,
    buffers: Vec<(String, Tensor)>,
}

/// Initialisation of a tensor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Init {
    /// Normal around a mean with standard deviation 0.02 (the public code).
    Normal(f64),
    /// Normal with standard deviation `sqrt(2 / inputs)`, for ReLU networks.
    FanIn(i64),
    Constant(f64),
}

/// The tensors that layers request while a network is built.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    weights: Vec<(String, Vec<i64>, Init)>,
    buffers: Vec<(String, Vec<i64>, f64)>,
}

/// A layer's handle on its tensor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight(usize);
/// A layer's handle on its running statistics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buffer(usize);

impl Layout {
    pub(crate) fn weight(&mut self, name: String, shape: &[i64], init: Init) -> Weight {
        self.weights.push((name, shape.into(), init));
        Weight(self.weights.len() - 1)
    }

    pub(crate) fn buffer(&mut self, name: String, shape: &[i64], value: f64) -> Buffer {
        self.buffers.push((name, shape.into(), value));
        Buffer(self.buffers.len() - 1)
    }

    pub(crate) fn build(self, device: Device, rng: &mut impl Rng) -> Parameters {
        know_processor();
        let sizes: Vec<i64> = self.weights.iter().map(|w| w.1.iter().product()).collect();
        let mut values: Vec<f32> = Vec::with_capacity(sizes.iter().sum::<i64>() as usize);
        for ((_, _, init), &n) in self.weights.iter().zip(&sizes) {
            let mut normal = |mean: f64, sd: f64| {
                let distribution = Normal::new(mean, sd).expect("finite deviation");
                values.extend((0..n).map(|_| distribution.sample(rng) as f32));
            };
            match *init {
                Init::Normal(mean) => normal(mean, 0.02),
                Init::FanIn(fan_in) => normal(0.0, (2.0 / fan_in as f64).sqrt()),
                Init::Constant(value) => values.extend((0..n).map(|_| value as f32)),
            }
        }
        let flat = Tensor::from_slice(&values).to_device(device);
        let buffers = self.buffers.into_iter().map(|(name, shape, value)| {
            let kind = if shape.is_empty() { Kind::Int64 } else { Kind::Float };
            (name, Tensor::full(shape, value, (kind, device)))
        });
        let buffers = buffers.collect();
        let views = views(&flat, self.weights.into_iter().map(|(name, shape, _)| (name, shape)));
        Parameters { flat, views, buffers }
    }
}

fn views(flat: &Tensor, shapes: impl Iterator<Item = (String, Vec<i64>)>) -> Vec<(String, Tensor)> {
    let mut start = 0;
    shapes
        .map(|(name, shape)| {
            let n = shape.iter().product();
            let view = flat.narrow(0, start, n).view(&shape[..]).detach().set_requires_grad(true);
            start += n;
            (name, view)
        })
        .collect()
}

impl Parameters {
    /// The same tensors, for another thread.
    pub(crate) fn shared(&self) -> Self {
        let all = |named: &[(String, Tensor)]| named.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        Self { flat: self.flat.shallow_clone(), views: all(&self.views), buffers: all(&self.buffers) }
    }

    /// The same network with the values of another flat tensor. Gradients flow to that tensor.
    pub(crate) fn with_values(&self, flat: &Tensor) -> Self {
        let mut start = 0;
        let views = self.views.iter().map(|(name, view)| {
            let (size, n) = (view.size(), view.numel() as i64);
            start += n;
            (name.clone(), flat.narrow(0, start - n, n).view(&size[..]))
        });
        let views = views.collect();
        Self { flat: flat.shallow_clone(), views, buffers: self.buffers.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect() }
    }

    pub(crate) fn get(&self, weight: Weight) -> &Tensor {
        &self.views[weight.0].1
    }

    pub(crate) fn buffer(&self, buffer: Buffer) -> &Tensor {
        &self.buffers[buffer.0].1
    }

    /// Number of trainable values.
    pub fn count(&self) -> i64 {
        self.flat.numel() as i64
    }

    /// All trainable values, `[count]`; writing to it changes the network.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Gradient of a scalar with respect to all trainable values, `[count]`.
    pub fn gradient(&self, scalar: &Tensor) -> Tensor {
        let inputs: Vec<&Tensor> = self.views.iter().map(|v| &v.1).collect();
        let gradients = Tensor::run_backward(&[scalar], &inputs, false, false);
        // What the scalar does not depend on has none: the weights of noise that is off.
        let flat = |(g, v): (&Tensor, &&Tensor)| if g.defined() { g.reshape(-1) } else { v.zeros_like().reshape(-1) };
        Tensor::cat(&gradients.iter().zip(&inputs).map(flat).collect::<Vec<_>>(), 0)
    }

    /// State-dict names with their tensors, running statistics included.
    pub fn named(&self) -> BTreeMap<String, Tensor> {
        self.views.iter().chain(&self.buffers).map(|(name, tensor)| (name.clone(), tensor.detach())).collect()
    }

    /// State-dict names of the trainable values, with values from another flat tensor.
    ///
    /// # Shapes
    /// `[count]`, in the order of [`Parameters::flat`].
    pub fn named_in(&self, flat: &Tensor) -> BTreeMap<String, Tensor> {
        views(flat, self.views.iter().map(|(name, view)| (name.clone(), view.size()))).into_iter().map(|(n, t)| (n, t.detach())).collect()
    }

    /// The weighted sum of the values of several networks, as a state dict, running statistics included. Counts of
    /// batches are those of the first network.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if one of them is another network than the first. The sum of no networks is empty.
    pub fn weighted_sum(networks: &[(&Self, f64)]) -> Result<BTreeMap<String, Tensor>, Error> {
        let mut sum: BTreeMap<String, Tensor> = BTreeMap::new();
        for (number, (network, weight)) in networks.iter().enumerate() {
            let named = network.named();
            if let Some((name, tensor)) = sum.iter().find(|(name, _)| !named.contains_key(*name)) {
                return Err(Error::Mismatch { name: name.clone(), expected: tensor.size(), found: None });
            }
            for (name, tensor) in named {
                let before = sum.get(&name);
                if number > 0 && before.map(Tensor::size) != Some(tensor.size()) {
                    return Err(Error::Mismatch {
                        expected: before.map(Tensor::size).unwrap_or_default(),
                        found: Some(tensor.size()),
                        name,
                    });
                }
                let after = match before {
                    Some(before) if tensor.is_floating_point() => before + tensor * *weight,
                    Some(_) => continue,
                    None if tensor.is_floating_point() => tensor * *weight,
                    None => tensor.copy(),
                };
                sum.insert(name, after);
            }
        }
        Ok(sum)
    }

    /// Bytes of all values, running statistics included.
    pub fn bytes(&self) -> u64 {
        self.named().values().map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum()
    }

    /// Loads the values of a state dict.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if a tensor is missing or has a different shape; the network is then unchanged.
    pub fn load(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<(), Error> {
        let own = self.named();
        for (name, tensor) in &own {
            let found = tensors.get(name).map(Tensor::size);
            if found.as_ref() != Some(&tensor.size()) {
                return Err(Error::Mismatch { name: name.clone(), expected: tensor.size(), found });
            }
        }
        tch::no_grad(|| {
            for (name, mut tensor) in own {
                tensor.copy_(&tensors[&name]);
            }
        });
        Ok(())
    }
}

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Tensor};

/// Random masks and values for one forward pass, from one stream per run of consecutive samples.
///
/// A batch that joins several sites' samples draws each site's part from that site's stream, so joining changes nothing.
#[derive(Debug, Default)]
pub struct Noise {
    parts: Vec<(i64, ChaCha8Rng)>,
}

impl Noise {
    /// Streams for (samples, stream) parts, in the order of the batch.
    pub fn new(parts: Vec<(i64, ChaCha8Rng)>) -> Self {
        Self { parts }
    }

    /// No randomness: dropout lets everything pass.
    pub fn off() -> Self {
        Self::default()
    }

    /// Drops half of the elements and doubles the others.
    ///
    /// # Panics
    /// If the parts' samples are not as many as the batch.
    pub(crate) fn drop_half(&mut self, x: &Tensor) -> Tensor {
        if self.parts.is_empty() {
            return x.shallow_clone();
        }
        let size = x.size();
        let per_sample = size[1..].iter().product::<i64>() as usize;
        let mut values = Vec::with_capacity(size[0] as usize * per_sample);
        for (samples, stream) in &mut self.parts {
            let mut left = *samples as usize * per_sample;
            while left > 0 {
                let bits: u64 = stream.random();
                let n = left.min(64);
                values.extend((0..n).map(|k| f32::from((bits >> k & 1) as u8) * 2.0));
                left -= n;
            }
        }
        x * self.tensor(values, &size, x.device())
    }

    /// Standard normal values, `[batch, count]`.
    pub(crate) fn normal(&mut self, batch: i64, count: i64, device: Device) -> Tensor {
        let mut values = Vec::with_capacity((batch * count) as usize);
        for (samples, stream) in &mut self.parts {
            values.extend((0..*samples * count).map(|_| -> f32 { StandardNormal.sample(stream) }));
        }
        if values.is_empty() {
            values.resize((batch * count) as usize, 0.0);
        }
        self.tensor(values, &[batch, count], device)
    }

    fn tensor(&self, values: Vec<f32>, size: &[i64], device: Device) -> Tensor {
        let samples: i64 = self.parts.iter().map(|p| p.0).sum();
        assert!(self.parts.is_empty() || samples == size[0], "noise for {samples} samples, the batch has {}", size[0]);
        Tensor::from_slice(&values).view(size).to_device(device)
    }
}

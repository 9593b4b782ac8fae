use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Tensor, kind::Element};

use crate::layer::channels_last;

/// Random masks and values for one forward pass, from one stream per run of consecutive samples.
///
/// A batch that joins several sites' samples draws each site's part from that site's stream, so joining does not change
/// the values.
#[derive(Debug, Default)]
pub struct Noise {
    parts: Vec<(i64, ChaCha8Rng)>,
    /// The site of each sample; empty if the site does not matter.
    sites: Vec<u32>,
    /// The images' code, the same wherever the pass needs it.
    code: Option<Tensor>,
}

impl Noise {
    /// Noise from (number of samples, stream) parts, in batch order.
    pub fn new(parts: Vec<(i64, ChaCha8Rng)>) -> Self {
        Self { parts, ..Self::default() }
    }

    /// Draws each sample's code around the centre of its site instead of zero, so that a generator can learn each
    /// site's appearance: a mixture of normal distributions, one per site. Pass one site per sample, in batch order; an
    /// empty list keeps the code centred on zero.
    ///
    /// A forward pass panics if its batch has a different number of samples.
    ///
    /// # Reference
    /// Gurumurthy et al., CVPR 2017, with centres that are not learnt.
    #[must_use]
    pub fn of_sites(self, sites: Vec<u32>) -> Self {
        Self { sites, ..self }
    }

    /// No randomness: dropout and noise are off.
    pub fn off() -> Self {
        Self::default()
    }

    /// Noise with a given code per sample.
    #[cfg(test)]
    pub(crate) fn with_code(code: Tensor) -> Self {
        let stream = rand::SeedableRng::seed_from_u64(0);
        Self { parts: vec![(code.size()[0], stream)], code: Some(code), ..Self::default() }
    }

    /// Drops half of the elements and doubles the others.
    ///
    /// # Panics
    /// If the number of samples of the parts differs from the batch.
    pub(crate) fn dropout(&mut self, x: &Tensor) -> Tensor {
        if self.parts.is_empty() {
            return x.shallow_clone();
        }
        let size = x.size();
        let per_sample: i64 = size[1..].iter().product();
        // One random bit per element. Bits are expanded on the device, which moves 32 times fewer bytes to a GPU.
        let words = (per_sample as u64).div_ceil(64) as i64;
        let mut bytes = Vec::with_capacity((size[0] * words * 8) as usize);
        for (samples, stream) in &mut self.parts {
            bytes.extend((0..*samples * words).flat_map(|_| stream.random::<u64>().to_le_bytes()));
        }
        let factors: Vec<f32> = (0..=u8::MAX).flat_map(|byte| (0..8).map(move |k| f32::from(byte >> k & 1) * 2.0)).collect();
        let factors = moved(&factors, &[256, 8], x.device()).to_kind(x.kind());
        let bytes = self.tensor(&bytes, &[size[0], words * 8], x.device());
        let chosen = factors.index_select(0, &bytes.to_kind(Kind::Int).view(-1));
        let chosen = chosen.view([size[0], -1]).narrow(1, 0, per_sample).reshape(&size);
        // Forwards and backwards, both are read in the same order.
        if x.is_contiguous() { x * chosen } else { x * channels_last(&chosen) }
    }

    /// A plane of standard normal values for each image of `x`; `None` if noise is off.
    pub(crate) fn plane(&mut self, x: &Tensor) -> Option<Tensor> {
        let size = x.size();
        let drawn =
            |this: &mut Self| this.normal(size[0], size[2] * size[3], x.device()).view([size[0], 1, size[2], size[3]]).to_kind(x.kind());
        (!self.parts.is_empty()).then(|| drawn(self))
    }

    /// The code of each image of `x`, standard normal `[batch, count]`, drawn once per pass; `None` if noise is off.
    pub(crate) fn code(&mut self, x: &Tensor, count: i64) -> Option<Tensor> {
        if self.parts.is_empty() {
            return None;
        }
        if self.code.is_none() {
            let mut code = self.normal(x.size()[0], count, x.device());
            if !self.sites.is_empty() {
                let centres: Vec<f32> = self.sites.iter().flat_map(|&site| centre(site, count)).collect();
                code += self.tensor(&centres, &[x.size()[0], count], x.device());
            }
            self.code = Some(code.to_kind(x.kind()));
        }
        self.code.as_ref().map(Tensor::shallow_clone)
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
        self.tensor(&values, &[batch, count], device)
    }

    fn tensor<T: Element>(&self, values: &[T], size: &[i64], device: Device) -> Tensor {
        let samples: i64 = self.parts.iter().map(|p| p.0).sum();
        assert!(self.parts.is_empty() || samples == size[0], "the noise is for {samples} samples, but the batch has {}", size[0]);
        moved(values, size, device)
    }
}

/// Values on a device, which is not waited for.
fn moved<T: Element>(values: &[T], size: &[i64], device: Device) -> Tensor {
    Tensor::from_slice(values).view(size).to_device_(device, T::KIND, true, false)
}

/// A site's row of a Hadamard matrix: as many sites as the code has values (a power of two) are all as far apart.
fn centre(site: u32, count: i64) -> impl Iterator<Item = f32> {
    (0..count as u32).map(move |k| if (site & k).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_element_is_dropped_or_doubled_by_its_own_bit() {
        let stream = ChaCha8Rng::seed_from_u64;
        // 105 elements a sample: two words, of which the second is not used up.
        for kind in [Kind::Float, Kind::BFloat16] {
            let ones = |samples| Tensor::ones([samples, 3, 5, 7], (kind, Device::Cpu));
            let joined = Noise::new(vec![(1, stream(1)), (2, stream(2))]).dropout(&ones(3));
            let factors = Vec::<f32>::try_from(joined.to_kind(Kind::Float).reshape([-1])).expect("factors");
            let mut expected = Vec::new();
            for (samples, mut stream) in [(1, stream(1)), (2, stream(2))] {
                for _ in 0..samples {
                    let words: [u64; 2] = stream.random();
                    expected.extend((0..105).map(|k| if words[k / 64] >> (k % 64) & 1 == 1 { 2.0 } else { 0.0 }));
                }
            }
            assert_eq!(factors, expected, "{kind:?}");
            let last = Noise::new(vec![(1, stream(1)), (2, stream(2))]).dropout(&channels_last(&ones(3)));
            assert_eq!(last, joined, "in every memory format");
            let alone = Noise::new(vec![(2, stream(2))]).dropout(&ones(2));
            assert_eq!(joined.narrow(0, 1, 2), alone, "{kind:?}");
        }
    }

    #[test]
    fn sites_are_all_as_far_apart_as_the_code_has_room_for() {
        let rows: Vec<Vec<f32>> = (0..16).map(|site| centre(site, 16).collect()).collect();
        for (i, a) in rows.iter().enumerate() {
            for b in &rows[..i] {
                assert!(a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>().abs() < 1e-6, "{a:?} {b:?}");
            }
        }
    }
}

use asyndgan_models::{Generator, Noise};
use asyndgan_protocol::{Role, stream};
use tch::{Device, Kind, Tensor};

use crate::one_hot_condition;

/// Conditions to generate images from.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SynthesisRequest<'a> {
    /// Label maps of the conditions (bytes), `[count, 1, rows, columns]` or `[count, 1]`.
    pub label_maps: &'a Tensor,
    /// Number of classes in a condition, without the background: the channels of the one-hot condition.
    pub condition_classes: u8,
    /// The site of each condition, if the generator was trained with site codes; otherwise empty.
    pub sites: &'a [u32],
    /// Number of images per generator pass. Under batch norm they share statistics, so use the batch size of a site.
    pub together: u32,
    /// Number of batches of the same set that were generated before; the noise continues after theirs.
    pub batches_before: u64,
}

impl<'a> SynthesisRequest<'a> {
    /// A request for one image per condition, 16 at a time, without site codes.
    pub fn new(label_maps: &'a Tensor, condition_classes: u8) -> Self {
        Self { label_maps, condition_classes, sites: &[], together: 16, batches_before: 0 }
    }

    /// The same with changed fields.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Generates one synthetic image per condition, with dropout or noise from the run's synthesis stream; `progress`
/// receives the number of images done.
///
/// # Shapes
/// Images on the CPU, `[count, channels, rows, columns]`, or `[count, values]`.
pub fn synthesize(generator: &Generator, wanted: &SynthesisRequest, seed: u64, device: Device, mut progress: impl FnMut(u64)) -> Tensor {
    let all = wanted.label_maps.size()[0];
    let together = i64::from(wanted.together.max(1));
    let mut parts = Vec::new();
    for (i, start) in (0..all).step_by(together as usize).enumerate() {
        let n = together.min(all - start);
        let planes = one_hot_condition(&wanted.label_maps.narrow(0, start, n).to_device(device), wanted.condition_classes);
        let sites = wanted.sites.get(start as usize..(start + n) as usize).unwrap_or_default();
        let mut noise = Noise::new(vec![(n, stream(seed, Role::Synthesis, 0, wanted.batches_before + i as u64))]).of_sites(sites.into());
        parts.push(tch::no_grad(|| generator.forward(&planes, &mut noise)).to_device(Device::Cpu).to_kind(Kind::Float));
        progress((start + n) as u64);
    }
    Tensor::cat(&parts, 0)
}

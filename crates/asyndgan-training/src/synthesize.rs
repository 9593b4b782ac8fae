use asyndgan_models::{Generator, Noise};
use asyndgan_protocol::{Role, stream};
use tch::{Device, Kind, Tensor};

use crate::condition_planes;

/// Conditions to make images of.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Condition codes (bytes), `[count, 1, rows, columns]` or `[count, 1]`.
    pub codes: &'a Tensor,
    /// Codes besides 0: planes of the condition.
    pub planes: u8,
    /// Of which site each condition is, where the generator was told; else empty.
    pub sites: &'a [u32],
    /// Images that go through the generator at once: under batch norm they share statistics, so take a site's batch.
    pub together: u32,
    /// How many batches of the same set were made before: noise goes on behind theirs.
    pub batches_before: u64,
}

/// Makes one synthetic image for every condition, with dropout or noise from the run's synthesis stream; `progress` hears how
/// many are done.
///
/// # Shapes
/// Images on the CPU, `[count, channels, rows, columns]`, or `[count, values]`.
pub fn synthesize(generator: &Generator, wanted: &Wanted, seed: u64, device: Device, mut progress: impl FnMut(u64)) -> Tensor {
    let all = wanted.codes.size()[0];
    let together = i64::from(wanted.together.max(1));
    let mut parts = Vec::new();
    for (i, start) in (0..all).step_by(together as usize).enumerate() {
        let n = together.min(all - start);
        let planes = condition_planes(&wanted.codes.narrow(0, start, n).to_device(device), wanted.planes);
        let sites = wanted.sites.get(start as usize..(start + n) as usize).unwrap_or_default();
        let mut noise = Noise::new(vec![(n, stream(seed, Role::Synthesis, 0, wanted.batches_before + i as u64))]).of_sites(sites.into());
        parts.push(tch::no_grad(|| generator.forward(&planes, &mut noise)).to_device(Device::Cpu).to_kind(Kind::Float));
        progress((start + n) as u64);
    }
    Tensor::cat(&parts, 0)
}

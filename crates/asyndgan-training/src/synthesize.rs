use asyndgan_models::{Generator, Noise};
use asyndgan_protocol::{Role, stream};
use tch::{Device, Kind, Tensor};

use crate::condition_planes;

/// Makes one synthetic image for every condition, with dropout or noise from the run's synthesis stream; `progress` hears how
/// many are done. `together` images go through the generator at once: under batch norm they share statistics, so take a site's batch.
///
/// # Shapes
/// Codes (bytes) `[count, 1, rows, columns]`, or `[count, 1]`, to images on the CPU, `[count, channels, rows, columns]`, or
/// `[count, values]`.
pub fn synthesize(
    generator: &Generator,
    codes: &Tensor,
    count: u8,
    together: u32,
    seed: u64,
    device: Device,
    mut progress: impl FnMut(u64),
) -> Tensor {
    let all = codes.size()[0];
    let together = i64::from(together.max(1));
    let mut parts = Vec::new();
    for (i, start) in (0..all).step_by(together as usize).enumerate() {
        let n = together.min(all - start);
        let planes = condition_planes(&codes.narrow(0, start, n).to_device(device), count);
        let mut noise = Noise::new(vec![(n, stream(seed, Role::Synthesis, 0, i as u64))]);
        parts.push(tch::no_grad(|| generator.forward(&planes, &mut noise)).to_device(Device::Cpu).to_kind(Kind::Float));
        progress((start + n) as u64);
    }
    Tensor::cat(&parts, 0)
}

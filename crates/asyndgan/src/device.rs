//! Where networks compute.

use anyhow::{Result, bail};
use tch::Device;

/// The device of this name: auto, cpu or cuda.
///
/// # Errors
/// For another name, and for cuda where there is none.
pub fn device(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" => Ok(Device::cuda_if_available()),
        "cuda" if tch::Cuda::is_available() => Ok(Device::Cuda(0)),
        "cuda" => {
            bail!("CUDA is not available (libtorch without CUDA, or no usable GPU): run `cargo xtask setup --cuda`, or use device cpu")
        }
        other => bail!("{other} is not a device: use auto, cpu or cuda"),
    }
}

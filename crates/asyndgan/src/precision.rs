//! Chooses the precision of a run by the processor that computes it.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use asyndgan_paper::{Experiment, Profile, Run};
use tch::Device;

use crate::{device::device, files::read_json};

/// Whether the layers of a run compute in bfloat16 unless the user decides. A run that has begun in this folder keeps
/// its precision, also on another machine. `None` means no preference.
///
/// # Errors
/// If the run in the folder cannot be read, or there is no such device.
pub(crate) fn bfloat16_by_default(experiment: Experiment, profile: Profile, device_name: &str, folder: &Path) -> Result<Option<bool>> {
    let begun = folder.join("run.json");
    if begun.try_exists().with_context(|| begun.display().to_string())? {
        return Ok(Some(read_json::<Run>(&begun)?.settings.compute.bfloat16));
    }
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let is_chosen = chooses_bfloat16(experiment, profile, device(device_name)?, &cpuinfo);
    if is_chosen {
        tracing::info!("layers compute in bfloat16, which is fast on this processor: --set compute.bfloat16=false turns it off");
    }
    Ok(is_chosen.then_some(true))
}

/// Whether a new run computes in bfloat16: a table with the desk profile, on a processor that does it in matrix
/// instructions (AMX) by Linux's description of it.
fn chooses_bfloat16(experiment: Experiment, profile: Profile, device: Device, cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    let has_amx = flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "amx_bf16"));
    has_amx && experiment != Experiment::Fig5 && profile == Profile::Desk && device == Device::Cpu
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMX: &str = "processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n";

    #[test]
    fn a_desk_table_on_a_processor_with_amx_computes_in_bfloat16() {
        let all = |cpuinfo| {
            let mut chosen = Vec::new();
            for experiment in [Experiment::Fig5, Experiment::Table1, Experiment::Table2, Experiment::Custom] {
                for profile in [Profile::Smoke, Profile::Desk, Profile::Paper] {
                    for device in [Device::Cpu, Device::Cuda(0)] {
                        if chooses_bfloat16(experiment, profile, device, cpuinfo) {
                            chosen.push((experiment, profile, device));
                        }
                    }
                }
            }
            chosen
        };
        assert_eq!(all(AMX), [Experiment::Table1, Experiment::Table2, Experiment::Custom].map(|e| (e, Profile::Desk, Device::Cpu)));
        assert!(all("processor\t: 0\nflags\t\t: fpu avx512_bf16\n").is_empty());
        assert!(all("").is_empty());
    }
}

//! Chooses the precision of a run by the processor that computes it.

use std::{fs, path::Path};

use asyndgan_paper::{Experiment, Profile, Run};
use tch::Device;

use crate::{device::device, files::read_json};

/// The run with layers in bfloat16, if it has the desk profile and is computed by a processor with AMX, which computes
/// bfloat16 several times as fast as 32-bit floats. A run that has begun in the folder keeps its precision, also on
/// another machine.
pub fn with_fast_precision(mut run: Run, folder: &Path) -> Run {
    let has_choice = run.profile == Profile::Desk && run.experiment != Experiment::Fig5;
    if !has_choice || !matches!(device(&run.device), Ok(Device::Cpu)) {
        return run;
    }
    run.settings.compute.bfloat16 = match read_json::<Run>(&folder.join("run.json")) {
        Ok(begun) => begun.settings.compute.bfloat16,
        Err(_) => has_amx(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
    };
    if run.settings.compute.bfloat16 {
        tracing::info!("layers compute in bfloat16, which is fast on a processor with AMX: --set compute.bfloat16=false turns it off");
    }
    run
}

/// Whether a processor computes bfloat16 in matrix instructions, by Linux's description of it.
fn has_amx(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "amx_bf16"))
}

#[cfg(test)]
mod tests {
    use asyndgan_paper::Settings;

    use super::*;
    use crate::files::write_json;

    #[test]
    fn the_processor_decides_for_the_desk_profile_alone() {
        assert!(has_amx("processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n"));
        assert!(!has_amx("processor\t: 0\nflags\t\t: fpu avx512_bf16\n"));
        assert!(!has_amx(""));
        let place = tempfile::tempdir().expect("a folder");
        let run = |profile| Run {
            device: "cpu".into(),
            ..Run::phantoms(Experiment::Table2, profile, Settings::new(Experiment::Table2, profile))
        };
        for profile in [Profile::Smoke, Profile::Paper] {
            assert!(!with_fast_precision(run(profile), place.path()).settings.compute.bfloat16);
        }
    }

    #[test]
    fn a_run_that_has_begun_keeps_its_precision() {
        let place = tempfile::tempdir().expect("a folder");
        let new = Run {
            device: "cpu".into(),
            ..Run::phantoms(Experiment::Table2, Profile::Desk, Settings::new(Experiment::Table2, Profile::Desk))
        };
        for bfloat16 in [false, true] {
            let mut begun = new.clone();
            begun.settings.compute.bfloat16 = bfloat16;
            write_json(&place.path().join("run.json"), &begun).expect("written");
            assert_eq!(with_fast_precision(new.clone(), place.path()), begun);
        }
    }
}

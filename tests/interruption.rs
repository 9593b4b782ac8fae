//! A run that is killed and restarted ends with the same generator bytes as an uninterrupted one.
#![allow(missing_docs, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use asyndgan_paper::{Arm, Experiment, Run, Step, TrainRecord};
use e2e::{describe, done, program, smoke};

const TRAIN: [&str; 5] = ["train", "--arm", "AsynDgan", "--seed", "0"];

fn run() -> Run {
    let mut run = smoke(Experiment::Table2, None);
    run.settings.protocol.rounds = 60;
    run.settings.protocol.checkpoint_every = 10;
    run
}

fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    describe(folder.path(), &run());
    done(folder.path(), &["prepare"]);
    folder
}

fn arm(folder: &Path) -> PathBuf {
    Step::folder(folder, Arm::AsynDgan, 0)
}

fn generator(folder: &Path) -> Vec<u8> {
    fs::read(arm(folder).join("generator.safetensors")).expect("a generator")
}

#[test]
fn killed_and_continued_is_the_same_to_the_byte() {
    let (alone, killed) = (prepared(), prepared());
    done(alone.path(), &TRAIN);

    let mut child = program().args(TRAIN).arg("--run").arg(killed.path()).stdout(std::process::Stdio::null()).spawn().expect("starts");
    let checkpoints = arm(killed.path()).join("checkpoints");
    // In the one folder of the run.
    let is_there = || {
        fs::read_dir(&checkpoints)
            .is_ok_and(|mut runs| runs.any(|r| r.is_ok_and(|r| r.path().join("server-00000010.safetensors").exists())))
    };
    for _ in 0..6000 {
        if is_there() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("killed");
    let status = child.wait().expect("ended");
    assert!(!status.success() && !arm(killed.path()).join("generator.safetensors").exists(), "it was killed too late to show anything");

    done(killed.path(), &TRAIN);
    let record = fs::read_to_string(arm(killed.path()).join("train.json")).expect("a record");
    let record: TrainRecord = serde_json::from_str(&record).expect("a train record");
    assert!(record.resumed_from_round >= 10, "it started over instead of resuming");
    assert_eq!(generator(alone.path()), generator(killed.path()));
}

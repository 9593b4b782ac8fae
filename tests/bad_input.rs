//! Wrong folders and broken files are refused before any training, by an error that names the file.
#![allow(missing_docs, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use asyndgan_paper::Experiment;
use e2e::{describe, smoke, step};

/// A small single-file NIfTI-1 volume of 32-bit floats.
fn nifti(path: &Path, dims: [i16; 3], value: impl Fn(usize) -> f32) {
    let mut bytes = vec![0_u8; 352];
    bytes[..4].copy_from_slice(&348_i32.to_le_bytes());
    for (k, d) in [3, dims[0], dims[1], dims[2], 1, 1, 1, 1].into_iter().enumerate() {
        bytes[40 + 2 * k..42 + 2 * k].copy_from_slice(&d.to_le_bytes());
        bytes[76 + 4 * k..80 + 4 * k].copy_from_slice(&1.0_f32.to_le_bytes());
    }
    bytes[70..72].copy_from_slice(&16_i16.to_le_bytes());
    bytes[72..74].copy_from_slice(&32_i16.to_le_bytes());
    bytes[108..112].copy_from_slice(&352.0_f32.to_le_bytes());
    bytes[112..116].copy_from_slice(&1.0_f32.to_le_bytes());
    bytes[344..348].copy_from_slice(b"n+1\0");
    let n = dims.iter().map(|&d| d as usize).product();
    bytes.extend((0..n).flat_map(|i| value(i).to_le_bytes()));
    fs::write(path, bytes).expect("written");
}

/// A folder of five good patients; returns the volume and the mask of one.
fn patients(folder: &Path) -> (PathBuf, PathBuf) {
    for k in 0..5 {
        let name = format!("Patient_{k}");
        fs::create_dir_all(folder.join(&name)).expect("made");
        nifti(&folder.join(&name).join(format!("{name}_t2.nii")), [80, 80, 4], |i| 1.0 + (i % 7) as f32);
        nifti(&folder.join(&name).join(format!("{name}_seg.nii")), [80, 80, 4], |i| if i % 80 < 20 { 2.0 } else { 0.0 });
    }
    (folder.join("Patient_3/Patient_3_t2.nii"), folder.join("Patient_3/Patient_3_seg.nii"))
}

/// The error of `prepare` for a folder of patients that was damaged; empty if it succeeds.
fn complaint(spoil: impl Fn(&Path, &Path)) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let (volume, mask) = patients(&data);
    spoil(&volume, &mask);
    describe(folder.path(), &smoke(Experiment::Table1, Some(data)));
    let output = step(folder.path(), &["prepare"]);
    assert_eq!(output.status.success(), folder.path().join("prepared/prepared.json").exists());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn check(spoil: impl Fn(&Path, &Path), words: &[&str]) {
    let text = complaint(spoil);
    for word in words {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn good_patients_are_prepared() {
    let said = complaint(|_, _| {});
    assert!(said.lines().count() == 1 && said.contains("patients.toml"), "{said}");
}

#[test]
fn a_case_without_its_mask() {
    check(|_, mask| fs::remove_file(mask).expect("removed"), &["Patient_3", "Patient_3_seg.nii"]);
}

#[test]
fn a_truncated_volume() {
    check(|volume, _| fs::write(volume, &fs::read(volume).expect("read")[..5000]).expect("cut"), &["Patient_3_t2.nii"]);
}

#[test]
fn a_mask_of_another_shape() {
    check(|_, mask| nifti(mask, [80, 79, 4], |_| 0.0), &["Patient_3_seg.nii", "[4, 79, 80]", "[4, 80, 80]"]);
}

#[test]
fn an_unknown_label() {
    check(|_, mask| nifti(mask, [80, 80, 4], |_| 9.0), &["Patient_3_seg.nii", "label 9"]);
}

#[test]
fn voxels_that_are_no_numbers() {
    check(|volume, _| nifti(volume, [80, 80, 4], |_| f32::NAN), &["Patient_3_t2.nii", "NaN"]);
}

#[test]
fn a_header_that_asks_for_the_moon() {
    let moon = |volume: &Path, _: &Path| {
        let mut bytes = fs::read(volume).expect("read");
        for k in 1..4 {
            bytes[40 + 2 * k..42 + 2 * k].copy_from_slice(&i16::MAX.to_le_bytes());
        }
        fs::write(volume, bytes).expect("written");
    };
    check(moon, &["Patient_3_t2.nii", "header"]);
}

#[test]
fn a_folder_without_cases_and_no_folder_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    for (experiment, data) in
        [(Experiment::Table1, "empty"), (Experiment::Table2, "empty"), (Experiment::Table1, "missing"), (Experiment::Table2, "missing")]
    {
        fs::create_dir_all(folder.path().join("empty")).expect("made");
        describe(folder.path(), &smoke(experiment, Some(folder.path().join(data))));
        let output = step(folder.path(), &["prepare"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(data) && !text.contains("panicked"), "{text}");
    }
}

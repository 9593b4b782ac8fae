//! Real files that nilearn and pydicom ship, against what nibabel and pydicom read of them:
//! `PYTHON_WITH_IMAGING=/path/to/python cargo test -p asyndgan-medio --test live`; every `.nii.gz` below `NIFTI_FOLDER`
//! is compared too.
#![allow(missing_docs, reason = "tests")]

use std::{
    path::Path,
    process::{Command, Stdio},
};

use asyndgan_medio::{
    Affine,
    dicom::{parse_slice, read_series},
    read_volume,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn digest<'a>(values: impl IntoIterator<Item = &'a f32>) -> String {
    let mut hash = Sha256::new();
    values.into_iter().for_each(|v| hash.update(v.to_le_bytes()));
    hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn same_place(found: &Affine, expected: &Value) -> bool {
    let rows = expected.as_array().expect("three rows").iter().flat_map(|row| row.as_array().expect("four numbers"));
    found.0.iter().flatten().zip(rows).all(|(a, b)| (a - b.as_f64().expect("a number")).abs() < 1e-4)
}

#[test]
#[ignore = "needs a Python with nibabel, nilearn and pydicom, named by PYTHON_WITH_IMAGING"]
fn real_files_are_what_nibabel_and_pydicom_read() {
    let python = std::env::var("PYTHON_WITH_IMAGING").expect("PYTHON_WITH_IMAGING names a Python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references.py");
    let output = Command::new(python).arg(script).arg("real").args(std::env::var("NIFTI_FOLDER")).stderr(Stdio::inherit()).output();
    let found: Value = serde_json::from_slice(&output.expect("Python starts").stdout).expect("JSON");
    let files = |kind: &str| found[kind].as_object().expect("files").clone();
    for (path, expected) in files("volumes") {
        let volume = read_volume(path.as_ref()).expect("readable");
        assert_eq!(digest(&volume.voxels), expected["digest"], "{path}");
        assert!(same_place(&volume.affine, &expected["affine"]), "{path}");
        assert_eq!(volume.affine.orientation().to_string(), expected["axes"], "{path}");
    }
    for (path, expected) in files("series") {
        let volume = read_series(path.as_ref()).expect("readable");
        assert_eq!(digest(&volume.voxels), expected["digest"], "{path}");
        assert!(same_place(&volume.affine, &expected["affine"]), "{path}: {:?} {}", volume.affine, expected["affine"]);
    }
    for (path, expected) in files("slices") {
        let pixels = parse_slice(path.as_ref(), &std::fs::read(&path).expect("there")).expect("readable");
        assert_eq!(digest(&pixels), expected["digest"], "{path}");
    }
    let gap = read_series(found["gap"].as_str().expect("a folder").as_ref()).expect_err("slices are missing");
    assert!(gap.to_string().contains("slices are missing"), "{gap}");
    let truncated = found["truncated"].as_str().expect("a file");
    parse_slice(truncated.as_ref(), &std::fs::read(truncated).expect("there")).expect_err("truncated");
    eprintln!("{} volumes, {} series, {} slices agree", files("volumes").len(), files("series").len(), files("slices").len());
}

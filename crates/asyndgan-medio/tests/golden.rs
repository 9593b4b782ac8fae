//! What nibabel, pydicom, highdicom, scikit-image, Pillow and tifffile read of small files of every kind; `references.py` made both.
#![allow(missing_docs, reason = "tests")]

use std::path::{Path, PathBuf};

use asyndgan_medio::{
    Affine, Orientation, Volume,
    dicom::{parse_slice, read_segmentation, read_series},
    read_annotations, read_instances, read_rgb, read_volume,
};
use ndarray::Array3;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/medio")
}

fn expected() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(folder().join("expected.json")).expect("the golden numbers");
    serde_json::from_str(&text).expect("JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().flat_map(|v| v.as_f64().map_or_else(|| numbers(v), |n| vec![n])).collect()
}

fn shape(value: &Value) -> Vec<usize> {
    numbers(&value["shape"]).into_iter().map(|n| n as usize).collect()
}

fn same_place(found: &Affine, expected: &Value) -> bool {
    found.0.iter().flatten().zip(numbers(expected)).all(|(a, b)| (a - b).abs() < 1e-5)
}

fn same(found: &Volume, expected: &Value, name: &str) {
    assert_eq!(found.voxels.shape(), shape(expected), "{name}");
    assert!(found.voxels.iter().zip(numbers(&expected["values"])).all(|(a, b)| a.to_bits() == (b as f32).to_bits()), "{name}: values");
    assert!(same_place(&found.affine, &expected["affine"]), "{name}: {:?} {}", found.affine, expected["affine"]);
}

#[test]
fn nifti_volumes_are_what_nibabel_reads() {
    let mut seen = 0;
    for (name, expected) in expected().iter().filter(|(name, _)| name.contains(".nii")) {
        let volume = read_volume(&folder().join(name)).expect("readable");
        same(&volume, expected, name);
        assert_eq!(volume.affine.orientation().to_string(), expected["axes"], "{name}");
        same(&volume.oriented(Orientation::RAS), &expected["ras"], name);
        seen += 1;
    }
    assert_eq!(seen, 13);
}

#[test]
fn a_series_is_what_pydicom_reads_in_whatever_order_and_syntax_its_files_are() {
    same(&read_series(&folder().join("series")).expect("readable"), &expected()["series"], "series");
}

#[test]
fn compressed_slices_are_what_pydicom_reads() {
    for name in ["lossless.dcm", "baseline.dcm"] {
        let path = folder().join(name);
        let found = parse_slice(&path, &std::fs::read(&path).expect("there")).expect("readable");
        let expected = expected();
        assert_eq!(found.shape(), shape(&expected[name]), "{name}");
        assert_eq!(found.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), numbers(&expected[name]["values"]), "{name}");
    }
}

#[test]
fn a_segmentation_lies_on_its_series_as_highdicom_made_it() {
    let series = read_series(&folder().join("series")).expect("readable");
    let found = read_segmentation(&folder().join("segmentation.dcm"), &series).expect("readable");
    let expected = &expected()["segmentation.dcm"];
    assert_eq!(found.labels.voxels.iter().map(|&l| f64::from(l)).collect::<Vec<_>>(), numbers(&expected["values"]));
    assert_eq!(found.overlapping as u64, expected["overlapping"].as_u64().expect("a count"));
    assert_eq!(found.names.into_values().collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn a_segmentation_of_another_series_is_refused() {
    let mut series = read_series(&folder().join("series")).expect("readable");
    series.affine.0[2][3] += 1.0;
    let error = read_segmentation(&folder().join("segmentation.dcm"), &series).expect_err("elsewhere");
    assert!(error.to_string().contains("lies on no slice"), "{error}");
}

#[test]
fn pictures_are_what_scikit_image_reads() {
    let expected = expected();
    for name in ["lzw.tif", "packbits.tif", "tiled.tif", "deflate.tif", "rgb.png"] {
        let found: Array3<f32> = read_rgb(&folder().join(name)).expect("readable");
        assert_eq!(found.shape(), shape(&expected[name]), "{name}");
        assert_eq!(found.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), numbers(&expected[name]["values"]), "{name}");
    }
    for name in ["labels16.png", "labels32.tif"] {
        let found = read_instances(&folder().join(name)).expect("readable");
        assert_eq!(found.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), numbers(&expected[name]["values"]), "{name}");
    }
}

#[test]
fn annotations_fill_what_scikit_image_fills() {
    let expected = &expected()["annotation.xml"];
    let shape = shape(expected);
    let found = read_annotations(&folder().join("annotation.xml"), shape[0], shape[1]).expect("readable");
    assert_eq!(found.labels.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), numbers(&expected["values"]));
    assert_eq!(found.regions, 40);
}

//! What nibabel, pydicom, highdicom, scikit-image, Pillow and tifffile read of small files of every kind;
//! `references.py` made both.
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
fn frames_of_one_file_are_the_slices_of_the_series() {
    same(&read_series(&folder().join("enhanced")).expect("readable"), &expected()["series"], "enhanced");
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
fn what_lossy_compression_overshoots_is_cut_off_as_pydicom_does() {
    let path = folder().join("lossy.dcm");
    let found = parse_slice(&path, &std::fs::read(&path).expect("there")).expect("readable");
    let values = numbers(&expected()["lossy.dcm"]["values"]);
    // Decoders round differently: by one, which is rescaled to two.
    let apart = found.iter().zip(&values).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    assert!(apart <= 2.0, "{apart}");
    assert!(values.contains(&-1024.0) && values.contains(&(2.0 * 4095.0 - 1024.0)));
}

#[test]
fn a_segmentation_lies_on_its_series_as_highdicom_made_it() {
    let series = read_series(&folder().join("series")).expect("readable");
    for name in ["segmentation.dcm", "labelmap.dcm"] {
        let found = read_segmentation(&folder().join(name), &series).expect("readable");
        let expected = &expected()[name];
        assert_eq!(found.labels.voxels.iter().map(|&l| f64::from(l)).collect::<Vec<_>>(), numbers(&expected["values"]), "{name}");
        assert_eq!(found.overlapping as u64, expected["overlapping"].as_u64().expect("a count"), "{name}");
        let named: Vec<_> = found.names.into_iter().filter(|(number, _)| *number > 0).map(|(_, name)| name).collect();
        assert_eq!(named, ["one", "two"], "{name}");
    }
}

#[test]
fn a_segmentation_lies_on_an_image_in_any_order_of_its_axes() {
    let series = read_series(&folder().join("series")).expect("readable");
    let expected = read_segmentation(&folder().join("segmentation.dcm"), &series).expect("readable").labels;
    for order in [['L', 'P', 'S'], ['R', 'A', 'I'], ['S', 'L', 'P'], ['A', 'I', 'R']] {
        let turned = series.clone().oriented(Orientation(order));
        for name in ["segmentation.dcm", "labelmap.dcm"] {
            let found = read_segmentation(&folder().join(name), &turned).expect("readable").labels;
            assert_eq!(found, expected.clone().oriented(Orientation(order)), "{name} {order:?}");
        }
    }
}

#[test]
fn a_segmentation_of_another_series_is_refused() {
    let mut series = read_series(&folder().join("series")).expect("readable");
    series.affine.0[2][3] += 1.0;
    let error = read_segmentation(&folder().join("segmentation.dcm"), &series).expect_err("elsewhere");
    assert!(error.to_string().contains("is 1.000 mm off the nearest slice"), "{error}");
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
    let found = read_annotations(&folder().join("annotation.xml"), shape[0], shape[1], None).expect("readable");
    assert_eq!(found.labels.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), numbers(&expected["values"]));
    assert_eq!(found.regions, 40);
}

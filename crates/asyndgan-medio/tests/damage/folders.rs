//! Folders of cases in which something is missing or does not match.

use std::fs;

use asyndgan_medio::{Affine, DataSet, Subject, Volume, read_volume, write_grey, write_instances, write_labels, write_rgb, write_volume};
use ndarray::{Array2, Array3, Axis};

use crate::{complaint, golden};

#[test]
fn a_mask_of_another_shape_or_place_and_an_unknown_label_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let patient = folder.path().join("P");
    fs::create_dir(&patient).expect("made");
    let affine = Affine::scaling([1.0; 3]);
    write_volume(&patient.join("P_t2.nii.gz"), &Volume { voxels: Array3::ones((3, 4, 5)), affine }).expect("written");
    let complaint_with = |voxels: Array3<u32>, affine: Affine| {
        write_labels(&patient.join("P_seg.nii.gz"), &Volume { voxels, affine }).expect("written");
        let set = DataSet::complete(folder.path()).expect("found");
        complaint(set.read(&set.cases[0], &[0]))
    };
    assert!(complaint_with(Array3::zeros((3, 4, 6)), affine).contains("[3, 4, 6]"));
    assert!(
        complaint_with(Array3::zeros((3, 4, 5)), Affine::scaling([1.0, 1.0, 1.1])).contains("lies up to 0.200 mm (0.20 voxels) away from")
    );
    assert!(complaint_with(Array3::from_elem((3, 4, 5), 9), affine).contains("label 9"));
    fs::remove_file(patient.join("P_seg.nii.gz")).expect("removed");
    assert!(complaint(DataSet::complete(folder.path())).contains("P_seg.nii"));
}

#[test]
fn folders_that_hold_nothing_or_too_much_or_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(complaint(DataSet::find(folder.path())).contains("contains no case"));
    assert!(complaint(DataSet::find(&folder.path().join("absent"))).contains("absent"));

    let patient = folder.path().join("HGG/P");
    fs::create_dir_all(&patient).expect("made");
    fs::write(patient.join("P_t2.nii.gz"), "").expect("written");
    fs::write(patient.join("P_seg.nii.gz"), "").expect("written");
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path(), folder.path().join("HGG/round")).expect("linked");
    assert_eq!(DataSet::complete(folder.path()).expect("found").cases.len(), 1);
    assert!(complaint(read_volume(&patient)).contains("not a regular file"));

    fs::create_dir_all(folder.path().join("Tissue Images")).expect("made");
    let said = complaint(DataSet::find(folder.path()));
    assert!(said.contains("BraTS") && said.contains("MoNuSeg"), "{said}");
}

#[test]
fn descriptions_that_describe_nothing_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for part in ["imagesTr", "labelsTr"] {
        fs::create_dir(folder.path().join(part)).expect("made");
    }
    let write = |channels: &str, labels: &str| {
        let text = format!(r#"{{"channel_names": {channels}, "labels": {labels}, "numTraining": 1, "file_ending": ".png"}}"#);
        fs::write(folder.path().join("dataset.json"), text).expect("written");
        DataSet::find(folder.path())
    };
    fs::copy(golden().join("labels16.png"), folder.path().join("imagesTr/a_0000.png")).expect("copied");
    fs::copy(golden().join("labels16.png"), folder.path().join("labelsTr/a.png")).expect("copied");
    assert!(complaint(write("{}", "{}")).contains("name the channels"));
    assert!(complaint(write(r#"{"0": "a"}"#, r#"{"x": 4294967297}"#)).contains("label x is 4294967297"));
    assert!(complaint(write(r#"{"x": "a"}"#, "{}")).contains("not a number"));
    let regions = write(r#"{"0": "a"}"#, r#"{"background": 0, "whole": [1, 2], "core": [2]}"#).expect("found");
    assert_eq!(regions.labels.into_iter().collect::<Vec<_>>(), [(1, "whole".to_owned()), (2, "core, whole".to_owned())]);
    let classes = write(r#"{"0": "a"}"#, r#"{"background": 0}"#).expect("found");
    assert!(complaint(classes.read(&classes.cases[0], &[0])).contains("described labels are []"));
    fs::copy(golden().join("labels16.png"), folder.path().join("imagesTr/a_0001.png")).expect("copied");
    let several = write(r#"{"0": "a", "1": "b"}"#, r#"{"background": 0}"#).expect("found");
    assert!(complaint(several.read(&several.cases[0], &[7])).contains("no channel number 7"));
    let grey = Array2::from_shape_fn((4, 4), |(r, _)| r as u8);
    for channel in ["a_0000.png", "a_0001.png"] {
        write_grey(&folder.path().join("imagesTr").join(channel), grey.view()).expect("written");
    }
    write_instances(&folder.path().join("labelsTr/a.png"), Array2::zeros((4, 4)).view()).expect("written");
    let Subject::Picture { planes, .. } = several.read(&several.cases[0], &[1, 0]).expect("two grey channels") else { panic!("a picture") };
    assert_eq!(planes.len_of(Axis(0)), 2);
    let colours = Array3::from_shape_fn((3, 4, 4), |(k, ..)| k as u8);
    write_rgb(&folder.path().join("imagesTr/a_0001.png"), colours.view()).expect("written");
    assert!(complaint(several.read(&several.cases[0], &[1])).contains("it is coloured"));
}

#[test]
fn a_dangling_link_is_a_missing_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let patient = folder.path().join("P");
    fs::create_dir(&patient).expect("made");
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere", patient.join("P_t2.nii.gz")).expect("linked");
    fs::write(patient.join("P_seg.nii.gz"), "").expect("written");
    assert!(complaint(DataSet::complete(folder.path())).contains("P_t2.nii.gz"));
}

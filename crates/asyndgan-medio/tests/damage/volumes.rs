//! NIfTI volumes that are not what they say.

use std::{fs, path::Path};

use asyndgan_medio::{Affine, Volume, parse_labels, parse_volume, read_volume, write_volume};
use ndarray::Array3;

use crate::{complaint, golden};

/// A good volume's bytes with some overwritten.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = fs::read(golden().join("qform.nii")).expect("there");
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn volumes_say_what_is_wrong_with_them() {
    let path = Path::new("v.nii");
    let shorts = |values: &[i16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let gz = fs::read(golden().join("u1_little.nii.gz")).expect("there");
    for (bytes, fact) in [
        (Vec::new(), "no NIfTI-1 file"),
        (b"not a volume".to_vec(), "no NIfTI-1 file"),
        (patched(0, &540_i32.to_le_bytes()), "NIfTI-2"),
        (patched(344, b"ni1\0"), ".hdr and .img"),
        (patched(344, b"xyz\0"), "Invalid NIfTI-1"),
        (patched(40, &shorts(&[3, i16::MAX, i16::MAX, i16::MAX])), "declares [32767, 32767, 32767] voxels"),
        (patched(40, &shorts(&[3, 512, 512, 512])), "ends early"),
        (patched(40, &shorts(&[3, 0, 4, 3])), "must be positive"),
        (patched(40, &shorts(&[3, -5, 4, 3])), "ends early"),
        (patched(40, &shorts(&[4, 5, 2, 1, 6])), "so split it"),
        (patched(70, &shorts(&[32, 64])), "integers and floats"),
        (patched(70, &shorts(&[999])), "999"),
        (patched(123, &[3]), "not in millimetres"),
        (patched(80, &0.0_f32.to_le_bytes()), "spacing"),
        (patched(80, &f32::NAN.to_le_bytes()), "geometry is unusable"),
        (patched(108, &f32::INFINITY.to_le_bytes()), "begin at byte"),
        (gz[..gz.len() - 9].to_vec(), "gzip stream is damaged"),
        (gz[..20].to_vec(), "gzip stream is damaged"),
        ([&gz[..gz.len() - 6], &[1, 2], &gz[gz.len() - 4..]].concat(), "gzip stream is damaged"),
    ] {
        let said = complaint(parse_volume(path, &bytes));
        assert!(said.contains(fact) && said.contains("v.nii"), "{fact}: {said}");
    }
}

#[test]
fn an_infinite_slope_means_not_scaled_as_nibabel_has_it() {
    let scaled = parse_volume(Path::new("v.nii"), &patched(112, &f32::INFINITY.to_le_bytes())).expect("read");
    assert_eq!(scaled, read_volume(&golden().join("qform.nii")).expect("read"));
}

#[test]
fn voxels_must_be_finite_and_labels_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |value: f32| {
        let path = folder.path().join("v.nii.gz");
        write_volume(&path, &Volume { voxels: Array3::from_elem((2, 2, 2), value), affine: Affine::scaling([1.0; 3]) }).expect("written");
        fs::read(path).expect("there")
    };
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(complaint(parse_volume(Path::new("v"), &write(value))).contains("NaN or infinite"));
    }
    for value in [f32::NAN, -1.0, 0.5, 1e12] {
        assert!(complaint(parse_labels(Path::new("v"), &write(value))).contains("holds label"));
    }
}

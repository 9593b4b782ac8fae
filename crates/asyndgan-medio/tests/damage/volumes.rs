//! NIfTI volumes that are not what they say.

use std::{fs, path::Path};

use asyndgan_medio::{Affine, Volume, parse_labels, parse_volume, read_labels, read_volume, write_volume};
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
        (Vec::new(), "it is empty"),
        (b"not a volume".to_vec(), "\"not a volume\""),
        (patched(0, &540_i32.to_le_bytes()), "does not begin with a NIfTI header"),
        (patched(344, b"ni1\0"), ".img file is not in the same folder"),
        (patched(344, b"\0\0\0\0"), "Analyze 7.5"),
        (patched(40, &shorts(&[3, i16::MAX, i16::MAX, i16::MAX])), "declares [32767, 32767, 32767] voxels"),
        (patched(40, &shorts(&[3, 512, 512, 512])), "ends early"),
        (patched(40, &shorts(&[3, 0, 4, 3])), "declares [0, 4, 3] voxels"),
        (patched(40, &shorts(&[0])), "declares 0 dimensions"),
        (patched(40, &shorts(&[3, -5, 4, 3])), "declares [-5, 4, 3] voxels"),
        (patched(40, &shorts(&[4, 5, 2, 1, 6])), "so split it"),
        (patched(70, &shorts(&[32, 64])), "complex numbers (data type 32)"),
        (patched(70, &shorts(&[999])), "data type 999"),
        (patched(123, &[3]), "in micrometres"),
        (patched(80, &f32::NAN.to_le_bytes()), "geometry is invalid"),
        (patched(108, &f32::INFINITY.to_le_bytes()), "begin at byte"),
        (patched(108, &348.0_f32.to_le_bytes()), "expected 352 or more"),
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
        assert!(complaint(parse_labels(Path::new("v"), &write(value))).contains("contains the label"));
    }
}

#[test]
fn headers_and_compression_as_programs_write_them_are_read() {
    let (path, expected) = (Path::new("v.nii.gz"), parse_volume(Path::new("v.nii"), &patched(0, &[])).expect("read"));
    // Voxels right behind the header.
    assert_eq!(parse_volume(path, &patched(108, &0.0_f32.to_le_bytes())).expect("read"), expected);
    let compressed = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, bytes).expect("compressed");
        encoder.finish().expect("compressed")
    };
    let whole = patched(0, &[]);
    let members: Vec<u8> = whole.chunks(50).flat_map(compressed).collect();
    for bytes in [members.clone(), [members.clone(), vec![0; 512]].concat(), [compressed(&whole), vec![0; 512]].concat()] {
        assert_eq!(parse_volume(path, &bytes).expect("read"), expected);
    }
    let cut = [members[..members.len() / 2].to_vec(), vec![0; 512]].concat();
    assert!(complaint(parse_volume(path, &cut)).contains("gzip stream is damaged"));
}

#[test]
fn labels_within_a_thousandth_of_whole_numbers_are_labels() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("v.nii.gz");
    for (value, label) in [(2.0009, Some(2)), (1.9991, Some(2)), (-0.0009, Some(0)), (1.99, None), (2.002, None)] {
        write_volume(&path, &Volume { voxels: Array3::from_elem((2, 2, 2), value), affine: Affine::scaling([1.0; 3]) }).expect("written");
        let found = read_labels(&path).ok().map(|labels| labels.voxels[[0, 0, 0]]);
        assert_eq!(found, label, "{value}");
    }
}

#[test]
fn voxels_beside_a_header_are_read_from_its_folder_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("v.mhd");
    let header = |data: &str| format!("NDims = 3\nDimSize = 2 1 1\nElementType = MET_UCHAR\nElementDataFile = {data}\n");
    fs::write(folder.path().join("v.raw"), [3, 4]).expect("written");
    fs::write(&path, header("v.raw")).expect("written");
    assert_eq!(read_labels(&path).expect("read").voxels.into_raw_vec_and_offset().0, [3, 4]);
    for outside in ["../v.raw", "/etc/passwd"] {
        fs::write(&path, header(outside)).expect("written");
        assert!(complaint(read_labels(&path)).contains("outside of its folder"));
    }
    fs::write(&path, header("v.raw").replace("2 1 1", "2 1 2")).expect("written");
    assert!(complaint(read_labels(&path)).contains("end early"));
    let nrrd = folder.path().join("v.nrrd");
    for (text, fact) in [
        ("NRRD0004\ntype: block\n\n", "of type block"),
        ("NRRD0004\ntype: uchar\ndimension: 3\nsizes: 1 1\n\n", "2 sizes"),
        ("NRRD0004\ntype: uchar\ndimension: 3\nsizes: 1 1 1\nencoding: bzip2\n\n", "bzip2"),
        ("NRRD0004\ntype: short\ndimension: 3\nsizes: 1 1 1\nencoding: raw\n\n", "endian"),
        ("NRRD0004\ntype: uchar\ndimension: 3\nsizes: 99999 99999 99999\nencoding: raw\nspacings: 1 1 1\n\n", "99999"),
        ("NRRD0004\ntype: uchar\ndimension: 3\nsizes: 1 1 1\nencoding: raw\nspace: scanner-xyz\nspacings: 1 1 1\n\n", "scanner-xyz"),
    ] {
        fs::write(&nrrd, text).expect("written");
        let said = complaint(read_labels(&nrrd));
        assert!(said.contains(fact) && said.contains("v.nrrd"), "{fact}: {said}");
    }
}

#[test]
fn what_a_text_header_can_say_in_several_ways_is_read_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("v.mha");
    let read = |fields: &str, data: &[u8]| {
        let header = format!("NDims = 3\nDimSize = 2 1 1\nElementType = MET_USHORT\n{fields}ElementDataFile = LOCAL\n");
        fs::write(&path, [header.as_bytes(), data].concat()).expect("written");
        read_labels(&path).map(|labels| labels.voxels.into_raw_vec_and_offset().0)
    };
    for yes in ["True", "T", "true", "1"] {
        assert_eq!(read(&format!("BinaryDataByteOrderMSB = {yes}\n"), &[0, 3, 1, 0]).expect("read"), [3, 256]);
    }
    for no in ["False", "F", "0"] {
        assert_eq!(read(&format!("BinaryDataByteOrderMSB = {no}\n"), &[3, 0, 0, 1]).expect("read"), [3, 256]);
    }
    assert!(complaint(read("CompressedData = perhaps\n", &[0; 4])).contains("expected True or False"));
    assert!(complaint(read("", &[0; 6])).contains("6 bytes, but its header declares 4"));
    assert!(complaint(read("ElementNumberOfChannels = 3\n", &[0; 4])).contains("ElementNumberOfChannels is 3"));
    let nrrd = |fields: &str| {
        let header = format!("NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 1 1\nencoding: raw\nspacings: 1 1 1\n{fields}\n");
        fs::write(folder.path().join("v.nrrd"), [header.as_bytes(), &[1, 2, 3]].concat()).expect("written");
        read_labels(&folder.path().join("v.nrrd"))
    };
    assert_eq!(nrrd("kinds: domain domain domain\nunits: \"mm\" \"mm\" \"mm\"\n").expect("read").voxels.len(), 3);
    assert!(complaint(nrrd("kinds: RGB-color domain domain\n")).contains("RGB-color"));
    assert!(complaint(nrrd("units: \"cm\" \"cm\" \"cm\"\n")).contains("convert them to mm"));
    assert!(complaint(nrrd("data file: LIST\n")).contains("list of files"));
}

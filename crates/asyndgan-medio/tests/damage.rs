//! Broken and hostile files are errors that name the file and the fact: never a panic, never an allocation that the file does not warrant.
#![allow(missing_docs, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use asyndgan_medio::{
    Affine, CaseSet, DataSet, Error, TestSet, Volume,
    dicom::{parse_segmentation, parse_slice, read_segmentation, read_series},
    parse_annotations, parse_instances, parse_labels, parse_rgb, parse_volume, read_volume, write_cases, write_labels, write_volume,
};
use ndarray::{Array2, Array3};
use proptest::prelude::*;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/medio")
}

/// Every file of the golden set, the series' slices among them.
fn files() -> Vec<PathBuf> {
    let list = |folder: PathBuf| fs::read_dir(folder).expect("listed").map(|e| e.expect("listed").path()).filter(|p| p.is_file());
    let mut files: Vec<PathBuf> = list(golden()).chain(list(golden().join("series"))).collect();
    files.sort();
    files
}

/// Gives bytes to every parser, whatever they are.
fn parse_all(path: &Path, bytes: &[u8]) {
    let said = |error: Error| assert!(error.to_string().contains(&*path.to_string_lossy()), "{error} does not name {}", path.display());
    parse_volume(path, bytes).map_or_else(said, drop);
    parse_labels(path, bytes).map_or_else(said, drop);
    parse_rgb(path, bytes).map_or_else(said, drop);
    parse_instances(path, bytes).map_or_else(said, drop);
    parse_annotations(path, bytes, 30, 30).map_or_else(said, drop);
    parse_slice(path, bytes).map_or_else(said, drop);
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index, u8),
    Overwrite(prop::sample::Index, u32),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<prop::sample::Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        any::<prop::sample::Index>().prop_map(Damage::Cut),
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, n)| Damage::Repeat(at, n)),
        (any::<prop::sample::Index>(), prop_oneof![Just(u32::MAX), Just(0), Just(1 << 31), any::<u32>()])
            .prop_map(|(at, v)| Damage::Overwrite(at, v)),
    ]
}

fn spoil(bytes: &mut Vec<u8>, damage: &[Damage]) {
    for one in damage {
        if bytes.is_empty() {
            return;
        }
        match one {
            Damage::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Repeat(at, n) => {
                let at = at.index(bytes.len());
                let end = (at + usize::from(*n)).min(bytes.len());
                bytes.splice(at..at, bytes[at..end].to_vec());
            }
            Damage::Overwrite(at, value) => {
                let at = at.index(bytes.len());
                bytes.iter_mut().skip(at).zip(value.to_le_bytes()).for_each(|(b, v)| *b = v);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_spoilt_file_is_read_or_refused(file in any::<prop::sample::Index>(), damage in prop::collection::vec(damage(), 1..4)) {
        let files = files();
        let path = file.get(&files);
        let mut bytes = fs::read(path).expect("there");
        spoil(&mut bytes, &damage);
        parse_all(path, &bytes);
    }

    #[test]
    fn a_spoilt_slice_of_a_series_and_a_spoilt_segmentation_are_read_or_refused(slice in 0..4_usize, damage in prop::collection::vec(damage(), 1..4)) {
        let folder = tempfile::tempdir().expect("a folder");
        copy_series(folder.path());
        let path = folder.path().join(["a", "b", "c", "d"][slice]);
        let mut bytes = fs::read(&path).expect("there");
        spoil(&mut bytes, &damage);
        fs::write(&path, &bytes).expect("written");
        let series = read_series(folder.path()).or_else(|_| read_series(&golden().join("series"))).expect("the golden series");
        let mut bytes = fs::read(golden().join("segmentation.dcm")).expect("there");
        spoil(&mut bytes, &damage);
        drop(parse_segmentation(Path::new("s.dcm"), &bytes, &series));
    }

    #[test]
    fn a_spoilt_set_of_cases_is_read_or_refused(damage in prop::collection::vec(damage(), 1..4)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.safetensors");
        let case = asyndgan_medio::Case { id: "c".into(), image: Array3::zeros((1, 4, 4)), condition: Array2::zeros((4, 4)) };
        write_cases(&path, &[case.clone(), case]).expect("written");
        let mut bytes = fs::read(&path).expect("there");
        spoil(&mut bytes, &damage);
        fs::write(&path, &bytes).expect("written");
        if let Ok(set) = CaseSet::open(&[path]) {
            (0..set.len()).for_each(|n| drop(set.read(n)));
        }
        TestSet::open(folder.path()).expect("listed").read(0).expect_err("no held-out case");
    }
}

#[test]
fn tensors_of_no_elements_reserve_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let shapes = r#""images":{"dtype":"F32","shape":[0,1099511627776,64,1,1],"data_offsets":[0,0]},"truth":{"dtype":"U32","shape":[0,1,1,1],"data_offsets":[0,0]}"#;
    let header = format!(r#"{{"__metadata__":{{"ids":"a"}},{shapes}}}"#);
    fs::write(folder.path().join("a.safetensors"), [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat())
        .expect("written");
    assert!(complaint(TestSet::open(folder.path()).expect("listed").read(0)).contains("holds 0 of images"));
}

/// A good volume's bytes with some overwritten.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = fs::read(golden().join("qform.nii")).expect("there");
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

fn complaint<T>(result: Result<T, Error>) -> String {
    result.err().map_or_else(|| panic!("it was read"), |e| e.to_string())
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

/// A grey TIFF without pixels whose header declares this many.
fn tiff(width: u32, height: u32) -> Vec<u8> {
    let entries: [(u16, u32); 8] =
        [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (278, height), (279, width.wrapping_mul(height))];
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend(8_u16.to_le_bytes());
    for (tag, value) in entries {
        bytes.extend([tag.to_le_bytes(), 4_u16.to_le_bytes()].concat());
        bytes.extend([1_u32.to_le_bytes(), value.to_le_bytes()].concat());
    }
    bytes.extend([0; 4]);
    bytes
}

/// A PNG's signature and header alone.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
    bytes.extend([16, 0, 0, 0, 0]);
    let mut checksum = flate2::Crc::new();
    checksum.update(&bytes[12..]);
    bytes.extend(checksum.sum().to_be_bytes());
    bytes
}

#[test]
fn pictures_of_no_size_or_of_too_much_are_refused() {
    for (width, height) in [(0, 0), (0, 5), (100_000, 100_000), (u32::MAX, u32::MAX), (30_000, 30_000), (9000, 9000)] {
        for bytes in [tiff(width, height), png(width, height)] {
            assert!(complaint(parse_rgb(Path::new("p.tif"), &bytes)).contains("p.tif"));
            assert!(complaint(parse_instances(Path::new("p.tif"), &bytes)).contains("p.tif"));
        }
    }
}

#[test]
fn colour_is_no_label() {
    let said = complaint(parse_instances(Path::new("p.png"), &fs::read(golden().join("rgb.png")).expect("there")));
    assert!(said.contains("one grey channel"), "{said}");
}

#[test]
fn annotations_say_what_is_wrong_with_them() {
    let nested = "<a>".repeat(100_000) + &"</a>".repeat(100_000);
    for (text, fact) in [
        ("", "a.xml"),
        ("<Annotations>", "a.xml"),
        ("<Annotations/>", "no Region"),
        ("<Region><Vertex X=\"1\" Y=\"nan\"/></Region>", "finite X or Y"),
        ("<Region><Vertex X=\"1\"/></Region>", "finite X or Y"),
        ("<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>", "DTD"),
        (&nested, "no Region"),
        ("<a><Region><Region/></Region></a>", "within another"),
    ] {
        let said = complaint(parse_annotations(Path::new("a.xml"), text.as_bytes(), 5, 5));
        assert!(said.contains(fact), "{fact}: {said}");
    }
}

#[test]
fn a_region_that_goes_up_and_down_without_end_takes_no_memory() {
    let vertices = "<Vertex X=\"1\" Y=\"0\"/><Vertex X=\"2\" Y=\"4000\"/>".repeat(3000);
    let said = complaint(parse_annotations("a.xml".as_ref(), format!("<Region>{vertices}</Region>").as_bytes(), 4000, 5));
    assert!(said.contains("goes up and down"), "{said}");
}

#[test]
fn an_excluded_region_becomes_background_again() {
    let square = |a: i32, b: i32| {
        format!("<Vertex X=\"{a}\" Y=\"{a}\"/><Vertex X=\"{b}\" Y=\"{a}\"/><Vertex X=\"{b}\" Y=\"{b}\"/><Vertex X=\"{a}\" Y=\"{b}\"/>")
    };
    let xml = format!("<a><Region NegativeROA=\"0\">{}</Region><Region NegativeROA=\"1\">{}</Region></a>", square(0, 4), square(1, 3));
    let found = parse_annotations("a.xml".as_ref(), xml.as_bytes(), 4, 4).expect("read");
    assert_eq!((found.labels.iter().filter(|&&l| l == 1).count(), found.excluded, found.labels[[1, 1]]), (12, 1, 0));
}

#[test]
fn a_vertex_light_years_away_takes_no_memory() {
    let text = "<Region><Vertex X=\"-1e300\" Y=\"-1e300\"/><Vertex X=\"1e300\" Y=\"-1e300\"/><Vertex X=\"0\" Y=\"1e300\"/></Region>";
    let found = parse_annotations(Path::new("a.xml"), text.as_bytes(), 5, 5).expect("read");
    assert_eq!(found.labels.dim(), (5, 5));
}

/// A plain slice with one element's text replaced.
fn with_element(name: &str, tag: [u8; 4], text: &str) -> Vec<u8> {
    let mut bytes = fs::read(golden().join("series").join(name)).expect("there");
    let at = bytes.windows(4).position(|w| w == tag).expect("the element");
    let length = usize::from(u16::from_le_bytes([bytes[at + 6], bytes[at + 7]]));
    let text = if text.len().is_multiple_of(2) { text.to_owned() } else { format!("{text} ") };
    bytes.splice(at + 6..at + 8 + length, [&(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat());
    bytes
}

const RESCALE_SLOPE: [u8; 4] = [0x28, 0, 0x53, 0x10];
const POSITION: [u8; 4] = [0x20, 0, 0x32, 0];
const ORIENTATION: [u8; 4] = [0x20, 0, 0x37, 0];

#[test]
fn slices_with_a_wrong_scale_or_place_are_refused() {
    for (tag, text, fact) in [
        (RESCALE_SLOPE, "xx", "RescaleSlope"),
        (RESCALE_SLOPE, "1e300", "not finite"),
        (ORIENTATION, "1.6\\1.2\\0\\-0.72\\0.96\\1.6", "orthogonal unit vectors"),
    ] {
        let said = complaint(parse_slice(Path::new("c"), &with_element("c", tag, text)));
        assert!(said.contains(fact), "{fact}: {said}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    copy_series(folder.path());
    // 40 mm to the side, along a row: the distance along the normal stays.
    let slice = fs::read(golden().join("series/d")).expect("there");
    let at = slice.windows(4).position(|w| w == POSITION).expect("a position");
    let length = usize::from(slice[at + 6]);
    let text = String::from_utf8_lossy(&slice[at + 8..at + 8 + length]).into_owned();
    let mm: Vec<f64> = text.trim_end_matches([' ', '\0']).split('\\').map(|v| v.trim().parse().expect("a number")).collect();
    let moved = format!("{:.4}\\{:.4}\\{:.4}", mm[0] + 32.0, mm[1] + 24.0, mm[2]);
    fs::write(folder.path().join("d"), with_element("d", POSITION, &moved)).expect("written");
    let said = complaint(read_series(folder.path()));
    assert!(said.contains("off the line"), "{said}");
}

#[test]
fn a_slice_that_is_damaged_is_not_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    for cut in [0, 100, 140] {
        copy_series(folder.path());
        let last = folder.path().join("b");
        let bytes = fs::read(&last).expect("there");
        fs::write(&last, &bytes[..cut]).expect("cut");
        let said = complaint(read_series(folder.path()));
        assert!(said.contains(&*last.to_string_lossy()), "{cut}: {said}");
    }
    copy_series(folder.path());
    fs::write(folder.path().join("notes.txt"), "no slice").expect("written");
    assert_eq!(read_series(folder.path()).expect("passed over").voxels.dim().0, 4);
}

#[test]
fn a_jpeg_of_another_size_than_declared_is_refused_wherever_it_hides() {
    let bytes = fs::read(golden().join("baseline.dcm")).expect("there");
    let rows = bytes.windows(4).position(|w| w == [0x28, 0, 0x10, 0]).expect("rows");
    let mut smaller = bytes.clone();
    smaller[rows + 8] = 8;
    let pixels = smaller.windows(4).position(|w| w == [0xe0, 0x7f, 0x10, 0]).expect("pixels") + 12;
    let item = 8 + u32::from_le_bytes([smaller[pixels + 4], smaller[pixels + 5], smaller[pixels + 6], smaller[pixels + 7]]) as usize;
    let mut behind_an_empty_item = smaller.clone();
    behind_an_empty_item.splice(pixels + item..pixels + item, [0xfe, 0xff, 0, 0xe0, 0, 0, 0, 0]);
    for bytes in [smaller, behind_an_empty_item] {
        let said = complaint(parse_slice(Path::new("j.dcm"), &bytes));
        assert!(said.contains("JPEG picture is not"), "{said}");
    }
}

fn copy_series(to: &Path) {
    fs::create_dir_all(to).expect("made");
    for name in ["a", "b", "c", "d"] {
        fs::copy(golden().join("series").join(name), to.join(name)).expect("copied");
    }
}

#[test]
fn series_say_what_is_wrong_with_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("gap");
    copy_series(&place);
    // The slices lie in the order c, a, d, b.
    fs::remove_file(place.join("a")).expect("removed");
    let said = complaint(read_series(&place));
    assert!(said.contains("slices are missing") && said.contains("gap/d"), "{said}");

    let place = folder.path().join("twice");
    copy_series(&place);
    fs::copy(place.join("b"), place.join("e")).expect("copied");
    let said = complaint(read_series(&place));
    assert!(said.contains("same place") && said.contains("twice/b") && said.contains("twice/e"), "{said}");

    let place = folder.path().join("mixed");
    copy_series(&place);
    let mut bytes = fs::read(place.join("b")).expect("there");
    let series = b"1.2.826.0.1.3680043.8.498.11\0\0";
    let needle = &series[..28];
    let at: Vec<usize> = (0..bytes.len() - 30).filter(|&i| &bytes[i..i + 28] == needle && !bytes[i + 28..].starts_with(b".")).collect();
    for i in at {
        bytes[i + 27] = b'7';
    }
    fs::write(place.join("b"), bytes).expect("written");
    let said = complaint(read_series(&place));
    assert!(said.contains("its series differs"), "{said}");

    let place = folder.path().join("syntax");
    copy_series(&place);
    let mut bytes = fs::read(place.join("c")).expect("there");
    let at = bytes.windows(19).position(|w| w == b"1.2.840.10008.1.2.1").expect("explicit little endian");
    // A syntax that nobody has heard of.
    bytes[at..at + 20].copy_from_slice(b"1.2.840.10008.1.2.9\0");
    fs::write(place.join("c"), bytes).expect("written");
    let said = complaint(read_series(&place));
    assert!(said.contains("syntax/c"), "{said}");

    let place = folder.path().join("nothing");
    fs::create_dir(&place).expect("made");
    fs::write(place.join("notes.txt"), "no image").expect("written");
    assert!(complaint(read_series(&place)).contains("holds no case"));
}

/// Found by fuzzing: elements within a sequence and within the first group that declare gigabytes, and pixels that end early.
#[test]
fn what_fuzzing_found_is_refused() {
    for (name, fact) in [
        ("sequence-beyond-the-file.dcm", "declares"),
        ("first-group-beyond-the-file.dcm", "ends within its first group"),
        ("run-length-too-short.dcm", "run-length encoded pixels end early"),
    ] {
        let path = golden().join("refused").join(name);
        let said = complaint(parse_slice(&path, &fs::read(&path).expect("there")));
        assert!(said.contains(fact), "{said}");
    }
}

#[test]
fn no_error_tells_a_patients_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = fs::read(golden().join("series/c")).expect("there");
    let name = bytes.windows(6).position(|w| w == b"Nobody").expect("the file names its patient");
    copy_series(folder.path());
    let mut errors = 0;
    // Every byte of the name's element and its neighbours, and cuts within them.
    for at in name - 16..name + 40 {
        for value in [0, 1, 0x20, 0x7f, 0xff] {
            let mut spoilt = bytes.clone();
            spoilt[at] = value;
            spoilt.truncate(if value == 1 { at } else { bytes.len() });
            fs::write(folder.path().join("c"), &spoilt).expect("written");
            if let Err(error) = read_series(folder.path()) {
                errors += 1;
                let said = format!("{error} {error:?}");
                assert!(!said.contains("obody") && !said.contains("Phantom"), "{said}");
            }
        }
    }
    assert!(errors > 50, "{errors}");
}

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
        complaint(set.read(&set.cases[0], 0))
    };
    assert!(complaint_with(Array3::zeros((3, 4, 6)), affine).contains("[3, 4, 6]"));
    assert!(complaint_with(Array3::zeros((3, 4, 5)), Affine::scaling([1.0, 1.0, 1.1])).contains("lies elsewhere"));
    assert!(complaint_with(Array3::from_elem((3, 4, 5), 9), affine).contains("label 9"));
    fs::remove_file(patient.join("P_seg.nii.gz")).expect("removed");
    assert!(complaint(DataSet::complete(folder.path())).contains("P_seg.nii"));
}

#[test]
fn folders_that_hold_nothing_or_too_much_or_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(complaint(DataSet::find(folder.path())).contains("holds no case"));
    assert!(complaint(DataSet::find(&folder.path().join("absent"))).contains("absent"));

    let patient = folder.path().join("HGG/P");
    fs::create_dir_all(&patient).expect("made");
    fs::write(patient.join("P_t2.nii.gz"), "").expect("written");
    fs::write(patient.join("P_seg.nii.gz"), "").expect("written");
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path(), folder.path().join("HGG/round")).expect("linked");
    assert_eq!(DataSet::complete(folder.path()).expect("found").cases.len(), 1);
    assert!(complaint(read_volume(&patient)).contains("no regular file"));

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
    assert!(complaint(write(r#"{"x": "a"}"#, "{}")).contains("no number"));
    let regions = write(r#"{"0": "a"}"#, r#"{"background": 0, "whole": [1, 2], "core": [2]}"#).expect("found");
    assert_eq!(regions.labels.into_iter().collect::<Vec<_>>(), [(1, "whole".to_owned()), (2, "core, whole".to_owned())]);
    let classes = write(r#"{"0": "a"}"#, r#"{"background": 0}"#).expect("found");
    assert!(complaint(classes.read(&classes.cases[0], 0)).contains("described are []"));
    fs::copy(golden().join("labels16.png"), folder.path().join("imagesTr/a_0001.png")).expect("copied");
    let several = write(r#"{"0": "a", "1": "b"}"#, r#"{"background": 0}"#).expect("found");
    assert!(complaint(several.read(&several.cases[0], 1)).contains("join them into one picture"));
    assert!(complaint(several.read(&several.cases[0], 7)).contains("no channel number 7"));
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

#[test]
fn a_segmentation_that_ends_early_is_refused() {
    let series = read_series(&golden().join("series")).expect("readable");
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = fs::read(golden().join("segmentation.dcm")).expect("there");
    for cut in (0..bytes.len()).step_by(97) {
        let path = folder.path().join("s.dcm");
        fs::write(&path, &bytes[..cut]).expect("written");
        assert!(complaint(read_segmentation(&path, &series)).contains("s.dcm"));
    }
}

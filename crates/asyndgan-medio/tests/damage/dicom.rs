//! Slices and series that are damaged, and names that no error may tell.

use std::{fs, path::Path};

use asyndgan_medio::dicom::{parse_slice, read_segmentation, read_series, skipped};

use crate::{complaint, copy_series, golden};

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
fn a_slice_that_is_damaged_is_not_skipped() {
    let folder = tempfile::tempdir().expect("a folder");
    for cut in [0, 100, 140] {
        copy_series(folder.path());
        let last = folder.path().join("b");
        let bytes = fs::read(&last).expect("there");
        fs::write(&last, &bytes[..cut]).expect("cut");
        let said = complaint(read_series(folder.path()));
        assert!(said.contains(&*last.to_string_lossy()), "{cut}: {said}");
    }
    // Cut before the number of rows, between two elements or within a tag: a reader takes that for the end.
    copy_series(folder.path());
    let last = folder.path().join("b");
    let bytes = fs::read(&last).expect("there");
    let rows = bytes.windows(6).position(|w| w == [0x28, 0, 0x10, 0, b'U', b'S']).expect("the number of rows");
    for cut in [rows, rows + 2] {
        fs::write(&last, &bytes[..cut]).expect("cut");
        assert!(complaint(read_series(folder.path())).contains("before its pixels"), "{cut}");
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
    assert!(complaint(read_series(&place)).contains("contains no case"));
}

/// Found by fuzzing or by reading the decoders: elements within a sequence and within the first group that declare
/// gigabytes, and pixels that end early.
#[test]
fn files_that_once_were_misread_are_refused() {
    for (name, fact) in [
        ("sequence-beyond-the-file.dcm", "declares"),
        ("first-group-beyond-the-file.dcm", "ends within its first group"),
        ("run-length-too-short.dcm", "run-length encoded pixels end early"),
        ("jpeg-of-8-bits-in-16.dcm", "8 bits per sample in BitsAllocated 16"),
        ("jpeg-of-7-bits-in-8.dcm", "7 bits per sample in BitsAllocated 8"),
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

#[test]
fn what_lies_beside_the_slices_is_skipped_and_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    copy_series(folder.path());
    for (name, content) in [("README", "how to view these images\n"), ("dicomdir", "DICM"), ("Thumbs.db", "\0\x01"), ("report.pdf", "%PDF")]
    {
        fs::write(folder.path().join(name), content).expect("written");
    }
    fs::create_dir(folder.path().join("other")).expect("made");
    assert_eq!(read_series(folder.path()).expect("read").voxels.dim().0, 4);
    let listed = skipped(folder.path()).expect("listed");
    let names: Vec<_> = listed.iter().filter_map(|p| p.path.file_name()?.to_str()).collect();
    assert_eq!(names, ["README", "Thumbs.db", "dicomdir", "report.pdf", "other"]);
    assert!(listed.iter().all(|p| !p.is_problem && !p.reason.is_empty()));

    let above = tempfile::tempdir().expect("a folder");
    copy_series(&above.path().join("2019"));
    assert!(complaint(read_series(above.path())).contains("only folders"));
}

#[test]
fn the_slice_of_another_orientation_is_named_and_not_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    copy_series(folder.path());
    fs::write(folder.path().join("AAA_scout"), with_element("c", ORIENTATION, "0\\1\\0\\0\\0\\-1")).expect("written");
    let said = complaint(read_series(folder.path()));
    assert!(said.contains("AAA_scout is not supported: its orientation differs from that of most others"), "{said}");
}

#[test]
fn positions_that_are_rounded_to_a_tenth_of_a_millimetre_are_one_series() {
    let folder = tempfile::tempdir().expect("a folder");
    copy_series(folder.path());
    let place = |name: &str| {
        let bytes = fs::read(golden().join("series").join(name)).expect("there");
        let at = bytes.windows(4).position(|w| w == POSITION).expect("a position");
        let text = String::from_utf8_lossy(&bytes[at + 8..at + 8 + usize::from(bytes[at + 6])]).into_owned();
        text.trim_end_matches([' ', '\0']).split('\\').map(|v| v.trim().parse().expect("a number")).collect::<Vec<f64>>()
    };
    for name in ["c", "d", "b"] {
        let rounded: Vec<String> = place(name).iter().map(|v| format!("{v:.1}")).collect();
        fs::write(folder.path().join(name), with_element(name, POSITION, &rounded.join("\\"))).expect("written");
    }
    assert_eq!(read_series(folder.path()).expect("read").voxels.dim().0, 4);
}

#[test]
fn a_data_set_without_its_preamble_says_so() {
    let bytes = fs::read(golden().join("series/c")).expect("there");
    let start = bytes.windows(4).position(|w| w == [8, 0, 0x16, 0]).expect("the data set");
    let said = complaint(parse_slice(Path::new("0.dcm"), &bytes[start..]));
    assert!(said.contains("no DICOM preamble") && said.contains("save_as") && !said.contains("intact copy"), "{said}");
}

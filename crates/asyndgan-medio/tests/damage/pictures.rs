//! Pictures of no size, of too much, and of colours where labels should be.

use std::{fs, path::Path};

use asyndgan_medio::{is_volume, parse_instances, parse_labels, parse_rgb, read_volume};

use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};

use crate::{complaint, golden};

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

/// A TIFF of grey pages of 2 x 3 pixels, the page's number in each, with a description of the first.
fn pages(count: u8, description: &str) -> Vec<u8> {
    let mut bytes = b"II*\0".to_vec();
    let mut link = bytes.len();
    bytes.extend([0; 4]);
    for page in 0..count {
        let (pixels, text) = (bytes.len() as u32, bytes.len() as u32 + 6);
        bytes.extend([page; 6]);
        bytes.extend(description.as_bytes());
        bytes.extend(vec![0; 1 + bytes.len() % 2]);
        let at = (bytes.len() as u32).to_le_bytes();
        bytes[link..link + 4].copy_from_slice(&at);
        let entries: [(u16, u16, u32, u32); 9] = [
            (256, 4, 1, 3),
            (257, 4, 1, 2),
            (258, 4, 1, 8),
            (259, 4, 1, 1),
            (262, 4, 1, 1),
            (270, 2, description.len() as u32 + 1, text),
            (273, 4, 1, pixels),
            (278, 4, 1, 2),
            (279, 4, 1, 6),
        ];
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, count, value) in entries {
            bytes.extend([&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat());
        }
        link = bytes.len();
        bytes.extend([0; 4]);
    }
    bytes
}

#[test]
fn pages_are_a_volume_only_where_the_file_says_so() {
    let ome = |z, c| format!("<OME><Image><Pixels SizeX=\"3\" SizeY=\"2\" SizeZ=\"{z}\" SizeC=\"{c}\" SizeT=\"1\"/></Image></OME>");
    for description in ["ImageJ=1.53\nimages=3\nslices=3\n", "ImageJ=1.11a\nimages=3\n", "{\"shape\": [3, 2, 3]}", &ome(3, 1)] {
        let found = parse_labels(Path::new("p.tif"), &pages(3, description)).expect("a volume");
        assert_eq!(found.voxels, ndarray::Array3::from_shape_fn((3, 2, 3), |(z, _, _)| z as u32), "{description}");
        let said = complaint(parse_instances(Path::new("p.tif"), &pages(3, description)));
        assert!(said.contains("volume of 3 slices"), "{said}");
    }
    for description in ["a scan of three sheets", "ImageJ=1.53\nimages=3\nchannels=3\n", "{\"shape\": [2, 3]}", &ome(1, 3)] {
        for said in [
            complaint(parse_labels(Path::new("p.tif"), &pages(3, description))),
            complaint(parse_instances(Path::new("p.tif"), &pages(3, description))),
            complaint(parse_rgb(Path::new("p.tif"), &pages(3, description))),
        ] {
            assert!(said.contains("3 pages"), "{description}: {said}");
        }
    }
    let said = complaint(parse_rgb(Path::new("p.tif"), &pages(1, "ImageJ=1.53\nimages=5\nslices=5\n")));
    assert!(said.contains("1 pages of 1 channels, 5 slices"), "{said}");
}

#[test]
fn what_would_be_read_as_another_picture_is_refused() {
    let page = pages(1, "");
    let described = pages(1, "{\"shape\": [5, 2, 3]}");
    assert!(complaint(parse_instances(Path::new("p.tif"), &described)).contains("array of shape [5, 2, 3]"));
    // The tag of the description becomes one that says something else.
    for (tag, value, fact) in [(266_u16, 2_u32, "FillOrder 2"), (32_997, 4, "4 planes in a page")] {
        let mut bytes = page.clone();
        let at = bytes.windows(4).position(|w| w == [14, 1, 2, 0]).expect("the description");
        bytes[at..at + 12].copy_from_slice(&[&tag.to_le_bytes()[..], &[4, 0, 1, 0, 0, 0], &value.to_le_bytes()].concat());
        assert!(complaint(parse_instances(Path::new("p.tif"), &bytes)).contains(fact), "{fact}");
        assert!(complaint(parse_rgb(Path::new("p.tif"), &bytes)).contains(fact), "{fact}");
    }
    let said = complaint(parse_rgb(Path::new("p.png"), &fs::read(golden().join("dark16.png")).expect("there")));
    assert!(said.contains("at most 255"), "{said}");
}

#[test]
fn a_stack_beside_nnu_nets_spacing_file_has_its_spacing() {
    let folder = tempfile::tempdir().expect("a folder");
    let [image, labels] = ["c_0000.tif", "c.tif"].map(|name| folder.path().join(name));
    for path in [&image, &labels] {
        fs::write(path, pages(4, "")).expect("written");
        assert!(!is_volume(path).expect("readable"));
    }
    fs::write(folder.path().join("c.json"), "{\"spacing\": [7.5, 0.25, 0.5]}").expect("written");
    for path in [&image, &labels] {
        assert!(is_volume(path).expect("readable"));
        assert_eq!(read_volume(path).expect("read").spacing_mm().map(|mm| (100.0 * mm) as i64), [750, 25, 50]);
    }
    fs::write(folder.path().join("c.json"), "{\"spacing\": [7.5, 0, 0.5]}").expect("written");
    assert!(complaint(read_volume(&image)).contains("three lengths above 0"));
}

/// Found by fuzzing: the decoder panics.
#[test]
fn a_palette_of_no_whole_number_of_colours_is_refused() {
    let path = golden().join("refused/palette-of-49-bytes.png");
    let said = complaint(parse_rgb(&path, &fs::read(&path).expect("there")));
    assert!(said.contains("49 bytes"), "{said}");
}

#[test]
fn a_damaged_jpeg_in_a_tiff_is_refused_and_not_filled_up() {
    let path = golden().join("jpeg.tif");
    let bytes = fs::read(&path).expect("there");
    let picture = parse_rgb(&path, &bytes).expect("a picture");
    assert_eq!(picture.dim(), (3, 16, 24));
    // Red grows by 15 from row to row.
    assert!((picture[[0, 10, 3]] - 150.0).abs() < 25.0, "{}", picture[[0, 10, 3]]);
    // The tables are another stream, without a picture.
    let header = bytes.windows(2).position(|w| w == [0xff, 0xc0]).expect("the header of the picture");
    let end = header + bytes[header..].windows(2).position(|w| w == [0xff, 0xd9]).expect("its end");
    let mut without_end = bytes.clone();
    without_end[end..end + 2].fill(1);
    assert!(complaint(parse_rgb(&path, &without_end)).contains("without an end"));
    let mut large = bytes.clone();
    large[header + 5..header + 9].copy_from_slice(&[0x40, 0, 0x40, 0]);
    assert!(complaint(parse_rgb(&path, &large)).contains("16384 x 16384 pixels"));
    // As many pixels in another shape.
    let mut turned = bytes.clone();
    turned[header + 5..header + 9].copy_from_slice(&[0, 24, 0, 16]);
    assert!(complaint(parse_rgb(&path, &turned)).contains("24 x 16 pixels"));
}

#[test]
fn colours_with_further_samples_and_a_predictor_are_refused() {
    let path = golden().join("refused/extra-samples.tif");
    assert!(complaint(parse_rgb(&path, &fs::read(&path).expect("there"))).contains("4 samples and a predictor"));
}

#[test]
fn pictures_of_16_bits_keep_their_levels_and_dark_ones_are_refused_with_transparency_too() {
    let encoded = |pixels: &[u16], kind| {
        let mut content = Vec::new();
        let raw: Vec<u8> = pixels.iter().flat_map(|v| v.to_ne_bytes()).collect();
        let side = if kind == ExtendedColorType::L16 { pixels.len() } else { 1 };
        PngEncoder::new(&mut content).write_image(&raw, side as u32, 1, kind).expect("encoded");
        content
    };
    let levels: Vec<u16> = (0..300).map(|k| k * 10).collect();
    let read = parse_rgb(Path::new("p.png"), &encoded(&levels, ExtendedColorType::L16)).expect("a picture");
    for (k, level) in levels.iter().enumerate() {
        assert!((read[[0, 0, k]] - f32::from(*level) / 257.0).abs() < 1e-4);
    }
    for (pixels, kind) in [(&[200, u16::MAX][..], ExtendedColorType::La16), (&[100, 0, 255, u16::MAX], ExtendedColorType::Rgba16)] {
        assert!(complaint(parse_rgb(Path::new("p.png"), &encoded(pixels, kind))).contains("at most 255"));
    }
}

//! Pictures of no size, of too much, and of colours where labels should be.

use std::{fs, path::Path};

use asyndgan_medio::{parse_instances, parse_rgb};

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

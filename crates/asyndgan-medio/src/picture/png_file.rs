//! Label images in PNG, with the values that are stored: the `image` crate spreads those of fewer than 8 bits over 0 to
//! 255.

use std::{io::Cursor, path::Path};

use ndarray::Array2;
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use super::{check_size, unpacked_rows};
use crate::Error;

/// Labels of a grey or palette image; of a palette, the indices.
pub(super) fn labels(path: &Path, bytes: &[u8]) -> Result<Array2<u32>, Error> {
    let wrong = |e: png::DecodingError| Error::unreadable(path, e);
    if !bytes.is_empty() && !bytes.starts_with(b"\x89PNG") {
        return Err(Error::unsupported(path, "it is neither PNG nor TIFF; write it as one of them"));
    }
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::IDENTITY);
    let (width, height, bits, colour) = {
        let info = decoder.read_header_info().map_err(wrong)?;
        (info.width, info.height, info.bit_depth as u8, info.color_type)
    };
    if !matches!(colour, ColorType::Grayscale | ColorType::Indexed) {
        return Err(Error::unsupported(path, format!("its pixels are {colour:?}; labels must have one grey channel or palette indices")));
    }
    let row_bytes = (u64::from(width) * u64::from(bits)).div_ceil(8);
    let decoded = row_bytes.saturating_mul(height.into());
    check_size(path, bytes, (width, height), decoded)?;
    decoder.set_limits(Limits { bytes: 4 * decoded as usize + (64 << 20) });
    let mut reader = decoder.read_info().map_err(wrong)?;
    let mut values = vec![0; reader.output_buffer_size().ok_or_else(|| Error::unreadable(path, "its size overflows"))?];
    let frame = reader.next_frame(&mut values).map_err(wrong)?;
    let (rows, columns) = (height as usize, width as usize);
    let labels: Vec<u32> = match frame.bit_depth {
        BitDepth::Sixteen => values.chunks_exact(2).map(|b| u16::from_be_bytes([b[0], b[1]]).into()).collect(),
        _ => unpacked_rows(&values, rows, columns, frame.line_size, bits).map(u32::from).collect(),
    };
    Array2::from_shape_vec((rows, columns), labels).map_err(|e| Error::unreadable(path, e))
}

/// The length of a palette if it is not a multiple of 3, which would make the decoder panic.
pub(super) fn broken_palette(bytes: &[u8]) -> Option<u32> {
    let mut rest = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    loop {
        let (length, kind) = (u32::from_be_bytes(*rest.first_chunk()?), rest.get(4..8)?);
        if kind == b"PLTE" && !length.is_multiple_of(3) {
            return Some(length);
        }
        // A chunk ends with its checksum.
        rest = rest.get(12 + length as usize..)?;
    }
}

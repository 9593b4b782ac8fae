//! Whether a slice's pixel data can be what its header says, looked at before a decoder makes room for them.

use dicom_core::{DataElement, PrimitiveValue, VR, value::Value};
use dicom_dictionary_std::{tags, uids};
use dicom_object::DefaultDicomObject;
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;

use super::object::Object;
use crate::Error;

/// No compressed slice is smaller than its pixels by more than this.
const RATIO_MAX: usize = 1032;

/// Checks that the pixel data are long enough for a grid of so many bits a pixel, and that a JPEG picture in them has that very grid.
pub(super) fn check(object: &Object, (rows, columns): (usize, usize), bits: usize) -> Result<(), Error> {
    let needed = rows * columns * bits / 8;
    let element = object.inner.element(tags::PIXEL_DATA).map_err(|_| object.wrong("it has no pixel data"))?;
    let stored = match element.value() {
        Value::Primitive(value) => value.calculate_byte_len(),
        Value::PixelSequence(sequence) => {
            let fragments = sequence.fragments();
            if object.inner.meta().transfer_syntax() != uids::RLE_LOSSLESS {
                let found = frame_header(&fragments.concat());
                let precise = |p: u8| if bits == 8 { p <= 8 } else { p > 8 };
                if found.is_none_or(|(r, c, precision, components)| (r, c, components) != (rows, columns, 1) || !precise(precision)) {
                    return Err(object
                        .wrong(format!("its JPEG picture is not the {rows} x {columns} pixels of {bits} bits that its header declares")));
                }
            }
            fragments.iter().map(Vec::len).sum::<usize>().saturating_mul(RATIO_MAX)
        }
        Value::Sequence(_) => 0,
    };
    if stored < needed {
        return Err(object.wrong(format!("its pixels end early: {rows} x {columns} pixels of {bits} bits need {needed} bytes")));
    }
    Ok(())
}

/// The object with its run-length encoded pixels written out.
pub(super) fn expanded(object: &Object, (rows, columns): (usize, usize), bits: usize) -> Result<DefaultDicomObject, Error> {
    let element = object.inner.element(tags::PIXEL_DATA).map_err(|_| object.wrong("it has no pixel data"))?;
    let frame = element.fragments().and_then(|fragments| fragments.first());
    let samples = frame.and_then(|frame| super::rle::decode(frame, rows * columns, bits / 8));
    let samples = samples.ok_or_else(|| object.wrong("its run-length encoded pixels end early, or are of another number of bytes"))?;
    let mut plain = object.inner.clone();
    plain.update_meta(|meta| meta.set_transfer_syntax(&EXPLICIT_VR_LITTLE_ENDIAN.erased()));
    plain.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::from(samples)));
    Ok(plain)
}

/// Rows, columns, bits and components of a JPEG picture, where its segments follow each other as they should.
fn frame_header(bytes: &[u8]) -> Option<(usize, usize, u8, u8)> {
    let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
    loop {
        // Markers without a length, and what is no marker, have no business before a frame.
        let [0xff, marker @ (0xc0..=0xcf | 0xda..=0xfe), high, low, ..] = *rest else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let segment = rest.get(4..2 + length)?;
        // C4, C8 and CC define tables; the others of their row begin a frame.
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let [precision, r1, r0, c1, c0, components, ..] = *segment else { return None };
            let pair = |high, low| usize::from(u16::from_be_bytes([high, low]));
            return Some((pair(r1, r0), pair(c1, c0), precision, components));
        }
        rest = rest.get(2 + length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_header_is_found_behind_other_segments() {
        let jpeg = [0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xc3, 0, 11, 12, 2, 0, 1, 8, 1, 1, 0x11, 0, 0xff, 0xda];
        assert_eq!(frame_header(&jpeg), Some((512, 264, 12, 1)));
        assert_eq!(frame_header(&jpeg[..12]), None);
    }
}

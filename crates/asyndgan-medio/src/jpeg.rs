//! Headers of JPEG pictures.

/// Rows, columns, bits and components of a JPEG or JPEG-LS picture, where its segments follow each other as they
/// should.
pub(crate) fn frame_header(bytes: &[u8]) -> Option<(usize, usize, u8, u16)> {
    let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
    loop {
        // Markers may have fill bytes before them.
        while let [0xff, 0xff, ..] = *rest {
            rest = &rest[1..];
        }
        // Markers without a length, and what is no marker, have no business before a frame.
        let [0xff, marker @ (0xc0..=0xcf | 0xda..=0xfe), high, low, ..] = *rest else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let segment = rest.get(4..2 + length)?;
        // C4, C8 and CC define tables; the others of their row begin a frame, and so does F7 in JPEG-LS.
        if matches!(marker, 0xc0..=0xcf | 0xf7) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let [precision, r1, r0, c1, c0, components, ..] = *segment else { return None };
            let pair = |high, low| usize::from(u16::from_be_bytes([high, low]));
            return Some((pair(r1, r0), pair(c1, c0), precision, components.into()));
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

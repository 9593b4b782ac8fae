//! Run-length encoding, PS3.5 annex G; the registry's decoder trusts segments to be as long as they should.

/// Decodes one grey frame into little-endian samples of `bytes` bytes each; none if the number of segments differs from
/// `bytes` or a segment is too short.
pub(super) fn decode(frame: &[u8], pixels: usize, bytes: usize) -> Option<Vec<u8>> {
    let word = |k: usize| Some(u32::from_le_bytes(frame.get(4 * k..4 * k + 4)?.try_into().ok()?) as usize);
    if word(0)? != bytes {
        return None;
    }
    let mut samples = vec![0; pixels * bytes];
    for segment in 0..bytes {
        let end = if segment + 1 < bytes { word(segment + 2)? } else { frame.len() };
        let plane = unpack(frame.get(word(segment + 1)?..end)?, pixels)?;
        // The most significant byte comes first.
        let places = samples.iter_mut().skip(bytes - 1 - segment).step_by(bytes);
        places.zip(plane).for_each(|(place, byte)| *place = byte);
    }
    Some(samples)
}

/// The first `length` bytes of a `PackBits` stream.
fn unpack(mut stream: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(length);
    while out.len() < length {
        let (&control, rest) = stream.split_first()?;
        stream = match control {
            0..128 => {
                let (literal, rest) = rest.split_at_checked(usize::from(control) + 1)?;
                out.extend_from_slice(literal);
                rest
            }
            128 => rest,
            129.. => {
                let (&byte, rest) = rest.split_first()?;
                out.resize(out.len() + 257 - usize::from(control), byte);
                rest
            }
        };
    }
    out.truncate(length);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_sample_come_from_their_segments() {
        let mut frame = [2_u32, 64, 68].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        frame.resize(64, 0);
        // Three times 1, padded; then 2, 3, 4.
        frame.extend([254, 1, 128, 128, 2, 2, 3, 4]);
        assert_eq!(decode(&frame, 3, 2), Some(vec![2, 1, 3, 1, 4, 1]));
        assert_eq!(decode(&frame, 4, 2), None);
        assert_eq!(decode(&frame, 3, 1), None);
    }
}

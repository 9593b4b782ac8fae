use bytes::BytesMut;

use super::wire::Chunk;
use crate::Frame;

/// The maximum size of one part of a frame.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// The maximum size of a frame: enough for a batch of 48 MiB in 32-bit floats, or a gigabyte of compressed masks.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// A frame in parts that share its bytes.
pub(super) fn chunks(frame: Frame) -> impl Iterator<Item = Chunk> {
    let Frame { number, mut bytes } = frame;
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let part = bytes.split_to(bytes.len().min(CHUNK_BYTES_MAX));
        ended = bytes.is_empty();
        Some(Chunk { frame: number, last: ended, bytes: part })
    })
}

/// Reassembles the frames of a connection, which arrive in order. Buffers one frame at most.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    number: u64,
    whole: BytesMut,
}

impl Assembly {
    /// Adds a part, and returns the frame if it is complete.
    pub(super) fn take(&mut self, chunk: Chunk) -> Result<Option<Frame>, String> {
        if chunk.frame != self.number {
            return Err(format!("received a part of frame {}, expected frame {}", chunk.frame, self.number));
        }
        if chunk.bytes.len() > CHUNK_BYTES_MAX || self.whole.len() + chunk.bytes.len() > FRAME_BYTES_MAX {
            return Err(format!("a frame exceeds {FRAME_BYTES_MAX} bytes, or a part of it {CHUNK_BYTES_MAX}"));
        }
        if chunk.bytes.len() < CHUNK_BYTES_MAX && !chunk.last {
            return Err(format!("received a part of {} bytes; only the last part may be less than {CHUNK_BYTES_MAX}", chunk.bytes.len()));
        }
        let single = chunk.last && self.whole.is_empty();
        if !single {
            // Reuses the buffer of an earlier frame once nothing else refers to it.
            self.whole.extend_from_slice(&chunk.bytes);
        }
        if !chunk.last {
            return Ok(None);
        }
        let bytes = if single { chunk.bytes } else { self.whole.split().freeze() };
        self.number += 1;
        Ok(Some(Frame { number: self.number - 1, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(frame: &Frame) -> Result<Vec<Frame>, String> {
        let mut assembly = Assembly::default();
        chunks(frame.clone()).filter_map(|chunk| assembly.take(chunk).transpose()).collect()
    }

    #[test]
    fn frames_of_any_size_come_through_whole() {
        for size in [0, 1, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, 3 * CHUNK_BYTES_MAX + 7] {
            let bytes: Vec<u8> = (0..size).map(|k| (k % 251) as u8).collect();
            let frame = Frame { number: 0, bytes: bytes.into() };
            assert_eq!(through(&frame), Ok(vec![frame]));
        }
    }

    #[test]
    fn mixed_endless_and_empty_parts_are_refused() {
        let part = |frame, size: usize| Chunk { frame, last: false, bytes: vec![0; size].into() };
        let mut mixed = Assembly::default();
        assert_eq!(mixed.take(part(0, CHUNK_BYTES_MAX)), Ok(None));
        assert!(mixed.take(part(1, CHUNK_BYTES_MAX)).is_err());
        assert!(Assembly::default().take(part(0, 1)).is_err());
        assert!(Assembly::default().take(part(0, 0)).is_err());
        assert!(Assembly::default().take(part(0, CHUNK_BYTES_MAX + 1)).is_err());
        let mut endless = Assembly::default();
        let shared = part(0, CHUNK_BYTES_MAX);
        let taken = (0..1000).take_while(|_| endless.take(shared.clone()).is_ok()).count();
        assert_eq!(taken, FRAME_BYTES_MAX / CHUNK_BYTES_MAX);
    }
}

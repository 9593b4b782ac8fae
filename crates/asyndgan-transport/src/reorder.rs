use std::collections::BTreeMap;

use asyndgan_protocol::Message;
use bytes::{Bytes, BytesMut};

use crate::Frame;

/// How many later frames may wait for a missing one.
const HELD_MAX: usize = 8;

/// Numbers the outgoing frames of a connection, and delivers the incoming ones once and in order.
#[derive(Debug, Default)]
pub(crate) struct ReorderBuffer {
    sent: u64,
    taken: u64,
    room: BytesMut,
    held: BTreeMap<u64, Bytes>,
}

impl ReorderBuffer {
    pub(crate) fn frame(&mut self, message: &Message) -> Frame {
        self.sent += 1;
        Frame { number: self.sent - 1, bytes: message.encode_in(&mut self.room) }
    }

    /// Takes a frame; a second copy is dropped.
    pub(crate) fn take(&mut self, frame: Frame) -> Result<(), String> {
        if frame.number < self.taken {
            return Ok(());
        }
        if self.held.len() >= HELD_MAX && frame.number != self.taken {
            return Err(format!("frame {} is missing, but {HELD_MAX} later frames arrived", self.taken));
        }
        self.held.insert(frame.number, frame.bytes);
        Ok(())
    }

    /// The next frame in order, if it is here.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let bytes = self.held.remove(&self.taken)?;
        self.taken += 1;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(numbers: &mut ReorderBuffer, order: &[u64]) -> Result<Vec<u8>, String> {
        let mut taken = Vec::new();
        for &number in order {
            numbers.take(Frame { number, bytes: Bytes::from(vec![number as u8]) })?;
            taken.extend(std::iter::from_fn(|| numbers.next()).map(|b| b[0]));
        }
        Ok(taken)
    }

    #[test]
    fn doubled_and_reordered_frames_arrive_once_and_in_order() {
        assert_eq!(all(&mut ReorderBuffer::default(), &[1, 1, 0, 0, 2, 1, 4, 3, 4]), Ok(vec![0, 1, 2, 3, 4]));
    }

    #[test]
    fn a_missing_frame_is_an_error_before_memory_grows() {
        assert!(all(&mut ReorderBuffer::default(), &[0, 2, 3, 4, 5, 6, 7, 8, 9]).is_ok());
        assert!(all(&mut ReorderBuffer::default(), &[0, 2, 3, 4, 5, 6, 7, 8, 9, 10]).is_err());
    }
}

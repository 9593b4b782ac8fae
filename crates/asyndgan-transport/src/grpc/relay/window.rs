use std::collections::VecDeque;

use super::{
    super::{
        chunks::{Assembly, CHUNK_BYTES_MAX, chunks},
        outbox::OUTGOING_BYTES_MAX,
        wire::Chunk,
    },
    PARTS_MAX,
};
use crate::Frame;

/// Parts that the other end has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    first: u64,
    parts: VecDeque<Chunk>,
    bytes: usize,
}

impl Outgoing {
    pub(super) fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes.len();
        self.parts.extend(chunks(frame));
    }

    /// Whether the other end has not taken so much that it does not take part.
    pub(super) fn is_overfull(&self) -> bool {
        self.bytes > OUTGOING_BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Drops what the other end has taken: so many parts since the connection began.
    pub(super) fn acknowledge(&mut self, taken: u64) {
        while self.first < taken
            && let Some(part) = self.parts.pop_front()
        {
            self.first += 1;
            self.bytes -= part.bytes.len();
        }
    }

    /// The number of the first part that was not taken, and as many parts as one request or reply carries.
    pub(super) fn batch(&self) -> (u64, Vec<Chunk>) {
        let mut left = CHUNK_BYTES_MAX;
        let fits = |part: &&Chunk| {
            let does_fit = part.bytes.len() <= left;
            left = left.saturating_sub(part.bytes.len());
            does_fit
        };
        (self.first, self.parts.iter().take(PARTS_MAX).take_while(fits).cloned().collect())
    }
}

/// Takes the other end's parts once and in order.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    taken: u64,
    assembly: Assembly,
}

impl Incoming {
    /// How many parts were taken since the connection began.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes the parts that are next, and delivers the frames that are complete. Before it completes a frame, it asks
    /// for a permit; without one, it takes no more, and the other end repeats the rest.
    ///
    /// # Errors
    /// If the parts are not those of frames.
    pub(super) fn take<P>(
        &mut self,
        first: u64,
        parts: Vec<Chunk>,
        mut permit: impl FnMut() -> Option<P>,
        mut deliver: impl FnMut(Frame, P),
    ) -> Result<(), String> {
        // Repeated parts were taken before; later ones are repeated once the missing ones are here.
        let Some(skipped) = self.taken.checked_sub(first) else { return Ok(()) };
        for part in parts.into_iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX)) {
            let permit = if part.last {
                let Some(permit) = permit() else { return Ok(()) };
                Some(permit)
            } else {
                None
            };
            if let (Some(frame), Some(permit)) = (self.assembly.take(part)?, permit) {
                deliver(frame, permit);
            }
            self.taken += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    /// One request with its reply, as often as it arrives.
    fn exchange(outgoing: &mut Outgoing, incoming: &mut Incoming, times: u8, has_room: bool, is_lost: bool, arrived: &mut Vec<Frame>) {
        let (first, parts) = outgoing.batch();
        assert!(parts.iter().map(|part| part.bytes.len()).sum::<usize>() <= CHUNK_BYTES_MAX && parts.len() <= PARTS_MAX);
        for _ in 0..times {
            let permit = || has_room.then_some(());
            incoming.take(first, parts.clone(), permit, |frame, ()| arrived.push(frame)).expect("whole frames");
        }
        if !is_lost {
            outgoing.acknowledge(incoming.taken());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A relay may lose, repeat and delay requests and replies: every frame arrives once and in order.
        #[test]
        fn frames_arrive_once_and_in_order(
            sizes in proptest::collection::vec(prop_oneof![0..50_usize, Just(CHUNK_BYTES_MAX), Just(2 * CHUNK_BYTES_MAX + 3)], 1..8),
            faults in proptest::collection::vec((0..3_u8, any::<bool>(), any::<bool>()), 0..30),
        ) {
            let frames: Vec<_> = (0..).zip(&sizes).map(|(number, &n)| Frame { number, bytes: Bytes::from(vec![number as u8; n]) }).collect();
            let (mut outgoing, mut incoming, mut arrived) = (Outgoing::default(), Incoming::default(), Vec::new());
            frames.iter().cloned().for_each(|frame| outgoing.push(frame));
            let early = outgoing.batch();
            for (times, has_room, is_lost) in faults {
                exchange(&mut outgoing, &mut incoming, times, has_room, is_lost, &mut arrived);
                // A request that was held back for long.
                incoming.take(early.0, early.1.clone(), || Some(()), |frame, ()| arrived.push(frame)).expect("whole frames");
            }
            while !outgoing.is_empty() {
                exchange(&mut outgoing, &mut incoming, 1, true, false, &mut arrived);
            }
            prop_assert_eq!(arrived, frames);
        }
    }

    #[test]
    fn foreign_numbers_change_nothing() {
        let mut outgoing = Outgoing::default();
        outgoing.acknowledge(u64::MAX);
        outgoing.push(Frame { number: 0, bytes: Bytes::from_static(b"a") });
        let (first, parts) = outgoing.batch();
        assert_eq!((first, parts.len()), (0, 1));
        let mut incoming = Incoming::default();
        incoming.take(5, parts.clone(), || Some(()), |_, ()| panic!("not next")).expect("ignored");
        incoming.take(0, parts, || Some(()), |_, ()| {}).expect("taken");
        incoming.take(0, Vec::new(), || Some(()), |_, ()| {}).expect("nothing");
        assert_eq!(incoming.taken(), 1);
    }

    #[test]
    fn what_is_not_taken_is_counted() {
        let mut outgoing = Outgoing::default();
        let frame = |number| Frame { number, bytes: Bytes::from(vec![0; OUTGOING_BYTES_MAX / 3]) };
        (0..3).for_each(|number| outgoing.push(frame(number)));
        assert!(!outgoing.is_overfull());
        outgoing.push(frame(3));
        assert!(outgoing.is_overfull());
        outgoing.acknowledge(64);
        assert!(!outgoing.is_overfull());
    }
}

//! What waits to be sent over one connection, up to a limit: the other end may not read.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::UnboundedReceiverStream};

use super::chunks::FRAME_BYTES_MAX;

/// The most that waits for the other end: a frame that is being sent, the one after it, and smaller ones.
pub(super) const OUTGOING_BYTES_MAX: usize = 3 * FRAME_BYTES_MAX;

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
}

/// The sending end.
#[derive(Debug)]
pub(super) struct Outbox<T> {
    /// One for each item, to wake the stream.
    tokens: mpsc::UnboundedSender<()>,
    queue: Arc<Mutex<Queue<T>>>,
}

/// The other end does not take what is sent.
pub(super) const OVERFULL: &str = "it does not take what is sent";

/// An outbox, and the stream of what is put into it. The stream ends after the last item once the outbox is dropped.
pub(super) fn outbox<T: Send + 'static>() -> (Outbox<T>, impl Stream<Item = T> + Send) {
    let (tokens, woken) = mpsc::unbounded_channel();
    let queue = Arc::new(Mutex::new(Queue { items: VecDeque::new(), bytes: 0 }));
    let taken = Arc::clone(&queue);
    let stream = UnboundedReceiverStream::new(woken).filter_map(move |()| {
        let mut queue = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (item, bytes) = queue.items.pop_front()?;
        queue.bytes -= bytes;
        Some(item)
    });
    (Outbox { tokens, queue }, stream)
}

impl<T> Outbox<T> {
    /// Adds an item of so many bytes. If too much waits, everything is dropped.
    ///
    /// # Errors
    /// [`OVERFULL`]. The connection cannot be used any more.
    pub(super) fn send(&self, item: T, bytes: usize) -> Result<(), &'static str> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.items.push_back((item, bytes));
        queue.bytes += bytes;
        if queue.bytes > OUTGOING_BYTES_MAX {
            queue.items.clear();
            queue.bytes = 0;
            return Err(OVERFULL);
        }
        // A connection that is gone reports that itself.
        let _ = self.tokens.send(());
        Ok(())
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.tokens.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_arrives_in_order_and_a_stream_that_nobody_reads_stays_small() {
        let (outbox, stream) = outbox();
        let mut stream = std::pin::pin!(stream);
        for item in 0..100 {
            outbox.send(item, OUTGOING_BYTES_MAX / 10).expect("it is read");
            assert_eq!(stream.next().await, Some(item));
        }
        let sent = (0..100).take_while(|item| outbox.send(*item, OUTGOING_BYTES_MAX / 10).is_ok()).count();
        assert_eq!(sent, 10);
        drop(outbox);
        assert_eq!(stream.next().await, None);
    }
}

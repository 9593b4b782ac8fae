use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// How often a driver that waits for messages looks for requests.
pub(crate) const POLL_EVERY: Duration = Duration::from_millis(200);

/// Requests to a server or a site that is running. Clones share their requests.
///
/// The default value has no requests, and costs the driver nothing; [`Control::new`] creates one that can be used.
#[derive(Debug, Clone, Default)]
pub struct Control(Option<Arc<Requests>>);

#[derive(Debug, Default)]
struct Requests {
    stop: AtomicBool,
    finish: AtomicBool,
    turns: AtomicU64,
    parent: Control,
}

/// How a part in a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The run is finished, or the site has left it for good.
    Finished,
    /// It was asked to stop. The run resumes from the last checkpoints when both ends are started again.
    Stopped,
}

impl Control {
    /// A control that can be used.
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// A control for one run of several: it also stops if this one stops.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(Some(Arc::new(Requests { parent: self.clone(), ..Requests::default() })))
    }

    /// Asks the driver to stop in order: it drops the round, informs the other end, and returns
    /// [`Outcome::Stopped`].
    pub fn stop(&self) {
        self.0.iter().for_each(|requests| requests.stop.store(true, Relaxed));
    }

    /// Asks a server to end the run with the rounds that are done. A site ignores it. It is not stored: if the server
    /// is started again before the run has ended, ask again.
    pub fn finish(&self) {
        self.0.iter().for_each(|requests| requests.finish.store(true, Relaxed));
    }

    /// Whether it is asked to stop. Counts as a turn.
    pub fn is_stopping(&self) -> bool {
        self.0.as_ref().is_some_and(|requests| {
            requests.turns.fetch_add(1, Relaxed);
            requests.parent.is_stopping() || requests.stop.load(Relaxed)
        })
    }

    /// How often the driver has looked for requests. If it no longer grows, the driver hangs or has ended.
    pub fn turns(&self) -> u64 {
        self.0.as_ref().map_or(0, |requests| requests.turns.load(Relaxed))
    }

    /// Whether the driver must look for requests while it waits.
    pub(crate) fn can_be_used(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the server is asked to end the run.
    pub(crate) fn is_finishing(&self) -> bool {
        self.0.as_ref().is_some_and(|requests| requests.finish.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_stops_alone_or_with_its_parent() {
        let parent = Control::new();
        let (first, second) = (parent.child(), parent.child());
        first.stop();
        assert!(first.is_stopping() && !second.is_stopping() && !parent.is_stopping());
        parent.stop();
        assert!(second.is_stopping());
        // Three turns of the children, and one of its own.
        assert_eq!(parent.turns(), 4);
        let unused = Control::default();
        unused.stop();
        assert!(!unused.is_stopping() && unused.turns() == 0);
    }
}

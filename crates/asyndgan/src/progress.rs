//! Progress of long work: bars in a terminal, or lines for a program that draws the bars.
//!
//! Nothing is shown unless the program asks for it with [`show`].

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

static IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// How often a program without a terminal reports its progress.
const MESSAGE_EVERY: Duration = Duration::from_mins(1);

/// The system clock: milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64)
}

/// All bars of this process.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Shows progress from now on: bars on standard error if it is a terminal, or else a message every minute. If the
/// environment variable `ASYNDGAN_PROGRESS` is `lines`: lines for another program on standard output.
pub fn show() {
    IS_SHOWN.store(true, Ordering::Relaxed);
}

/// Does something without bars on the terminal, such as printing a line; then draws them again.
pub fn suspend<T>(print: impl FnOnce() -> T) -> T {
    BARS.suspend(print)
}

/// The progress of a step.
pub(crate) enum Progress {
    Hidden,
    Bar(ProgressBar),
    /// A message now and then.
    Messages {
        label: String,
        total: u64,
        first: Option<(u64, Instant)>,
        shown_at: Instant,
    },
    Lines {
        total: u64,
        shown_at: Option<Instant>,
    },
}

impl Progress {
    pub(crate) fn new(label: &str, total: u64) -> Self {
        if !IS_SHOWN.load(Ordering::Relaxed) {
            return Self::Hidden;
        }
        if std::env::var("ASYNDGAN_PROGRESS").is_ok_and(|v| v == "lines") {
            return Self::Lines { total, shown_at: None };
        }
        if !std::io::stderr().is_terminal() {
            return Self::Messages { label: label.into(), total, first: None, shown_at: now() };
        }
        Self::Bar(bar("{msg} [{bar:30}] {pos}/{len}, {eta} left", label, total))
    }

    pub(crate) fn set(&mut self, done: u64) {
        match self {
            Self::Hidden => {}
            Self::Bar(bar) => bar.set_position(done),
            Self::Messages { label, total, first, shown_at } => {
                let (from, since) = *first.get_or_insert((done, now()));
                if shown_at.elapsed() > MESSAGE_EVERY && done > from {
                    *shown_at = now();
                    let left = since.elapsed().mul_f64(total.saturating_sub(done) as f64 / (done - from) as f64);
                    tracing::info!("{label}: {done} of {total}, about {} left", HumanDuration(left));
                }
            }
            Self::Lines { total, shown_at } => {
                if done >= *total || shown_at.is_none_or(|at| at.elapsed() > Duration::from_millis(200)) {
                    *shown_at = Some(now());
                    let mut out = std::io::stdout().lock();
                    if writeln!(out, "progress {done} {total}").and_then(|()| out.flush()).is_err() {
                        // The runner is gone, and its next start will go on from the last checkpoint.
                        std::process::exit(1);
                    }
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            BARS.remove(bar);
        }
    }
}

/// A bar below all others.
pub(crate) fn bar(template: &str, label: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = if IS_SHOWN.load(Ordering::Relaxed) { BARS.add(ProgressBar::new(total)) } else { ProgressBar::hidden() };
    bar.with_style(style).with_message(label.to_owned())
}

#[allow(clippy::disallowed_methods, reason = "the application may look at the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

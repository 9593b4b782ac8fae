use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Shows the progress of a step: a bar with the remaining time, or lines for a runner that draws the bars.
pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines { total: u64, said: Option<Instant> },
}

impl Progress {
    pub(crate) fn new(label: &str, total: u64) -> Self {
        if std::env::var("ASYNDGAN_PROGRESS").is_ok_and(|v| v == "lines") {
            return Self::Lines { total, said: None };
        }
        let style =
            ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}, {eta} left").unwrap_or_else(|_| ProgressStyle::default_bar());
        Self::Bar(ProgressBar::new(total).with_style(style).with_message(label.to_owned()))
    }

    /// Prints a line above the bar.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            Self::Lines { .. } => eprintln!("{text}"),
        }
    }

    pub(crate) fn set(&mut self, done: u64) {
        match self {
            Self::Bar(bar) => bar.set_position(done),
            Self::Lines { total, said } => {
                if done >= *total || said.is_none_or(|at| at.elapsed() > Duration::from_millis(200)) {
                    *said = Some(now());
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

#[allow(clippy::disallowed_methods, reason = "the binary may look at the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

//! Stops the work in order when the program gets SIGTERM, SIGINT or SIGHUP.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result};
use asyndgan_transport::Control;

/// The exit code of a program that was asked to stop twice: that of one that SIGINT has ended.
const AT_ONCE: i32 = 130;

/// A control that a signal stops. A second signal ends the program at once.
pub(crate) fn on_signal() -> Result<Control> {
    let control = Control::new();
    let (asked, is_asked) = (control.clone(), AtomicBool::new(false));
    ctrlc::set_handler(move || {
        if is_asked.swap(true, Relaxed) {
            // Without the clean-up of libtorch, whose operations go on in other threads.
            signal_hook::low_level::exit(AT_ONCE);
        }
        tracing::info!("stopping in order; repeat the signal to stop at once");
        asked.stop();
    })
    .context("cannot handle signals")?;
    Ok(control)
}

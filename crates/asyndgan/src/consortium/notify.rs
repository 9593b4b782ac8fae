//! Messages to systemd, for units with `Type=notify` and a watchdog. Without systemd they do nothing.

use std::thread;

use asyndgan_transport::Control;
use sd_notify::NotifyState;

fn send(state: NotifyState<'_>) {
    // Without it, systemd considers the program hung, and starts it again.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("cannot notify systemd: {error}");
    }
}

/// The program is ready: a server listens, or a site has its data.
pub(super) fn ready() {
    send(NotifyState::Ready);
}

/// Keeps systemd's watchdog content as long as the work goes on.
pub(super) fn watchdog(control: &Control) {
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    let control = control.clone();
    thread::spawn(move || {
        let mut before = None;
        loop {
            let turns = control.turns();
            if before != Some(turns) {
                send(NotifyState::Watchdog);
            }
            before = Some(turns);
            thread::sleep(interval / 4);
        }
    });
}

use std::{thread, time::Duration};

/// How long a worker waits before it tries again.
const PAUSES_MS: [u64; 4] = [200, 800, 2_000, 5_000];

/// Tries a few times, with pauses, what may fail for a moment.
pub(crate) fn retried<T, E: std::fmt::Display>(mut work: impl FnMut() -> Result<T, E>, mut tell: impl FnMut(&E)) -> Result<T, E> {
    for pause in PAUSES_MS {
        match work() {
            Err(error) => tell(&error),
            done => return done,
        }
        thread::sleep(Duration::from_millis(pause));
    }
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_for_a_moment_is_done_and_told() {
        let (mut left, mut told) = (2, Vec::new());
        let done = retried(
            || {
                left -= 1;
                if left >= 0 { Err("no space") } else { Ok(7) }
            },
            |error| told.push(*error),
        );
        assert_eq!((done, told), (Ok(7), vec!["no space"; 2]));
    }
}

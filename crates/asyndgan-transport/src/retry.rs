use std::{thread, time::Duration};

/// The delays before each retry.
const PAUSES_MS: [u64; 4] = [200, 800, 2_000, 5_000];

/// Retries work that may fail temporarily, with a delay before each retry.
pub(crate) fn retried<T, E: std::fmt::Display>(mut work: impl FnMut() -> Result<T, E>, mut notify: impl FnMut(&E)) -> Result<T, E> {
    for pause in PAUSES_MS {
        match work() {
            Err(error) => notify(&error),
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
    fn what_fails_for_a_moment_is_tried_again_and_reported() {
        let (mut left, mut errors) = (2, Vec::new());
        let done = retried(
            || {
                left -= 1;
                if left >= 0 { Err("no space") } else { Ok(7) }
            },
            |error| errors.push(*error),
        );
        assert_eq!((done, errors), (Ok(7), vec!["no space"; 2]));
    }
}

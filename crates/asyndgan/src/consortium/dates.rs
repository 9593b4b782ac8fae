//! Times, for people.

use time::OffsetDateTime;

/// A day.
pub(super) fn date(unix_s: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix_s).map_or_else(|_| "?".into(), |t| t.date().to_string())
}

/// Days until a time, by this machine's clock; negative if it has passed.
pub(super) fn days_left(unix_s: i64) -> f64 {
    (unix_s - OffsetDateTime::now_utc().unix_timestamp()) as f64 / 86_400.0
}

/// A second.
pub(super) fn time(unix_s: i64) -> String {
    let Ok(t) = OffsetDateTime::from_unix_timestamp(unix_s) else { return "?".into() };
    format!("{} {:02}:{:02}:{:02}", t.date(), t.hour(), t.minute(), t.second())
}

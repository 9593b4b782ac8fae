//! Times, for people.

use time::OffsetDateTime;

/// A day.
pub(super) fn date(unix_s: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix_s).map_or_else(|_| "?".into(), |t| t.date().to_string())
}

/// A second.
pub(super) fn time(unix_s: i64) -> String {
    let Ok(t) = OffsetDateTime::from_unix_timestamp(unix_s) else { return "?".into() };
    format!("{} {:02}:{:02}:{:02}", t.date(), t.hour(), t.minute(), t.second())
}

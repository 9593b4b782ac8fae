//! Messages on standard error.

#[cfg(unix)]
use std::os::unix::fs::PermissionsExt as _;
use std::{
    ffi::OsString,
    fmt, fs,
    io::{self, IsTerminal as _},
    path::Path,
    sync::{Arc, OnceLock},
};

use anyhow::{Context as _, Result, ensure};
use asyndgan::progress;
use clap::ValueEnum;
use tracing::{Event, Level, Subscriber};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format::Writer},
    registry::LookupSpan,
};

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text for each message.
    Text,
    /// A JSON object for each message, with time, level, target and fields.
    Json,
}

/// How many log files are kept: one for each day.
const FILES_KEPT: usize = 30;

/// Where messages go.
#[derive(Clone)]
enum Output {
    StandardError(AboveBars),
    File(Arc<RollingFileAppender>),
}

impl Output {
    fn new(file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else { return Ok(Self::StandardError(AboveBars)) };
        let shown = path.display();
        let name = path.file_name().and_then(|name| name.to_str()).with_context(|| format!("{shown} is not the name of a log file"))?;
        let builder = RollingFileAppender::builder().rotation(Rotation::DAILY).filename_prefix(name).max_log_files(FILES_KEPT);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Old files are found by the beginning of their names, and deleted.
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry?;
            let other = entry.file_name().to_string_lossy().into_owned();
            let is_at_risk = other.starts_with(name) && !is_log_of(name, &other) && !entry.file_type()?.is_dir();
            ensure!(!is_at_risk, "{shown} is the beginning of the name of {other}: choose another name, or another folder");
        }
        let appender = builder.build(folder).with_context(|| format!("cannot write {shown}"))?;
        // They have the address of the dashboard with its token.
        #[cfg(unix)]
        for entry in fs::read_dir(folder)? {
            let file = entry?.path();
            if file.file_name().is_some_and(|file| is_log_of(name, &file.to_string_lossy())) {
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).with_context(|| file.display().to_string())?;
            }
        }
        Ok(Self::File(Arc::new(appender)))
    }
}

/// Whether a file is the log of one day: its name is that of the log, and a date such as `.2026-11-30`.
fn is_log_of(name: &str, file: &str) -> bool {
    let Some(date) = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) else { return false };
    let is_fit = |(position, byte): (usize, u8)| if matches!(position, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() };
    date.len() == 10 && date.bytes().enumerate().all(is_fit)
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Box<dyn io::Write + 'a>;

    fn make_writer(&'a self) -> Self::Writer {
        match self {
            Self::StandardError(output) => Box::new(*output),
            Self::File(output) => Box::new(output.make_writer()),
        }
    }
}

/// Starts to write messages. Without -v and `RUST_LOG`: those of level info and above of this program.
///
/// # Errors
/// If the log file cannot be written.
pub(crate) fn start(format: LogFormat, verbose: u8, file: Option<&Path>) -> Result<()> {
    let output = Output::new(file)?;
    let mut arguments: Vec<OsString> = vec!["--verbose".into(); usize::from(verbose)];
    if format == LogFormat::Json {
        arguments.push("--log-format=json".into());
    }
    if let Some(path) = file {
        arguments.extend(["--log-file".into(), path.into()]);
    }
    ARGUMENTS.set(arguments).ok();
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let own = format!("warn,asyndgan={level},{}", CRATES.map(|name| format!("asyndgan_{name}={level}")).join(","));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(own));
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(output).with_ansi(file.is_none() && io::stderr().is_terminal());
    match format {
        LogFormat::Json => subscriber.json().init(),
        // A file has no other times.
        LogFormat::Text if verbose > 0 || file.is_some() => subscriber.init(),
        LogFormat::Text => subscriber.event_format(Plain).init(),
    }
    Ok(())
}

/// The arguments about messages of this program, for the programs that it starts.
static ARGUMENTS: OnceLock<Vec<OsString>> = OnceLock::new();

/// The arguments with which a started program writes its messages as this one does.
pub(crate) fn arguments() -> Vec<OsString> {
    ARGUMENTS.get().cloned().unwrap_or_default()
}

const CRATES: [&str; 8] = ["data", "evaluator", "files", "medio", "models", "protocol", "training", "transport"];

/// The message alone, with its fields; warnings and errors are marked.
struct Plain;

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for Plain {
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        match *event.metadata().level() {
            Level::ERROR => writer.write_str("error: ")?,
            Level::WARN => writer.write_str("warning: ")?,
            _ => {}
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Writes to standard error above the progress bars.
#[derive(Clone, Copy)]
struct AboveBars;

impl io::Write for AboveBars {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        // A reader that stops early, like `head`, is not an error.
        Ok(progress::suspend(|| io::stderr().write(text)).unwrap_or(text.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_with_a_date_are_logs() {
        assert!(is_log_of("north", "north.2026-11-30"));
        for other in ["north", "north.pem", "north.toml", "north.2026-11-30.pem", "north.20261130", "northern.2026-11-30"] {
            assert!(!is_log_of("north", other), "{other}");
        }
    }

    #[test]
    fn a_log_file_whose_rotation_would_delete_other_files_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("north")).expect("created");
        fs::write(folder.path().join("north.2026-11-01"), "a log").expect("written");
        Output::new(Some(&folder.path().join("north"))).expect("folders and logs are no obstacle");
        fs::write(folder.path().join("north.pem"), "a key").expect("written");
        let refused = Output::new(Some(&folder.path().join("north"))).err().expect("refused").to_string();
        assert!(refused.contains("north.pem"), "{refused}");
    }
}

//! Messages on standard error.

#[cfg(unix)]
use std::os::unix::fs::PermissionsExt as _;
use std::{
    fmt, fs,
    io::{self, IsTerminal as _},
    path::Path,
    sync::Arc,
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
            let other = entry?.file_name().to_string_lossy().into_owned();
            let is_own = other.strip_prefix(name).is_none_or(|rest| rest.is_empty() || rest.starts_with('.'));
            ensure!(is_own, "{shown} is the beginning of the name of {other}: choose another name, or another folder");
        }
        let appender = builder.build(folder).with_context(|| format!("cannot write {shown}"))?;
        // They have the address of the dashboard with its token.
        #[cfg(unix)]
        for entry in fs::read_dir(folder)? {
            let file = entry?.path();
            if file.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)) {
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).with_context(|| file.display().to_string())?;
            }
        }
        Ok(Self::File(Arc::new(appender)))
    }
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

/// The arguments about messages with which this program was started, for those that it starts.
pub(crate) fn arguments() -> Vec<String> {
    let is_about_messages = |argument: &String| {
        argument.starts_with("-v") || argument == "--verbose" || argument.starts_with("--log-format=") || argument == "json"
    };
    let given: Vec<String> = std::env::args().skip(1).filter(is_about_messages).collect();
    given.into_iter().map(|argument| if argument == "json" { "--log-format=json".into() } else { argument }).collect()
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

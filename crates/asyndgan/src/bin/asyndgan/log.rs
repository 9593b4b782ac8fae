//! Messages on standard error.

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use asyndgan::progress;
use clap::ValueEnum;
use tracing::{Event, Level, Subscriber};
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

/// Starts to write messages. Without -v and `RUST_LOG`: those of level info and above of this program.
pub(crate) fn start(format: LogFormat, verbose: u8) {
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let own = format!("warn,asyndgan={level},{}", CRATES.map(|name| format!("asyndgan_{name}={level}")).join(","));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(own));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(AboveBars).with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Json => subscriber.json().init(),
        LogFormat::Text if verbose > 0 => subscriber.init(),
        LogFormat::Text => subscriber.event_format(Plain).init(),
    }
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
struct AboveBars;

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl io::Write for AboveBars {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        // A reader that stops early, like `head`, is not an error.
        Ok(progress::suspend(|| io::stderr().write(text)).unwrap_or(text.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

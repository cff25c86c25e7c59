//! Logs: structured, to standard error, with a filter that can be changed while running.
//!
//! Nobody waits for a log line. A thread writes them; while whoever reads standard error does not, so
//! many lines wait, and further ones are dropped and counted. What users wrote cannot end a line,
//! colour it or turn it round.

mod line;

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use self::line::{Form, Lines};
use crate::config::{LogFormat, Settings};
use crate::limits;

/// What the process could not write. There is one log of a process.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Changes the filter of a running process.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

/// A log that is being written. Dropped at the end of the process, it writes what still waits, for a
/// second at most.
#[must_use]
#[derive(Debug)]
pub struct Logging {
    /// What is written.
    pub filter: LogFilter,
    _writer: WorkerGuard,
}

impl LogFilter {
    /// Takes another filter, in the form of `RUST_LOG`.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence; the old one stays.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let filter: EnvFilter = filter.parse().map_err(|error| format!("log: {error}"))?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Lines that were dropped since the process began.
pub fn dropped() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.dropped_lines() as u64)
}

/// Starts logging for the process. A second call changes nothing and is told so.
///
/// # Errors
/// In a sentence.
pub fn start(settings: &Settings) -> Result<Logging, String> {
    let filter: EnvFilter = settings.log.parse().map_err(|error| format!("log: {error}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let terminal = std::io::stderr().is_terminal();
    let json = match settings.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let colour = terminal && std::env::var_os("NO_COLOR").is_none();
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(limits::LOG_LINES_WAITING_MAX)
        .thread_name("log")
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    let form = match (json, colour) {
        (true, _) => Form::Json,
        (false, true) => Form::Coloured,
        (false, false) => Form::Plain,
    };
    let layer = fmt::layer().with_writer(Lines::new(writer, form));
    let lines = if json {
        layer.json().flatten_event(true).boxed()
    } else {
        layer.with_ansi(colour).with_target(false).boxed()
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    subscriber.try_init().map_err(|error| error.to_string())?;
    DROPPED.get_or_init(|| dropped);
    Ok(Logging { filter: LogFilter(handle), _writer: guard })
}

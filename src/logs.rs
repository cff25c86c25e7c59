//! Logs: structured, to standard error, with a filter that can be changed while running.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{LogFormat, Settings};

/// Changes the filter of a running process.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

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

/// Starts logging for the process. A second call changes nothing and is told so.
///
/// # Errors
/// In a sentence.
pub fn start(settings: &Settings) -> Result<LogFilter, String> {
    let filter: EnvFilter = settings.log.parse().map_err(|error| format!("log: {error}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let terminal = std::io::stderr().is_terminal();
    let json = match settings.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let colour = terminal && std::env::var_os("NO_COLOR").is_none();
    let layer = fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        layer.json().flatten_event(true).boxed()
    } else {
        layer.with_ansi(colour).with_target(false).boxed()
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    subscriber.try_init().map_err(|error| error.to_string())?;
    Ok(LogFilter(handle))
}

//! How far a crowd is, for people who watch a terminal.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How far a crowd is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The wave: zero is the burst, later ones are second chances.
    pub wave: u32,
    /// Buyers of this wave that have gone home.
    pub done: u64,
    /// Buyers of this wave.
    pub total: u64,
    /// Reservations made so far, in all waves.
    pub reserved: u64,
}

/// Called by the crowd whenever a buyer goes home; it must be quick.
#[derive(Clone)]
pub struct ProgressFn(Arc<dyn Fn(Progress) + Send + Sync>);

impl ProgressFn {
    /// Wraps a callback.
    pub fn new(callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
    }

    pub(crate) fn call(&self, progress: Progress) {
        (self.0)(progress);
    }
}

impl fmt::Debug for ProgressFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressFn")
    }
}

/// A progress bar on stderr, or nothing if stderr is no terminal.
#[must_use]
pub fn bar() -> Option<ProgressFn> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new(0);
    let style = "{spinner} {bar:40} {pos}/{len} buyers, {per_sec}, {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    Some(ProgressFn::new(move |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        if progress.done == progress.total {
            bar.set_message(format!("{} reserved, wave {}", progress.reserved, progress.wave));
            bar.tick();
        }
    }))
}

/// How far a run is whose end is known.
#[derive(Debug)]
pub struct Clock(ProgressBar);

/// A progress bar over `time` on stderr, or nothing if stderr is no terminal.
#[must_use]
pub fn clock(time: Duration) -> Option<Clock> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new(time.as_secs());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:40} {pos}/{len} s, {msg}") {
        bar.set_style(style);
    }
    Some(Clock(bar))
}

impl Clock {
    /// So much is over, and this is how it goes.
    pub fn show(&self, over: Duration, line: String) {
        self.0.set_position(over.as_secs());
        self.0.set_message(line);
    }
}

//! A breaker in front of a backend, which says aloud when it opens and closes.

use std::sync::Arc;

use metrics::Counter;
use tracing::{info, warn};

use super::breaker::{Breaker, Change, Condition, Pass, Verdict};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// A breaker with its clock, its name and its count.
pub struct Guard {
    breaker: Breaker,
    /// What is behind it, as the log has it.
    name: String,
    clock: Arc<dyn Clock>,
    opened: Counter,
}

/// One call to what is behind a [`Guard`].
#[must_use = "a call that was let through is settled"]
pub struct Guarded<'g> {
    guard: &'g Guard,
    pass: Pass<'g>,
}

impl Guard {
    /// A closed one. Guards of one `backend` are counted together.
    pub fn new(backend: &str, name: String, clock: Arc<dyn Clock>, metrics: &Metrics) -> Self {
        let labels = [("backend", backend.to_owned())];
        let opened = metrics.counter("floodgate_breaker_opened_total", &labels);
        Self { breaker: Breaker::default(), name, clock, opened }
    }

    /// Asks to make a call. `None`: it would be waited for in vain.
    pub fn admit(&self) -> Option<Guarded<'_>> {
        let pass = self.breaker.admit(self.clock.now())?;
        Some(Guarded { guard: self, pass })
    }

    /// Whether a call would be refused now.
    pub fn is_refusing(&self) -> bool {
        self.breaker.is_refusing(self.clock.now())
    }

    /// Where the breaker is.
    pub fn condition(&self) -> Condition {
        self.breaker.condition()
    }
}

impl Guarded<'_> {
    /// Says what came of the call.
    pub fn settle(self, verdict: Verdict) {
        let Guard { name, clock, opened, .. } = self.guard;
        match self.pass.settle(verdict, clock.now()) {
            Change::None => {}
            Change::Opened => {
                opened.increment(1);
                warn!(%name, "it does not answer: calls are refused at once, and one at a time is tried");
            }
            Change::Closed => info!(%name, "it answers again"),
        }
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("name", &self.name).finish_non_exhaustive()
    }
}

//! How fast a lane serves a crowd, and so how long whoever comes now would wait.
//!
//! Only full batches are measured. A small one says what little work costs, which is many times more for
//! each command than in a crowd: by that measure the first moment of a sale would look like an overload.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The pace of one lane, over all who serve it.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Of a command, in nanoseconds; 0 while there is no crowd.
    each: AtomicU64,
    served: Mutex<Served>,
}

/// Full batches served, those long ago hardly counted.
#[derive(Debug, Default)]
struct Served {
    last: Option<Instant>,
    commands: f64,
    seconds: f64,
}

/// What a batch leaves of those before it.
const MEMORY: f64 = 0.8;

impl Pace {
    /// A batch of `commands` was served from `started` until `ended`; `full`: it had as many as one can.
    pub(super) fn served(&self, commands: usize, full: bool, started: Instant, ended: Instant) {
        if !full {
            // Whoever waits goes with the next batch.
            self.each.store(0, Ordering::Relaxed);
            return;
        }
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        // Batches of several workers overlap: what counts is the time between two ends.
        let since = served.last.map_or(started, |last| last.max(started));
        served.last = Some(ended);
        served.commands = served.commands * MEMORY + commands as f64;
        let seconds = ended.saturating_duration_since(since).as_secs_f64();
        served.seconds = served.seconds * MEMORY + seconds;
        let each = (served.seconds / served.commands * 1e9) as u64;
        self.each.store(each.max(1), Ordering::Relaxed);
    }

    /// How long a command would wait behind so many others. Zero while there is no crowd.
    pub(super) fn wait(&self, waiting: impl FnOnce() -> usize) -> Duration {
        match self.each.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            each => Duration::from_nanos(each.saturating_mul(waiting() as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The wait is what waits by what was served; a lane without a crowd has none, whatever waits.
    #[test]
    fn it_follows_full_batches() {
        let (pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.wait(|| 8_000), Duration::ZERO);
        pace.served(1, false, start, start + 5 * MS);
        assert_eq!(pace.wait(|| 8_000), Duration::ZERO);
        for n in 0..20 {
            pace.served(100, true, start + n * 10 * MS, start + (n + 1) * 10 * MS);
        }
        assert_eq!(pace.wait(|| 1_000).as_millis(), 100);
        pace.served(99, false, start + 200 * MS, start + 201 * MS);
        assert_eq!(pace.wait(|| 1_000), Duration::ZERO);
    }

    /// Two who serve at once are twice as fast as one.
    #[test]
    fn overlapping_batches_add_up() {
        let (pace, start) = (Pace::default(), Instant::now());
        for n in 0..40 {
            // Each takes 10 ms, and ends 5 ms after the other.
            pace.served(100, true, start + n * 5 * MS, start + (n * 5 + 10) * MS);
        }
        let wait = pace.wait(|| 1_000).as_millis();
        assert!((50..=51).contains(&wait), "{wait}");
    }

    /// A lane that stood still for long is soon known to be as fast as before.
    #[test]
    fn a_standstill_is_forgotten() {
        let (pace, start) = (Pace::default(), Instant::now());
        pace.served(100, true, start, start + 2_000 * MS);
        for n in 0..40 {
            let at = start + 2_000 * MS + n * 10 * MS;
            pace.served(100, true, at, at + 10 * MS);
        }
        assert!(pace.wait(|| 1_000) < 120 * MS);
    }
}

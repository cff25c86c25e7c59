//! How many events one transaction takes: as many as the store digests in good time.

use std::time::Duration;

use crate::limits;

/// The bound of one lane's transactions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    events_max: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { events_max: limits::WRITER_EVENTS_FIRST }
    }
}

impl Pace {
    /// Events of the next transaction, unless a single record has more.
    pub(super) fn events_max(&self) -> usize {
        self.events_max
    }

    /// Whether a transaction had as many as it may: more are waiting then.
    pub(super) fn is_full(&self, events: u64) -> bool {
        events >= self.events_max as u64
    }

    /// A full transaction took so long: quick ones grow, slow ones shrink. What a transaction costs
    /// apart from its events is the same for all, so the larger the better, up to where it takes long.
    pub(super) fn took(&mut self, events: u64, time: Duration) {
        let (quick, slow) = limits::WRITER_PACE_MS;
        if time > Duration::from_millis(slow) {
            self.shrink();
        } else if self.is_full(events) && time < Duration::from_millis(quick) {
            self.events_max = (self.events_max * 2).min(limits::WRITER_EVENTS_MAX);
        }
    }

    /// A transaction failed: if it was cut off because it took too long, a smaller one may not be.
    pub(super) fn failed(&mut self) {
        self.shrink();
    }

    fn shrink(&mut self) {
        self.events_max = (self.events_max / 2).max(limits::WRITER_EVENTS_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It finds its bounds from anywhere, and stays within them.
    #[test]
    fn it_follows_the_store() {
        let (quick, slow) = limits::WRITER_PACE_MS;
        let mut pace = Pace::default();
        for _ in 0..20 {
            pace.took(pace.events_max() as u64, Duration::from_millis(quick / 2));
        }
        assert_eq!(pace.events_max(), limits::WRITER_EVENTS_MAX);
        pace.took(1, Duration::ZERO);
        assert_eq!(pace.events_max(), limits::WRITER_EVENTS_MAX, "a small one says nothing");
        for _ in 0..20 {
            pace.took(1, Duration::from_millis(slow + 1));
        }
        assert_eq!(pace.events_max(), limits::WRITER_EVENTS_MIN);
        pace.failed();
        assert_eq!(pace.events_max(), limits::WRITER_EVENTS_MIN);
    }
}

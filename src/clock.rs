//! Time as a value. Nothing else in the product reads the wall clock.
//!
//! A gateway's clock only labels and advises; what a window or a hold is judged by is the ledger's
//! clock, which in embedded mode is this one, made monotone by the engine.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// This instant moved into the future, saturating at the end of time.
    pub fn after(self, wait: Duration) -> Millis {
        Millis(self.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long it is from `earlier` to this instant; zero if `earlier` is later.
    pub fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Parses RFC 3339, with any offset, to the millisecond. `None` for anything else and for
    /// instants before 1970.
    pub fn parse_rfc3339(text: &str) -> Option<Millis> {
        let timestamp: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(timestamp.as_millisecond()).ok().map(Millis)
    }
}

/// RFC 3339 in UTC with milliseconds, the form of every time on the wire.
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(ms) {
            Ok(timestamp) => write!(f, "{timestamp:.3}"),
            // Beyond the year 9999 there is no RFC 3339; say so rather than lie.
            Err(_) => f.write_str("9999-12-31T23:59:59.999Z"),
        }
    }
}

/// Where "now" comes from.
pub trait Clock: Send + Sync + 'static {
    /// The current wall-clock time. May step backwards; whoever must not, keeps the maximum.
    fn now(&self) -> Millis;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks")]
    fn now(&self) -> Millis {
        #[cfg(test)]
        if let Some(now) = made::now() {
            return Millis(made::BEGINNING_MS.saturating_add(now.as_millis() as u64));
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Now, for measuring how long something takes. Steady, unlike a [`Clock`].
pub fn instant() -> Instant {
    #[cfg(test)]
    if let Some(now) = made::now() {
        return made::instant(now);
    }
    Instant::now()
}

/// How long ago that was.
pub fn elapsed(since: Instant) -> Duration {
    instant().saturating_duration_since(since)
}

/// Keeps the calling thread for a while.
pub fn sleep(pause: Duration) {
    #[cfg(test)]
    if made::sleep(pause) {
        return;
    }
    std::thread::sleep(pause);
}

/// Time that a simulation makes, for the threads that it drives.
#[cfg(test)]
pub(crate) mod made {
    use std::cell::RefCell;
    use std::sync::{Arc, LazyLock};
    use std::time::{Duration, Instant};

    /// The wall-clock time at which every simulation begins.
    pub const BEGINNING_MS: u64 = 1_800_000_000_000;

    /// Whoever makes time.
    pub trait Maker: Send + Sync {
        /// How much has passed since the beginning.
        fn now(&self) -> Duration;
        /// Lets so much pass for the calling thread.
        fn sleep(&self, pause: Duration);
    }

    thread_local! {
        static MAKER: RefCell<Option<Arc<dyn Maker>>> = const { RefCell::new(None) };
    }

    /// From here on the calling thread's time is made.
    pub fn by(maker: Option<Arc<dyn Maker>>) {
        MAKER.with(|known| *known.borrow_mut() = maker);
    }

    fn maker() -> Option<Arc<dyn Maker>> {
        MAKER.with(|known| known.borrow().clone())
    }

    pub fn now() -> Option<Duration> {
        maker().map(|maker| maker.now())
    }

    pub fn instant(now: Duration) -> Instant {
        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        // Far from the machine's own zero, so that earlier instants exist, too.
        *BEGINNING + Duration::from_secs(1_000_000) + now
    }

    pub fn sleep(pause: Duration) -> bool {
        let maker = maker();
        if let Some(maker) = &maker {
            maker.sleep(pause);
        }
        maker.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is printed is what is parsed, and offsets are understood.
    #[test]
    fn rfc3339_round_trip() {
        let at = Millis(1_795_225_445_067);
        assert_eq!(at.to_string(), "2026-11-21T01:44:05.067Z");
        assert_eq!(Millis::parse_rfc3339(&at.to_string()), Some(at));
        assert_eq!(
            Millis::parse_rfc3339("2026-11-21T02:44:05.067+01:00"),
            Some(at),
            "an offset names the same instant"
        );
        assert_eq!(Millis::parse_rfc3339("1969-12-31T23:59:59Z"), None);
        assert_eq!(Millis::parse_rfc3339("tomorrow"), None);
    }
}

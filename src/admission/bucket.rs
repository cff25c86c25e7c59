//! One limit: a bucket for every key, all of the same quota. governor's algorithm, with the time as an
//! argument: one reading of the clock serves all limits of a request, and a token that comes later can
//! be taken now.

use std::cell::Cell;
use std::hash::Hash;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::{Quota, RateLimiter};
use metrics::Counter;

use super::keys::Keys;
use crate::limits;

/// Counters of one limit.
#[derive(Clone)]
pub(super) struct Counters {
    pub passed: Counter,
    pub delayed: Counter,
    pub refused: Counter,
    pub overflowed: Counter,
}

/// One limit.
pub(super) struct Bucket {
    pub quota: Quota,
    pub keys: Keys,
    counters: Counters,
}

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// How long until it may be used.
    pub wait: Duration,
    /// How many are left.
    pub remaining: u32,
}

/// There is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Empty {
    /// How long until there is one, unless somebody else takes it.
    pub wait: Duration,
}

impl Bucket {
    pub(super) fn new(quota: Quota, counters: Counters) -> Self {
        let keys = Keys::new(limits::ADMISSION_KEYS_MAX, counters.overflowed.clone());
        Self { quota, keys, counters }
    }

    /// Takes a token of a key's bucket, if there is one or it comes within `patience`. `now` is the time
    /// since the beginning of this process.
    pub(super) fn take(
        &self,
        key: &impl Hash,
        now: Duration,
        patience: Duration,
    ) -> Result<Token, Empty> {
        let taken = self.take_in_time(self.keys.name(key), now, patience);
        match &taken {
            Ok(token) if token.wait.is_zero() => self.counters.passed.increment(1),
            Ok(_) => self.counters.delayed.increment(1),
            Err(_) => self.counters.refused.increment(1),
        }
        taken
    }

    fn take_in_time(&self, name: u64, now: Duration, patience: Duration) -> Result<Token, Empty> {
        let latest = now + patience;
        let mut at = now;
        // Each round but the first was lost to somebody who took the token, so somebody went on.
        for _ in 0..limits::SMOOTH_ROUNDS_MAX {
            match self.take_at(name, at) {
                Ok(remaining) => return Ok(Token { wait: at - now, remaining }),
                Err(earliest) if earliest <= latest => at = earliest,
                Err(earliest) => return Err(Empty { wait: earliest - now }),
            }
        }
        Err(Empty { wait: at - now })
    }

    /// Takes the token that is there at an instant: how many are left then, or when there is one.
    fn take_at(&self, name: u64, at: Duration) -> Result<u32, Duration> {
        let clock = At { begun: Cell::new(false), at: Nanos::from(at) };
        let limiter =
            RateLimiter::<_, _, _, StateInformationMiddleware>::new(self.quota, &self.keys, clock);
        match limiter.check_key(&name) {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(not_until) => Err(Duration::from_nanos(not_until.earliest_possible().as_u64())),
        }
    }
}

/// The clock of one decision. A limiter asks first when it is made, and is told of the beginning of
/// time; then when it decides.
struct At {
    begun: Cell<bool>,
    at: Nanos,
}

impl Clock for At {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        if self.begun.replace(true) { self.at } else { Nanos::new(0) }
    }
}

#[cfg(test)]
mod tests;

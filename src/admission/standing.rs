//! What a client is told of a limit.

use std::time::Duration;

use governor::Quota;

use super::limit::Limit;
use super::settings::HeaderStyle;

/// Where a client stands with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub limit: Limit,
    /// Tokens that its bucket holds.
    pub burst: u32,
    /// Whole seconds in which an empty bucket is full again: whoever asks for `burst` in this time, and no
    /// more, is never refused.
    pub window_seconds: u64,
    /// Tokens that are left.
    pub remaining: u32,
    /// Whole seconds until there is one more.
    pub more_in_seconds: u64,
    /// How it is told.
    pub headers: HeaderStyle,
}

/// There was no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimited(pub Standing);

/// A write that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Where its user stands, where users are limited.
    pub standing: Option<Standing>,
    /// It had to wait: what was known before may have changed.
    pub waited: bool,
}

impl Standing {
    /// `wait` is how long until there is a token; zero where there was one.
    pub(super) fn new(
        limit: Limit,
        quota: &Quota,
        remaining: u32,
        wait: Duration,
        headers: HeaderStyle,
    ) -> Self {
        let more_in = if wait.is_zero() { quota.replenish_interval() } else { wait };
        Self {
            limit,
            burst: quota.burst_size().get(),
            window_seconds: whole_seconds(quota.burst_size_replenished_in()),
            remaining,
            more_in_seconds: whole_seconds(more_in),
            headers,
        }
    }
}

impl RateLimited {
    /// Seconds after which to ask again: the least, and over how many more the crowd is spread.
    pub fn retry_seconds(&self) -> (u64, u64) {
        (self.0.more_in_seconds, self.0.limit.spread_seconds())
    }
}

/// Rounded up, at least one.
fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

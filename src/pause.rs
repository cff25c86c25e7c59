//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// Doubling with each failure in a row, from the first to the longest (both in milliseconds), and
/// shortened by up to a half at random, so that those who failed together do not come back in step.
pub fn before_retry((first, longest): (u64, u64), failures: u32) -> Duration {
    let full = first.saturating_mul(1_u64.checked_shl(failures).unwrap_or(u64::MAX)).min(longest);
    Duration::from_millis(fastrand::u64(full / 2..=full))
}

#[cfg(test)]
mod tests {
    use super::before_retry;
    use crate::limits;

    /// Pauses grow and stay within their bounds, however long a store or a Redis is down.
    #[test]
    fn pauses_are_bounded() {
        for bounds in [limits::WRITER_BACKOFF_MS, limits::REDIS_BACKOFF_MS] {
            let (first, longest) = bounds;
            for failures in [0, 1, 5, 31, 32, 63, 64, u32::MAX] {
                let pause = before_retry(bounds, failures).as_millis() as u64;
                assert!((first / 2..=longest).contains(&pause), "{failures}: {pause}");
            }
        }
    }
}

//! How long a buyer waits before trying again.

use std::time::Duration;

use fastrand::Rng;

use super::plan::Patience;
use crate::limits::BACKOFF_FIRST;
use crate::stop::StopFlag;

/// The wait after try number `tries` (the first is 0). `Retry-After` is taken at its word up to
/// the plan's longest wait; without it the wait doubles. Half of it is chance, so that a crowd that
/// was turned away together does not come back together.
pub(super) fn wait(
    patience: &Patience,
    tries: u32,
    retry_after: Option<u64>,
    rng: &mut Rng,
) -> Duration {
    let base = match retry_after {
        Some(seconds) => Duration::from_secs(seconds),
        None => BACKOFF_FIRST.saturating_mul(1_u32 << tries.min(16)),
    };
    let base = base.max(BACKOFF_FIRST);
    let jittered = match retry_after {
        Some(_) => base.mul_f64(1.0 + rng.f64() / 2.0),
        None => base.mul_f64(0.5 + rng.f64() / 2.0),
    };
    jittered.min(patience.backoff_max)
}

/// Sleeps, but not longer than until the flag is set.
pub(super) async fn sleep(stop: &StopFlag, wait: Duration) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = stop.wait() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BACKOFF_FIRST, Patience, Rng, wait};

    /// Proves that waits grow, respect `Retry-After`, and never pass the longest.
    #[test]
    fn waits_are_bounded() {
        let patience = Patience::default();
        let mut rng = Rng::with_seed(1);
        for tries in 0..40 {
            let found = wait(&patience, tries, None, &mut rng);
            assert!(found >= BACKOFF_FIRST / 2 && found <= patience.backoff_max);
        }
        let told = wait(&patience, 0, Some(1), &mut rng);
        assert!(told >= Duration::from_secs(1) && told <= patience.backoff_max);
        assert_eq!(wait(&patience, 0, Some(3_600), &mut rng), patience.backoff_max);
    }
}

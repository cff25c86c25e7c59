//! Waiting for conditions, never for time to pass.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Far longer than it should take: the machine
/// may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until there is something.
#[track_caller]
pub fn eventually<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "never happened: {what} ({caller})");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The same for tests that block.
#[track_caller]
pub fn eventually_blocking<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

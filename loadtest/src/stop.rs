//! A flag that ends a crowd early: set once, by anyone, for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Shared by its clones. Setting it is final.
#[derive(Clone, Debug, Default)]
pub struct StopFlag {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    set: AtomicBool,
    wake: Notify,
}

impl StopFlag {
    /// A flag that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flag and wakes all who wait for it.
    pub fn set(&self) {
        self.shared.set.store(true, Ordering::Release);
        self.shared.wake.notify_waiters();
    }

    /// Whether it is set. Cheap: one load.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.shared.set.load(Ordering::Acquire)
    }

    /// Returns when the flag is set, at once if it is already. Cancel-safe.
    pub async fn wait(&self) {
        let mut woken = std::pin::pin!(self.shared.wake.notified());
        // Registered before the look, so that a `set` in between is not missed.
        woken.as_mut().enable();
        if self.is_set() {
            return;
        }
        woken.await;
    }
}

#[cfg(test)]
mod tests {
    use super::StopFlag;

    /// Proves that a waiter is woken by a flag that is set later, and not held by one set before.
    #[tokio::test]
    async fn wakes_waiters() {
        let flag = StopFlag::new();
        let other = flag.clone();
        let waiter = tokio::spawn(async move { other.wait().await });
        tokio::task::yield_now().await;
        assert!(!flag.is_set());
        flag.set();
        waiter.await.unwrap();
        flag.wait().await;
        assert!(flag.is_set());
    }
}

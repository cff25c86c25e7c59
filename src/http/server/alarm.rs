//! A timer that is moved far more often than it rings.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Rings when its time has come, unless it is moved or cleared before. Moving it on costs nothing:
/// the timer below wakes at the earlier time and is set anew only then.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    due: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Moves it.
    pub(super) fn set(&mut self, due: Instant) {
        self.due = Some(due);
    }

    /// It does not ring.
    pub(super) fn clear(&mut self) {
        self.due = None;
    }

    /// Whether it is set.
    pub(super) fn is_set(&self) -> bool {
        self.due.is_some()
    }

    /// Whether it should have rung, for whoever never has the time to wait for it.
    pub(super) fn is_over(&self) -> bool {
        self.due.is_some_and(|due| Instant::now() >= due)
    }

    /// Ready once it rings.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() > due {
            sleep.as_mut().reset(due);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    /// Proves that it rings at the time that it was moved to last, later or earlier, and not while
    /// it is cleared.
    #[tokio::test(start_paused = true)]
    async fn rings_when_it_is_due() {
        let begin = Instant::now();
        let mut alarm = Alarm::default();
        let second = Duration::from_secs(1);
        for (first, then) in [(5, 9), (9, 5), (3, 3)] {
            let now = Instant::now();
            alarm.set(now + second * first);
            assert!(poll_fn(|context| Poll::Ready(alarm.poll(context))).await.is_pending());
            alarm.set(now + second * then);
            poll_fn(|context| alarm.poll(context)).await;
            assert_eq!(Instant::now(), now + second * then);
        }
        assert!(begin.elapsed() >= second * 17);
        alarm.clear();
        assert!(poll_fn(|context| Poll::Ready(alarm.poll(context))).await.is_pending());
    }
}

//! What the parts of one connection tell each other: the stream when bytes come, the service when a
//! request begins and ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How many requests a connection serves, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    pub requests: u64,
    pub age: Duration,
}

/// How requests follow each other on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// One after the other: a byte after an answer is the next head's first.
    InTurn,
    /// Many at a time (HTTP/2): a byte may be anything.
    AtOnce,
}

/// Where a connection is. Each value stands for itself, so no order between them is needed: they are
/// written and read by the connection's own task, in HTTP/2 by those of its streams as well.
#[derive(Debug)]
pub(super) struct Pulse {
    order: Order,
    born: Instant,
    lifetime: Lifetime,
    /// Requests whose heads were read.
    begun: AtomicU64,
    /// Those that have no answer yet.
    under_way: AtomicU32,
    /// Bytes have come that are not yet a request.
    stirring: AtomicBool,
    /// The next answer is the last one.
    ending: AtomicBool,
    /// The connection has given its last answer, or was silent for too long.
    spent: AtomicBool,
    /// It has nothing to do, and nothing to keep.
    resting: AtomicBool,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The rest of a head.
    Head,
    /// The next request.
    Idle,
    /// Our own answer.
    Busy,
}

/// A request under way, also one whose client gives it up.
pub(super) struct Turn(Arc<Pulse>);

impl Pulse {
    /// A connection that was just accepted: its first head is due.
    pub(super) fn new(order: Order, lifetime: Lifetime) -> Arc<Self> {
        Arc::new(Self {
            order,
            born: Instant::now(),
            lifetime,
            begun: AtomicU64::new(0),
            under_way: AtomicU32::new(0),
            stirring: AtomicBool::new(true),
            ending: AtomicBool::new(false),
            spent: AtomicBool::new(false),
            resting: AtomicBool::new(false),
        })
    }

    /// Bytes came.
    pub(super) fn stirs(&self) {
        if self.order == Order::InTurn {
            self.stirring.store(true, Ordering::Relaxed);
        }
    }

    /// How requests follow each other.
    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// A head is complete.
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Turn(Arc::clone(self))
    }

    /// The connection ends with the next answer that it gives.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// The connection ends with what it is at. Whoever says so wakes its task, or is it.
    pub(super) fn spend(&self) {
        self.spent.store(true, Ordering::Relaxed);
    }

    /// Whether an answer was given with which the connection has to end.
    pub(super) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed)
    }

    /// The last answer is gone, and it has been silent since.
    pub(super) fn rest(&self) {
        self.resting.store(true, Ordering::Relaxed);
    }

    /// Whether that was said, which is forgotten with this, and is still so.
    pub(super) fn is_to_rest(&self) -> bool {
        self.resting.swap(false, Ordering::Relaxed) && self.phase() == Phase::Idle
    }

    /// Requests so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// What is waited for.
    pub(super) fn phase(&self) -> Phase {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            Phase::Busy
        } else if self.stirring.load(Ordering::Relaxed) {
            Phase::Head
        } else {
            Phase::Idle
        }
    }
}

impl Turn {
    /// It is answered. True: with this answer the connection ends.
    pub(super) fn end(self) -> bool {
        let Pulse { lifetime, born, ending, .. } = &*self.0;
        let spent = self.0.begun() >= lifetime.requests
            || born.elapsed() >= lifetime.age
            || ending.load(Ordering::Relaxed);
        if spent {
            self.0.spend();
        }
        spent
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.stirring.store(false, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Lifetime = Lifetime { requests: 2, age: Duration::from_secs(3_600) };

    /// Proves that a connection goes from head to answer to idle and back, and is spent after its
    /// requests.
    #[test]
    fn in_turn() {
        let pulse = Pulse::new(Order::InTurn, TWO);
        assert_eq!(pulse.phase(), Phase::Head, "the first head is due at once");
        let turn = pulse.begin();
        pulse.stirs();
        assert_eq!(pulse.phase(), Phase::Busy, "what comes meanwhile does not matter");
        assert!(!turn.end());
        assert_eq!(pulse.phase(), Phase::Idle);
        pulse.stirs();
        assert_eq!(pulse.phase(), Phase::Head);
        assert!(pulse.begin().end(), "it was the second");
    }

    /// Proves that whoever is told that the next answer is the last one gives one more.
    #[test]
    fn ending() {
        let pulse = Pulse::new(Order::InTurn, Lifetime { requests: 9, ..TWO });
        assert!(!pulse.begin().end());
        pulse.end();
        assert!(!pulse.is_spent(), "not by itself");
        assert!(pulse.begin().end());
        assert!(pulse.is_spent());
    }

    /// Proves that with many requests at a time the connection is idle when none is under way, also
    /// when they were given up, and that bytes by themselves change nothing.
    #[test]
    fn at_once() {
        let pulse = Pulse::new(Order::AtOnce, TWO);
        assert_eq!(pulse.phase(), Phase::Head);
        let (first, second) = (pulse.begin(), pulse.begin());
        drop(first);
        assert_eq!(pulse.phase(), Phase::Busy);
        drop(second);
        pulse.stirs();
        assert_eq!(pulse.phase(), Phase::Idle);
    }
}

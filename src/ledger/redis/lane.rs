//! What the threads of a lane know together: how far it is, whether it works, who won in it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::recovery::Gateway;
use super::wire::Head;
use crate::clock::{self, Millis};
use crate::engine::Position;
use crate::ledger::{Health, Knowledge};
use crate::limits;
use crate::sale::LaneId;

/// A lane's sales are asked for this often.
pub(super) const TICK: Duration = Duration::from_millis(limits::REDIS_TICK_MS);

/// What the threads of a lane know together.
pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) gateway: Gateway,
    /// The furthest position that this gateway has seen.
    pub(super) head: watch::Sender<Position>,
    health: watch::Sender<Health>,
    /// The lane's clock, as last seen.
    now: AtomicU64,
    ticker: Mutex<Ticker>,
    /// The history of the server that was last found fit. Held by the thread that looks at the lane or
    /// brings it back.
    pub(super) opening: Mutex<Option<String>>,
    /// The lane itself has said that it forgot.
    suspect: AtomicBool,
    /// Why it will not open by itself.
    foreign: Mutex<Option<String>>,
    /// Until when every id that was granted is written down here: a seq, 0 for nothing, and the clock then.
    known_seq: AtomicU64,
    known_now: AtomicU64,
}

/// When the lane's sales are to be asked for, and what changed since when.
struct Ticker {
    next: Instant,
    /// In which life of the lane.
    epoch: u64,
    since: u64,
}

impl Lane {
    pub(super) fn new(id: LaneId, gateway: Gateway) -> Self {
        Self {
            id,
            gateway,
            head: watch::Sender::default(),
            health: watch::Sender::new(Health::Down),
            now: AtomicU64::new(0),
            ticker: Mutex::new(Ticker { next: clock::instant(), epoch: 0, since: 0 }),
            opening: Mutex::default(),
            suspect: AtomicBool::new(false),
            foreign: Mutex::default(),
            known_seq: AtomicU64::new(0),
            known_now: AtomicU64::new(0),
        }
    }

    /// Until when every id that was granted is written down here.
    pub(super) fn known(&self) -> Knowledge {
        // The seq last: it was stored last.
        let seq = self.known_seq.load(Ordering::Acquire);
        Knowledge { seq, now: Millis(self.known_now.load(Ordering::Acquire)) }
    }

    /// To be called by whoever has the ticker: a seq means something in one life of the lane only.
    fn knows(&self, known: Option<(Position, Millis)>) {
        match known {
            Some((position, now)) => {
                self.known_now.store(now.0, Ordering::Release);
                self.known_seq.store(position.seq, Ordering::Release);
            }
            None => self.known_seq.store(0, Ordering::Release),
        }
    }

    /// The lane's clock, as last seen.
    pub(super) fn now(&self) -> Millis {
        Millis(self.now.load(Ordering::Acquire))
    }

    /// Whether the lane itself has said that it forgot.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    pub(super) fn suspect(&self, suspect: bool) {
        self.suspect.store(suspect, Ordering::Release);
    }

    pub(super) fn health(&self) -> Health {
        *self.health.borrow()
    }

    /// Why the lane will not open by itself, if so.
    pub(super) fn foreign(&self) -> Option<String> {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_foreign(&self, reason: Option<String>) {
        *self.foreign.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    pub(super) fn is(&self, health: Health) {
        self.health.send_if_modified(|was| std::mem::replace(was, health) != health);
    }

    pub(super) fn reached(&self, head: Head) {
        self.now.fetch_max(head.now.0, Ordering::AcqRel);
        self.head.send_if_modified(|at| {
            let further = head.position > *at;
            *at = head.position.max(*at);
            further
        });
    }

    /// From here on another life of the lane counts, wherever it begins.
    pub(super) fn adopt(&self, position: Position) {
        let mut ticker = self.ticker();
        // A seq means something else from now on.
        self.knows(None);
        self.head.send_replace(position);
        *ticker = Ticker { next: clock::instant(), epoch: position.epoch, since: 0 };
    }

    /// How long until the sales are to be asked for.
    pub(super) fn idle(&self) -> Duration {
        let ticker = self.ticker();
        ticker.next.saturating_duration_since(clock::instant()).min(TICK)
    }

    /// The sales are asked for now: since when.
    pub(super) fn tick(&self) -> u64 {
        let mut ticker = self.ticker();
        ticker.next = clock::instant() + TICK;
        ticker.since
    }

    /// There is more to be told, or more holds are due: not after the usual pause, but now.
    pub(super) fn again(&self) {
        let mut ticker = self.ticker();
        ticker.next = clock::instant();
    }

    /// A tick was answered at a position: sales that were touched until `since` are told, and who won until
    /// then is known, or not. `false`, and nothing, where the lane has begun another life since it was asked:
    /// the answer is about the one before.
    pub(super) fn ticked(&self, position: Position, since: u64, known: Option<Millis>) -> bool {
        let mut ticker = self.ticker();
        if ticker.epoch != position.epoch {
            return false;
        }
        ticker.since = ticker.since.max(since);
        self.knows(known.map(|now| (position, now)));
        true
    }

    fn ticker(&self) -> MutexGuard<'_, Ticker> {
        self.ticker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that an answer about an earlier life of the lane counts for nothing in the one that was adopted
    /// meanwhile: neither what was told, nor who is known to have won.
    #[test]
    fn answers_of_another_life() {
        let lane = Lane::new(LaneId(0), Gateway { token: String::new(), lanes: 1 });
        let at = |epoch, seq| Position { epoch, seq };
        lane.adopt(at(1, 10));
        assert!(lane.ticked(at(1, 12), 12, Some(Millis(5))));
        assert_eq!((lane.tick(), lane.known().seq, lane.known().now), (12, 12, Millis(5)));
        lane.adopt(at(2, 3));
        assert_eq!((lane.tick(), lane.known().seq), (0, 0), "a seq means something else now");
        assert!(!lane.ticked(at(1, 14), 14, Some(Millis(6))));
        assert_eq!((lane.tick(), lane.known().seq), (0, 0));
        assert!(lane.ticked(at(2, 4), 4, None));
        assert_eq!((lane.tick(), lane.known().seq), (4, 0));
    }
}

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
    ticker: Mutex<Ticker>,
    /// The server that was last found fit. Held by the thread that looks at the lane or brings it back.
    pub(super) opening: Mutex<Option<Fit>>,
    /// The lane itself has said that it forgot.
    suspect: AtomicBool,
    /// Why it will not open by itself.
    foreign: Mutex<Option<String>>,
    /// Until when every id that was granted is written down here: a seq, 0 for nothing, and the clock then.
    known_seq: AtomicU64,
    known_now: AtomicU64,
    /// When the lane was asked for that, in milliseconds of this gateway's life.
    known_at: AtomicU64,
    born: Instant,
    /// Callers and calls so far.
    counted: AtomicU64,
}

/// A server that gives what is promised.
pub(super) struct Fit {
    pub(super) history: String,
    /// In which life the lane was laid beside the books there, by this gateway.
    pub(super) compared: Option<u64>,
}

/// An answer after which every winner until then is written down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// The lane's clock in it.
    pub now: Millis,
    /// When it was asked for.
    pub asked: Instant,
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
            ticker: Mutex::new(Ticker { next: clock::instant(), epoch: 0, since: 0 }),
            opening: Mutex::default(),
            suspect: AtomicBool::new(false),
            foreign: Mutex::default(),
            known_seq: AtomicU64::new(0),
            known_now: AtomicU64::new(0),
            known_at: AtomicU64::new(0),
            born: clock::instant(),
            counted: AtomicU64::new(0),
        }
    }

    /// A number that nobody else is given here.
    pub(super) fn count(&self) -> u64 {
        self.counted.fetch_add(1, Ordering::Relaxed)
    }

    /// Until when every id that was granted is written down here. Nothing is certain where the lane has not
    /// been heard of for a while: units may have come back since, and been granted elsewhere.
    pub(super) fn known(&self) -> Knowledge {
        let age = self.life().saturating_sub(self.known_at.load(Ordering::Acquire));
        if age > limits::REDIS_KNOWN_MS {
            return Knowledge::default();
        }
        // The seq last: it was stored last.
        let seq = self.known_seq.load(Ordering::Acquire);
        Knowledge { seq, now: Millis(self.known_now.load(Ordering::Acquire)) }
    }

    /// To be called by whoever has the ticker: a seq means something in one life of the lane only.
    fn knows(&self, known: Option<(Position, Known)>) {
        match known {
            Some((position, Known { now, asked })) => {
                let at = asked.saturating_duration_since(self.born).as_millis();
                self.known_at.store(u64::try_from(at).unwrap_or(u64::MAX), Ordering::Release);
                self.known_now.store(now.0, Ordering::Release);
                self.known_seq.store(position.seq, Ordering::Release);
            }
            None => self.known_seq.store(0, Ordering::Release),
        }
    }

    fn life(&self) -> u64 {
        u64::try_from(clock::elapsed(self.born).as_millis()).unwrap_or(u64::MAX)
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

    pub(super) fn reached(&self, head: &Head) {
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

    /// The sales are asked for now: what changed since there.
    pub(super) fn tick(&self) -> Position {
        let mut ticker = self.ticker();
        ticker.next = clock::instant() + TICK;
        Position { epoch: ticker.epoch, seq: ticker.since }
    }

    /// There is more to be told, or more holds are due: not after the usual pause, but now.
    pub(super) fn again(&self) {
        let mut ticker = self.ticker();
        ticker.next = clock::instant();
    }

    /// A tick that had `asked` for what changed was answered at a position: sales that were touched until `since` are
    /// told, and who won until then is known, or not. `false`, and nothing, where the lane has begun another life since:
    /// the answer is about the one before, or what was asked for was a seq of that.
    pub(super) fn ticked(
        &self,
        asked: Position,
        position: Position,
        since: u64,
        known: Option<Known>,
    ) -> bool {
        let mut ticker = self.ticker();
        if asked.epoch != position.epoch || ticker.epoch != position.epoch {
            return false;
        }
        ticker.since = ticker.since.max(since);
        self.knows(known.map(|known| (position, known)));
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
        let lane = Lane::new(LaneId(0), Gateway { name: String::new(), lanes: 1 });
        let at = |epoch, seq| Position { epoch, seq };
        let known = |now| Some(Known { now: Millis(now), asked: Instant::now() });
        lane.adopt(at(1, 10));
        assert!(lane.ticked(lane.tick(), at(1, 12), 12, known(5)));
        let before = lane.tick();
        assert_eq!((before, lane.known().seq, lane.known().now), (at(1, 12), 12, Millis(5)));
        lane.adopt(at(2, 3));
        assert_eq!(
            (lane.tick(), lane.known().seq),
            (at(2, 0), 0),
            "a seq means something else now"
        );
        assert!(!lane.ticked(before, at(1, 14), 14, known(6)));
        // Asked for in the life before, and answered in this one: what changed in it until 12 was not told.
        assert!(!lane.ticked(before, at(2, 4), 12, known(6)));
        assert_eq!((lane.tick(), lane.known().seq), (at(2, 0), 0));
        assert!(lane.ticked(lane.tick(), at(2, 4), 4, None));
        assert_eq!((lane.tick(), lane.known().seq), (at(2, 4), 0));
    }

    /// Proves that what was known counts for a while only, from when it was asked for, and again with the next
    /// answer: a gateway that does not hear of a lane knows no winners of it.
    #[test]
    fn what_is_old_is_not_known() {
        let lane = Lane::new(LaneId(0), Gateway { name: String::new(), lanes: 1 });
        let position = Position { epoch: 1, seq: 7 };
        lane.adopt(position);
        let while_ago = Duration::from_millis(limits::REDIS_KNOWN_MS + 1);
        // It lives long enough for there to be a while ago.
        let lane = Lane { born: lane.born.checked_sub(2 * while_ago).unwrap(), ..lane };
        let of = |asked| Some(Known { now: Millis(5), asked });
        assert!(lane.ticked(
            lane.tick(),
            position,
            7,
            of(Instant::now().checked_sub(while_ago).unwrap())
        ));
        assert_eq!(lane.known(), Knowledge::default());
        assert!(lane.ticked(lane.tick(), position, 7, of(Instant::now())));
        assert_eq!(lane.known().seq, 7);
    }
}

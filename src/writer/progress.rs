//! How far each lane has been digested, for whoever waits for it or wants to know the backlog.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::clock::Millis;
use crate::engine::Position;
use crate::limits;
use crate::sale::LaneId;

/// Shared by the writer, which moves it, and everybody who looks.
#[derive(Clone, Debug)]
pub struct Progress {
    lanes: Arc<[Lane]>,
}

#[derive(Debug)]
struct Lane {
    digested: watch::Sender<Position>,
    /// When the oldest event happened that is known to be undigested; [`NONE`] where none is.
    oldest: AtomicU64,
    failing: AtomicBool,
    /// The latest events that went to the dead letters.
    dead: Mutex<BTreeSet<u64>>,
    /// Rung when another gateway has digested.
    heard: Notify,
}

/// Dead letters of a lane that are remembered. While there are so many, everything may be among them.
const DEAD_MAX: usize = 4_096;

/// Nothing waits.
const NONE: u64 = u64::MAX;

impl Progress {
    /// The lanes as the books have them at the start.
    pub fn new(digested: &[Position]) -> Self {
        let lane = |position: &Position| Lane {
            digested: watch::Sender::new(*position),
            oldest: AtomicU64::new(NONE),
            failing: AtomicBool::new(false),
            dead: Mutex::default(),
            heard: Notify::new(),
        };
        Self { lanes: digested.iter().map(lane).collect() }
    }

    /// Whether any lane's writer cannot go on at the moment.
    pub fn is_failing(&self) -> bool {
        self.lanes.iter().any(|lane| lane.failing.load(Relaxed))
    }

    /// How far a lane is in the books.
    pub fn of(&self, lane: LaneId) -> Position {
        self.lane(lane).map(|lane| *lane.digested.borrow()).unwrap_or_default()
    }

    /// Whether the books have all of a lane up to this position, as far as is known.
    pub(super) fn has(&self, lane: LaneId, position: Position) -> bool {
        covers(self.of(lane), position)
    }

    /// How old the oldest event is that is known to be undigested; zero where none is.
    pub fn lag(&self, lane: LaneId, now: Millis) -> Duration {
        let oldest = self.lane(lane).map_or(NONE, |lane| lane.oldest.load(Relaxed));
        if oldest == NONE { Duration::ZERO } else { now.since(Millis(oldest)) }
    }

    /// Whether what the lane did just up to `position` may be among the dead letters. A batch ends at
    /// a position, and has at most so many events; so this may be a false alarm, never a false calm.
    pub fn may_be_dead(&self, lane: LaneId, position: Position) -> bool {
        let Some(lane) = self.lane(lane) else { return false };
        let reach = 2 * (limits::LANE_BATCH_MAX + limits::SWEEP_MAX) as u64;
        let dead = lane.dead.lock().unwrap_or_else(PoisonError::into_inner);
        let first = position.seq.saturating_sub(reach);
        dead.len() >= DEAD_MAX || dead.range(first..=position.seq).next().is_some()
    }

    /// Waits until the books have `position` of a lane; `false` where they have gone on in a later life
    /// of it, which need not have it. Cancel-safe. Never ends if they never do: the caller bounds it.
    pub async fn reached(&self, lane: LaneId, position: Position) -> bool {
        let Some(lane) = self.lane(lane) else { return true };
        let mut digested = lane.digested.subscribe();
        // An error means that the sender is gone, which lives as long as this.
        let at = digested.wait_for(|at| covers(*at, position)).await;
        at.is_ok_and(|at| at.epoch <= position.epoch)
    }

    /// Another gateway has digested something of a lane: its writer here is to look.
    pub fn heard(&self, lane: LaneId) {
        if let Some(lane) = self.lane(lane) {
            lane.heard.notify_one();
        }
    }

    /// Waits until another gateway has digested something. Cancel-safe.
    pub(super) async fn hears(&self, lane: LaneId) {
        match self.lane(lane) {
            Some(lane) => lane.heard.notified().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn moved(&self, lane: LaneId, position: Position) {
        if let Some(lane) = self.lane(lane) {
            // What is heard late is no news.
            lane.digested.send_if_modified(|at| {
                let later = position > *at;
                *at = position.max(*at);
                later
            });
        }
    }

    /// Before the cursor that passes them is told.
    pub(super) fn put_aside(&self, lane: LaneId, seqs: &[u64]) {
        if let Some(lane) = self.lane(lane) {
            let mut dead = lane.dead.lock().unwrap_or_else(PoisonError::into_inner);
            dead.extend(seqs);
            while dead.len() > DEAD_MAX {
                dead.pop_first();
            }
        }
    }

    /// The oldest event that waits, or that none does.
    pub(super) fn waits_since(&self, lane: LaneId, oldest: Option<Millis>) {
        if let Some(lane) = self.lane(lane) {
            lane.oldest.store(oldest.map_or(NONE, |at| at.0), Relaxed);
            lane.failing.store(false, Relaxed);
        }
    }

    /// Another gateway drains the lane.
    pub(super) fn follows(&self, lane: LaneId) {
        if let Some(lane) = self.lane(lane) {
            lane.failing.store(false, Relaxed);
        }
    }

    /// The lane cannot be drained at the moment; whatever is in it has waited at least since `now`.
    pub(super) fn fails(&self, lane: LaneId, now: Millis) {
        if let Some(lane) = self.lane(lane) {
            lane.failing.store(true, Relaxed);
            lane.oldest.fetch_min(now.0, Relaxed);
        }
    }

    fn lane(&self, lane: LaneId) -> Option<&Lane> {
        self.lanes.get(usize::from(lane.0))
    }
}
/// Whether books that are at `at` have what a lane had at `position`. A life of a lane begins with all that the books
/// have: while they are in an earlier one, what they have of it is what this one has under the same numbers. A
/// lane that was written anew may decide nothing for long.
fn covers(at: Position, position: Position) -> bool {
    at >= position || at.seq >= position.seq
}

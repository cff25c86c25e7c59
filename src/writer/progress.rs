//! How far each lane has been digested, for whoever waits for it or wants to know the backlog.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;

use crate::engine::Position;
use crate::sale::LaneId;

/// Shared by the writer, which moves it, and everybody who looks.
#[derive(Clone, Debug)]
pub struct Progress {
    lanes: Arc<[Lane]>,
}

#[derive(Debug)]
struct Lane {
    digested: watch::Sender<Position>,
    lag_ms: AtomicU64,
}

impl Progress {
    /// Nothing digested in any of `lanes` lanes.
    pub fn new(lanes: u16) -> Self {
        let lane = |_| Lane {
            digested: watch::Sender::new(Position::default()),
            lag_ms: AtomicU64::new(0),
        };
        Self { lanes: (0..lanes).map(lane).collect() }
    }

    /// How far a lane is in the books.
    pub fn of(&self, lane: LaneId) -> Position {
        self.lane(lane).map(|lane| *lane.digested.borrow()).unwrap_or_default()
    }

    /// How old the oldest event was that the last batch found undigested; zero once drained.
    pub fn lag(&self, lane: LaneId) -> Duration {
        let lag_ms = self.lane(lane).map_or(0, |lane| lane.lag_ms.load(Relaxed));
        Duration::from_millis(lag_ms)
    }

    /// Waits until the books have `position` of a lane. Cancel-safe. Never ends if they never do: the
    /// caller bounds it.
    pub async fn reached(&self, lane: LaneId, position: Position) {
        let Some(lane) = self.lane(lane) else { return };
        // An error means that the sender is gone, which lives as long as this.
        let _ = lane.digested.subscribe().wait_for(|at| at.seq >= position.seq).await;
    }

    pub(super) fn moved(&self, lane: LaneId, position: Position) {
        if let Some(lane) = self.lane(lane) {
            lane.digested.send_if_modified(|at| std::mem::replace(at, position) != position);
        }
    }

    pub(super) fn lags(&self, lane: LaneId, lag: Duration) {
        if let Some(lane) = self.lane(lane) {
            lane.lag_ms.store(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    fn lane(&self, lane: LaneId) -> Option<&Lane> {
        self.lanes.get(usize::from(lane.0))
    }
}

//! The writer: drains each lane's outbox into the store.
//!
//! One task a lane. It reads from the cursor that the store keeps, hands over a batch, and the store
//! moves the cursor in the same transaction; then again, until nothing is left, and then it waits for
//! the outbox to ring. While a crowd buys it lets events gather between two transactions. A store that
//! fails is tried again with growing, jittered pauses; nothing is skipped and nothing is acknowledged,
//! so whatever is killed in between, the next start goes on where the books stand.

mod progress;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, warn};

pub use progress::Progress;

use crate::clock::Clock;
use crate::engine::Position;
use crate::limits;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Record};
use crate::pause;
use crate::sale::LaneId;
use crate::store::{Digestible, Store, StoreError};

/// What the writer works with.
#[derive(Clone)]
pub struct Writer {
    /// Where it reads.
    pub outbox: Arc<dyn Outbox>,
    /// Where it writes.
    pub store: Arc<dyn Store>,
    /// For the age of what waits.
    pub clock: Arc<dyn Clock>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Where it tells how far it is.
    pub progress: Progress,
    /// Whether it may let events gather between two transactions; not where buyers wait for each.
    pub gathers: bool,
    /// Held for a lane while its events are on the way from the outbox into the books.
    pub underway: Underway,
}

/// One lock a lane: either its events are on their way into the books, or somebody relies on where the
/// books stand.
#[derive(Clone, Debug)]
pub struct Underway(Arc<[Arc<Mutex<()>>]>);

impl Underway {
    /// For so many lanes.
    pub fn new(lanes: u16) -> Self {
        Self((0..lanes).map(|_| Arc::default()).collect())
    }

    /// The lock of a lane.
    pub fn of(&self, lane: LaneId) -> Arc<Mutex<()>> {
        self.0.get(usize::from(lane.0)).cloned().unwrap_or_default()
    }
}

/// Why a step of the writer did not succeed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Outbox(#[from] crate::outbox::OutboxError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the outbox has a gap: expected event {expected}, found {found}")]
    Gap { expected: u64, found: u64 },
}

impl Writer {
    /// Starts a task for every lane. Each ends when `stop` has become true and its lane is drained,
    /// or the time for that is up; it is not lost then, but digested after the next start.
    pub fn spawn(self, stop: &watch::Receiver<bool>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for lane in (0..self.outbox.lanes()).map(LaneId) {
            let writer = LaneWriter { shared: self.clone(), lane };
            tasks.spawn(writer.run(stop.clone()));
        }
        tasks
    }
}

/// The writer of one lane.
struct LaneWriter {
    shared: Writer,
    lane: LaneId,
}

impl LaneWriter {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut head = self.shared.outbox.head(self.lane);
        let mut cursor = None;
        let mut failures = 0;
        while !*stop.borrow() {
            let known = *head.borrow_and_update();
            match self.step(&mut cursor, known).await {
                Ok(0) => {
                    failures = 0;
                    let idle = Duration::from_millis(limits::WRITER_IDLE_MS);
                    tokio::select! {
                        // Cancel-safe both: a change that is missed here is seen by the next look.
                        _ = timeout(idle, rings(&mut head)) => {}
                        _ = stop.changed() => {}
                    }
                }
                Ok(events) => {
                    failures = 0;
                    if self.shared.gathers && events < limits::WRITER_EVENTS_MAX as u64 {
                        let gather = Duration::from_millis(limits::WRITER_GATHER_MS);
                        let _ = timeout(gather, stop.changed()).await;
                    }
                }
                Err(error) => {
                    cursor = None;
                    self.failed(&error, &mut failures, &mut stop).await;
                }
            }
        }
        self.drain(cursor, &head).await;
    }

    /// The last look: nothing is added any more, so drain what is there.
    async fn drain(&self, mut cursor: Option<Position>, head: &watch::Receiver<Position>) {
        let drained = async {
            loop {
                let known = *head.borrow();
                match self.step(&mut cursor, known).await {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(error) => {
                        warn!(lane = %self.lane, %error, "stopping with entries in the outbox");
                        return;
                    }
                }
            }
        };
        let limit = Duration::from_millis(limits::WRITER_DRAIN_MS);
        if timeout(limit, drained).await.is_err() {
            warn!(lane = %self.lane, "stopping with entries in the outbox; the next start goes on");
        }
    }

    /// Digests one batch, and tells of how many events: of none where none wait.
    async fn step(&self, cursor: &mut Option<Position>, head: Position) -> Result<u64, StepError> {
        let underway = self.shared.underway.of(self.lane);
        let _underway = underway.lock().await;
        let from = match *cursor {
            Some(known) => known,
            None => self.shared.store.cursor(self.lane).await?,
        };
        *cursor = Some(from);
        self.shared.progress.moved(self.lane, from);
        // In one life of the lane; another goes on from where the books were, or beyond.
        if head <= from {
            self.shared.progress.waits_since(self.lane, None);
            return Ok(0);
        }
        let (records_max, events_max) = (limits::WRITER_RECORDS_MAX, limits::WRITER_EVENTS_MAX);
        let records = self.shared.outbox.read(self.lane, from, records_max, events_max).await?;
        let Some(oldest) = records.first() else { return Ok(0) };
        self.shared.progress.waits_since(self.lane, Some(oldest.at));
        check_numbering(from, &records)?;
        let events: u64 = records.iter().map(|record| u64::from(record.events)).sum();
        let batch = records.into_iter().map(Digestible::from).collect();
        let digested = self.shared.store.digest(self.lane, from, batch).await?;
        *cursor = Some(digested.cursor);
        self.shared.metrics.writer_batch_size.record(events as f64);
        self.shared.metrics.orders_persisted.increment(digested.orders);
        if digested.dead_letters > 0 {
            self.shared.metrics.dead_letters.increment(digested.dead_letters);
            self.shared.progress.put_aside(self.lane, digested.cursor.seq);
            error!(lane = %self.lane, count = digested.dead_letters, "put into the dead letters");
        }
        self.shared.progress.moved(self.lane, digested.cursor);
        Ok(events)
    }

    async fn failed(
        &self,
        error: &StepError,
        failures: &mut u32,
        stop: &mut watch::Receiver<bool>,
    ) {
        let pause = pause::before_retry(limits::WRITER_BACKOFF_MS, *failures);
        *failures = failures.saturating_add(1);
        self.shared.progress.fails(self.lane, self.shared.clock.now());
        // Every power of two: a store that is down for an hour fills no disk with its log.
        if failures.is_power_of_two() {
            warn!(lane = %self.lane, %error, failures, "the writer tries again");
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Waits until the outbox rings. An outbox that is gone never does.
async fn rings(head: &mut watch::Receiver<Position>) {
    if head.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Records follow the cursor and each other without a gap; otherwise something was lost, and skipping
/// it would hide that.
fn check_numbering(cursor: Position, records: &[Record]) -> Result<(), StepError> {
    let mut expected = cursor.seq.saturating_add(1);
    for record in records {
        let found = record.first_seq();
        if found != expected {
            return Err(StepError::Gap { expected, found });
        }
        expected = record.last.seq.saturating_add(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Millis;

    /// A missing or doubled record is an error, whichever way the numbers are off.
    #[test]
    fn gaps_are_seen() {
        let record = |seq, events| Record {
            events,
            ..Record::of(Position { epoch: 1, seq }, Millis(0), &[])
        };
        let cursor = Position { epoch: 1, seq: 10 };
        assert!(check_numbering(cursor, &[record(12, 2), record(13, 1)]).is_ok());
        for bad in [vec![record(13, 2)], vec![record(11, 2)], vec![record(12, 2), record(15, 2)]] {
            assert!(matches!(check_numbering(cursor, &bad), Err(StepError::Gap { .. })));
        }
    }
}

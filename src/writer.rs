//! The writer: drains each lane's outbox into the store.
//!
//! One task a lane, of one gateway at a time: the lease for it is in the store, taken when there is
//! something to write and renewed by writing; whoever lets it run out is followed by another gateway.
//! It reads from the cursor that the store keeps, hands over a batch, and the store
//! moves the cursor in the same transaction; then again, until nothing is left, and then it waits for
//! the outbox to ring. While a crowd buys it lets events gather between two transactions. A store that
//! fails is tried again with growing, jittered pauses; nothing is skipped and nothing is acknowledged,
//! so whatever is killed in between, the next start goes on where the books stand. A batch that the
//! store refuses again and again is taken event by event, and what it refuses alone is put aside.

mod pace;
mod progress;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, warn};

pub use progress::Progress;

use self::pace::Pace;
use crate::carts::CartCache;
use crate::clock::{self, Clock};
use crate::crash;
use crate::engine::Position;
use crate::limits;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Record};
use crate::pause;
use crate::planted;
use crate::sale::LaneId;
use crate::store::{Batch, Care, DeadMark, Digested, Digestible, Holder, Store, StoreError};

/// Dead letters that are looked at together.
const DEAD_PAGE: usize = 1_000;

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
    /// What it keeps true.
    pub carts: Arc<CartCache>,
    /// Its name in leases.
    pub holder: Holder,
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
            let writer = LaneWriter {
                shared: self.clone(),
                lane,
                cursor: None,
                renewed: None,
                pace: Pace::default(),
                refusals: 0,
            };
            tasks.spawn(writer.run(stop.clone()));
        }
        tasks
    }
}

/// The writer of one lane.
struct LaneWriter {
    shared: Writer,
    lane: LaneId,
    /// Where the store's cursor stands, while the lease is ours.
    cursor: Option<Position>,
    /// When the lease was last taken or renewed, by this machine's own count.
    renewed: Option<Instant>,
    pace: Pace,
    /// How often the store has refused what is next.
    refusals: u32,
}

/// What a step came to.
enum Step {
    /// So many events were digested.
    Digested(u64),
    /// There are none.
    Idle,
    /// Another gateway's writer is at it.
    Followed,
}

impl LaneWriter {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut head = self.shared.outbox.head(self.lane);
        let mut failures = 0;
        while !*stop.borrow() {
            let known = *head.borrow_and_update();
            let step = self.step(known).await;
            if step.is_ok() {
                failures = 0;
            }
            let pause = match step {
                Ok(Step::Idle) => {
                    let idle = Duration::from_millis(limits::WRITER_IDLE_MS);
                    tokio::select! {
                        biased;
                        // Cancel-safe all: a change that is missed here is seen by the next step.
                        _ = timeout(idle, rings(&mut head)) => {}
                        () = self.shared.progress.hears(self.lane) => self.cursor = None,
                        _ = stop.changed() => {}
                    }
                    continue;
                }
                Ok(Step::Digested(events)) if self.shared.gathers && !self.pace.is_full(events) => {
                    limits::WRITER_GATHER_MS
                }
                Ok(Step::Digested(_)) => continue,
                Ok(Step::Followed) => {
                    let follow = Duration::from_millis(limits::WRITER_FOLLOW_MS);
                    let told = timeout(follow, self.shared.progress.hears(self.lane));
                    tokio::select! {
                        biased;
                        _ = told => {}
                        _ = stop.changed() => {}
                    }
                    continue;
                }
                Err(error) => {
                    self.failed(&error, &mut failures, &mut stop).await;
                    continue;
                }
            };
            let _ = timeout(Duration::from_millis(pause), stop.changed()).await;
        }
        self.drain(&head).await;
        if self.cursor.is_some() {
            // A lease that is not given back runs out.
            let _ = self.shared.store.release(self.lane, self.shared.holder).await;
        }
    }

    /// The last look: nothing is added any more, so drain what is there.
    async fn drain(&mut self, head: &watch::Receiver<Position>) {
        let lane = self.lane;
        let drained = async {
            loop {
                let known = *head.borrow();
                match self.step(known).await {
                    Ok(Step::Idle) => return,
                    Ok(Step::Digested(_)) => {}
                    Ok(Step::Followed) => {
                        tokio::time::sleep(Duration::from_millis(limits::WRITER_FOLLOW_MS)).await;
                    }
                    Err(error) => {
                        warn!(%lane, %error, "stopping with entries in the outbox");
                        return;
                    }
                }
            }
        };
        let limit = Duration::from_millis(limits::WRITER_DRAIN_MS);
        if timeout(limit, drained).await.is_err() {
            warn!(%lane, "stopping with entries in the outbox; another writer goes on");
        }
    }

    /// Digests one batch, if there is one and the lane is ours to write.
    async fn step(&mut self, head: Position) -> Result<Step, StepError> {
        let underway = self.shared.underway.of(self.lane);
        let _underway = underway.lock().await;
        if self.shared.progress.has(self.lane, head) {
            self.shared.progress.waits_since(self.lane, None);
            return Ok(Step::Idle);
        }
        let from = match self.cursor.filter(|_| self.leased()) {
            Some(known) => known,
            None => {
                // Another gateway may have been at it.
                if head <= self.look().await? {
                    return Ok(Step::Idle);
                }
                let claim = self.shared.store.claim(self.lane, self.shared.holder).await?;
                if !claim.ours {
                    self.shared.progress.follows(self.lane);
                    return Ok(Step::Followed);
                }
                self.renewed = Some(clock::instant());
                claim.cursor
            }
        };
        self.cursor = Some(from);
        let (records_max, events_max) = (limits::WRITER_RECORDS_MAX, self.pace.events_max());
        let records = self.shared.outbox.read(self.lane, from, records_max, events_max).await?;
        let Some(oldest) = records.first() else {
            self.shared.progress.waits_since(self.lane, None);
            return Ok(Step::Idle);
        };
        self.shared.progress.waits_since(self.lane, Some(oldest.at));
        crash::point("writer: read");
        if !planted::is("gap-ignored") {
            check_numbering(from, &records)?;
        }
        let events: u64 = records.iter().map(|record| u64::from(record.events)).sum();
        let digested = self.digest(from, records).await?;
        self.shared.metrics.writer_batch_size.record(events as f64);
        self.tell(&digested);
        crash::point("writer: told");
        Ok(Step::Digested(events))
    }

    /// Whether the lease that was taken or renewed last cannot have run out.
    fn leased(&self) -> bool {
        let lease = Duration::from_millis(limits::WRITER_LEASE_MS);
        self.renewed.is_some_and(|renewed| clock::elapsed(renewed) < lease)
    }

    /// How far the books are, whoever has written them; and what of it was put aside.
    async fn look(&self) -> Result<Position, StepError> {
        let known = self.shared.progress.of(self.lane);
        let cursor = self.shared.store.cursor(self.lane).await?;
        let mut after = DeadMark { lane: self.lane, position: known };
        while cursor > after.position {
            let page = self.shared.store.dead_letters(Some(after), DEAD_PAGE).await?;
            let here = page.iter().filter(|(lane, _)| *lane == self.lane);
            let dead: Vec<_> = here.map(|(_, letter)| letter.record.last).collect();
            let seqs: Vec<_> = dead.iter().map(|position| position.seq).collect();
            self.shared.progress.put_aside(self.lane, &seqs);
            match dead.last() {
                Some(last) if page.len() == DEAD_PAGE => after.position = *last,
                Some(_) | None => break,
            }
        }
        // Told only now: whoever waits for the books looks at what was put aside then.
        self.shared.progress.moved(self.lane, cursor);
        Ok(cursor)
    }

    async fn digest(
        &mut self,
        cursor: Position,
        records: Vec<Record>,
    ) -> Result<Digested, StepError> {
        let patient = self.refusals < limits::WRITER_TRIES;
        let batch = Arc::new(Batch {
            lane: self.lane,
            holder: self.shared.holder,
            cursor,
            entries: records.into_iter().map(Digestible::from).collect(),
            care: if patient { Care::Whole } else { Care::EventByEvent },
        });
        let events = batch.entries.iter().map(|entry| u64::from(entry.record.events)).sum();
        let began = clock::instant();
        let digested = self.shared.store.digest(batch).await;
        match &digested {
            Ok(digested) => {
                self.pace.took(events, clock::elapsed(began));
                self.cursor = Some(digested.cursor);
                self.renewed = Some(began);
                self.refusals = 0;
            }
            Err(StoreError::Rejected(_)) => self.refusals = self.refusals.saturating_add(1),
            Err(StoreError::Failed(_) | StoreError::NotReady(_)) => self.pace.failed(),
            Err(
                StoreError::Overloaded
                | StoreError::Fenced(_)
                | StoreError::Leased
                | StoreError::Mended,
            ) => {}
        }
        Ok(digested?)
    }

    fn tell(&self, digested: &Digested) {
        self.shared.carts.forget(&digested.carts);
        self.shared.metrics.orders_persisted.increment(digested.orders);
        if !digested.dead_letters.is_empty() {
            let count = digested.dead_letters.len();
            self.shared.metrics.dead_letters.increment(count as u64);
            self.shared.progress.put_aside(self.lane, &digested.dead_letters);
            error!(lane = %self.lane, count, "put into the dead letters");
        }
        self.shared.progress.moved(self.lane, digested.cursor);
    }

    async fn failed(
        &mut self,
        error: &StepError,
        failures: &mut u32,
        stop: &mut watch::Receiver<bool>,
    ) {
        // Whatever is known of the store's cursor and of the lease may not be so any more.
        self.cursor = None;
        let pause = pause::before_retry(limits::WRITER_BACKOFF_MS, *failures);
        *failures = failures.saturating_add(1);
        self.shared.progress.fails(self.lane, self.shared.clock.now());
        // Every power of two: a store that is down for an hour fills no disk with its log.
        if failures.is_power_of_two() {
            warn!(lane = %self.lane, %error, failures, "the writer tries again");
        }
        tokio::select! {
                        biased;
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
    use crate::store::sqlite::{Archives, SqliteStore};

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

    /// An outbox of one lane, as it is.
    struct Shelf(Vec<Record>);

    impl Outbox for Shelf {
        fn lanes(&self) -> u16 {
            1
        }

        fn head(&self, _: LaneId) -> watch::Receiver<Position> {
            watch::channel(self.0.last().map(|record| record.last).unwrap_or_default()).1
        }

        fn read(
            &self,
            _: LaneId,
            after: Position,
            _: usize,
            _: usize,
        ) -> crate::outbox::Reading<'_, Vec<Record>> {
            let further = self.0.iter().filter(move |record| record.last > after).cloned();
            let further = further.collect();
            Box::pin(async move { Ok(further) })
        }
    }

    /// Proves that a writer which had failed is well again when the lane, written anew meanwhile, has nothing for it.
    #[tokio::test]
    async fn nothing_to_do_is_no_failure() {
        let known = Position { epoch: 1, seq: 4 };
        let (_dir, mut writer) = writer_of(vec![], known);
        writer.shared.progress.fails(writer.lane, Millis(1));
        let step = writer.step(Position { epoch: 2, ..known }).await;
        assert!(matches!(step, Ok(Step::Idle)));
        assert!(!writer.shared.progress.is_failing());
    }

    /// Proves that nothing from behind a gap comes into the books: the writer stands still and says so.
    #[tokio::test]
    async fn nothing_is_written_behind_a_gap() {
        let at = Position { epoch: 1, seq: 7 };
        let record = Record { events: 1, ..Record::of(at, Millis(0), &[]) };
        let (_dir, mut writer) = writer_of(vec![record], Position::default());
        let step = writer.step(at).await;
        assert!(matches!(step, Err(StepError::Gap { expected: 1, found: 7 })));
        let cursor = writer.shared.store.cursor(writer.lane).await;
        assert_eq!(cursor.unwrap(), Position::default());
    }

    /// A writer of one lane into books of its own, of which it believes that they are at `known`.
    fn writer_of(outbox: Vec<Record>, known: Position) -> (tempfile::TempDir, LaneWriter) {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("store.db"), Archives::No).unwrap();
        let metrics = Arc::new(Metrics::new());
        let shared = Writer {
            outbox: Arc::new(Shelf(outbox)),
            store: Arc::new(store),
            clock: Arc::new(crate::clock::SystemClock),
            carts: Arc::new(CartCache::new(&metrics)),
            metrics,
            progress: Progress::new(&[known]),
            gathers: false,
            holder: Holder(1),
            underway: Underway::new(1),
        };
        let (lane, pace) = (LaneId(0), Pace::default());
        let writer = LaneWriter { shared, lane, cursor: None, renewed: None, pace, refusals: 0 };
        (dir, writer)
    }
}

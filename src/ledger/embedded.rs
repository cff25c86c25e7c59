//! The embedded ledger: lanes in this process, with nothing to install.
//!
//! Each lane has one owner thread. It takes what waits in the inbox, decides it all on the state in
//! memory, appends what happened to the journal in one synced transaction, and only then publishes
//! and answers. While a batch is being synced the next one gathers.

mod disk;
mod owner;

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use self::disk::DiskWatch;
use self::owner::Owner;
use super::journal::{Journal, JournalError};
use super::{Fault, Health, Inbox, Knowledge, LaneGauge, Ledger, Pending, inbox, postman};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::crash;
use crate::engine::{Command, Position};
use crate::limits;
use crate::metrics::Metrics;
use crate::runtimes::Handles;
use crate::sale::LaneId;

/// What an embedded ledger is started with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many lanes; fixed when the data dir is made.
    pub lanes: u16,
    /// New reservations are refused while the disk has fewer bytes free than this, so that payments
    /// and cancellations still find room.
    pub disk_reserve_bytes: u64,
}

/// Why an embedded ledger does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data dir cannot be made or written.
    #[error("cannot use data dir {path}: {cause}", path = path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// In the system's words.
        cause: io::Error,
    },
    /// Another process has it.
    #[error("data dir {path} is in use by another floodgate process", path = path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// A journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The ledger has forgotten what the books know: selling on would oversell.
    #[error(
        "lane {lane} has forgotten: the books in {dir} have digested event {digested}, the ledger \
         ends at {head}; restore the ledger files that belong to these books", dir = dir.display()
    )]
    Amnesia {
        /// Which lane.
        lane: LaneId,
        /// Which data dir.
        dir: PathBuf,
        /// How far the books are.
        digested: u64,
        /// How far the ledger is.
        head: u64,
    },
}

/// The lanes of one data dir.
#[derive(Debug)]
pub struct EmbeddedLedger {
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Lane {
    inbox: Inbox,
    head: watch::Receiver<Position>,
}

/// The owner threads.
#[derive(Debug)]
pub struct Owners {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    lock: DataDirLock,
}

/// The right to write to a data dir. Given up when dropped, or by the system when the process dies.
#[derive(Debug)]
pub struct DataDirLock(#[expect(dead_code, reason = "held, not read")] File);

/// Makes the data dir if need be and takes it for this process.
///
/// # Errors
/// [`OpenError::InUse`] where another process has it.
pub fn lock_data_dir(dir: &Path) -> Result<DataDirLock, OpenError> {
    let error = |cause| OpenError::DataDir { path: dir.to_owned(), cause };
    // Who bought what is nobody else's business.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(error)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))
        .map_err(error)?;
    match file.try_lock() {
        Ok(()) => Ok(DataDirLock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: dir.to_owned() }),
        Err(TryLockError::Error(cause)) => Err(error(cause)),
    }
}

/// What the lanes share with the rest of the gateway.
#[derive(Clone)]
pub struct Surroundings {
    /// Where sales are published.
    pub catalog: Arc<Catalog>,
    /// The ledger's clock.
    pub clock: Arc<dyn Clock>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Set when a lane cannot go on: the process has to end and recover from what is durable.
    pub failed: watch::Sender<bool>,
    /// Where answers are delivered.
    pub runtimes: Handles,
}

/// Rebuilds every lane of `dir` from its journal, publishes its sales and starts its owner. `digested` is
/// how far the books have each lane: a lane that is behind its books is refused before anything can be
/// appended to it.
///
/// # Errors
/// [`OpenError`]; nothing has been started then.
pub fn open(
    dir: &Path,
    lock: DataDirLock,
    settings: Settings,
    digested: &[Position],
    surroundings: &Surroundings,
) -> Result<(EmbeddedLedger, Owners), OpenError> {
    let mut ready = Vec::new();
    for lane in (0..settings.lanes).map(LaneId) {
        let journal = Journal::open(dir, lane, settings.lanes)?;
        crash::point("start: journal opened");
        let state = journal.rebuild()?;
        crash::point("start: rebuilt");
        let head = state.position().seq;
        let digested = digested.get(usize::from(lane.0)).map_or(0, |position| position.seq);
        if digested > head {
            return Err(OpenError::Amnesia { lane, dir: dir.to_owned(), digested, head });
        }
        surroundings.catalog.reached(state.now());
        for (_, sale) in state.sales() {
            let (definition, window) = (sale.definition(), sale.window());
            let position = state.position();
            surroundings.catalog.publish(position, definition, window, sale.counters());
        }
        for reservation in state.reservations() {
            if let Some(card) = surroundings.catalog.sale(reservation.sale.as_str()) {
                card.seen.insert(&reservation.id);
            }
        }
        ready.push((lane, journal, state));
    }
    let mut lanes = Vec::new();
    let mut threads = Vec::new();
    let stop = Arc::new(AtomicBool::new(false));
    for (lane, journal, state) in ready {
        let (inbox, tray) = inbox(limits::LANE_INBOX);
        let (head, receiver) = watch::channel(state.position());
        let postman = postman::start(&surroundings.runtimes);
        let disk = DiskWatch::new(dir, settings.disk_reserve_bytes);
        let owner = Owner::new(lane, disk, journal, state, head, postman, surroundings.clone());
        let thread = std::thread::Builder::new().name(format!("lane-{lane}"));
        let thread = thread
            .spawn({
                let stop = Arc::clone(&stop);
                move || owner.run(&tray, &stop)
            })
            .map_err(|cause| OpenError::DataDir { path: dir.to_owned(), cause })?;
        lanes.push(Lane { inbox, head: receiver });
        threads.push(thread);
        crash::point("start: lane runs");
    }
    Ok((EmbeddedLedger { lanes }, Owners { threads, stop, lock }))
}

impl Owners {
    /// Lets every lane serve what waits, and waits for it. Whatever is submitted later is refused. The
    /// lock is the caller's then: to be held until nothing writes to the data dir any more.
    pub fn stop(self) -> DataDirLock {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            // A lane that panicked has reported itself as failed.
            let _ = thread.join();
        }
        self.lock
    }
}

impl Ledger for EmbeddedLedger {
    fn lanes(&self) -> u16 {
        u16::try_from(self.lanes.len()).unwrap_or(u16::MAX)
    }

    fn submit(&self, lane: LaneId, command: Command) -> Result<Pending, Fault> {
        // An id of another layout names a lane that is not here; nobody can have taken units in it.
        let lane = self.lanes.get(usize::from(lane.0)).or(self.lanes.first());
        lane.ok_or(Fault::Unavailable)?.inbox.submit(command)
    }

    fn head(&self, lane: LaneId) -> watch::Receiver<Position> {
        // Safe: lane ids for this come from `lanes()`.
        self.lanes[usize::from(lane.0)].head.clone()
    }

    fn health(&self, _lane: LaneId) -> Health {
        // A lane that cannot go on raises `Surroundings::failed`, and the process ends.
        Health::Up
    }

    fn known(&self, _lane: LaneId) -> Knowledge {
        Knowledge::EVERYTHING
    }

    fn wait(&self, lane: LaneId) -> Duration {
        self.lanes.get(usize::from(lane.0)).map(|lane| lane.inbox.wait()).unwrap_or_default()
    }

    fn gauge(&self, lane: LaneId) -> LaneGauge {
        self.lanes.get(usize::from(lane.0)).map(|lane| lane.inbox.gauge()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::clock::Millis;
    use crate::ledger::contract::{self, Rig};
    use crate::ledger::journal;
    use crate::sale::Move;

    /// A clock that stands until it is moved.
    #[derive(Default)]
    struct HandClock(AtomicU64);

    impl Clock for HandClock {
        fn now(&self) -> Millis {
            Millis(self.0.load(Ordering::SeqCst))
        }
    }

    struct Embedded {
        dir: tempfile::TempDir,
        clock: Arc<HandClock>,
        ledger: Arc<EmbeddedLedger>,
        owners: Owners,
    }

    impl Embedded {
        fn on(dir: tempfile::TempDir, clock: Arc<HandClock>) -> Self {
            let around = Surroundings {
                catalog: Arc::new(Catalog::default()),
                clock: Arc::clone(&clock) as Arc<dyn Clock>,
                metrics: Arc::new(Metrics::new()),
                failed: watch::channel(false).0,
                runtimes: Handles::current(),
            };
            let settings = Settings { lanes: 2, disk_reserve_bytes: 0 };
            let lock = lock_data_dir(dir.path()).unwrap();
            let (ledger, owners) = super::open(dir.path(), lock, settings, &[], &around).unwrap();
            Self { dir, clock, ledger: Arc::new(ledger), owners }
        }
    }

    impl Rig for Embedded {
        fn ledger(&self) -> Arc<dyn Ledger> {
            Arc::clone(&self.ledger) as Arc<dyn Ledger>
        }

        fn pass(&self, ms: u64) {
            self.clock.0.fetch_add(ms, Ordering::SeqCst);
        }

        fn reopen(self) -> Self {
            let Self { dir, clock, ledger, owners } = self;
            drop(ledger);
            drop(owners.stop());
            Self::on(dir, clock)
        }
    }

    fn open() -> Embedded {
        let clock = Arc::new(HandClock(AtomicU64::new(1_000_000)));
        Embedded::on(tempfile::tempdir().unwrap(), clock)
    }

    crate::ledger::contract::ledger_contract!(open);

    /// Nobody is told what the journal does not have: where it fails, nobody knows, and the lane ends.
    #[tokio::test]
    async fn a_journal_that_fails() {
        let rig = open();
        let ask = async |command| {
            let lane = LaneId::of_sale("sale", rig.ledger.lanes());
            rig.ledger.submit(lane, command).unwrap().await.unwrap()
        };
        let (definition, actor) = (contract::definition(9, 60), "admin");
        ask(Command::CreateSale { definition, actor: actor.into() }).await.unwrap();
        let step = Move::Open;
        ask(Command::MoveSale { sale: contract::sale(), step, actor: actor.into() }).await.unwrap();
        for lane in 0..rig.ledger.lanes() {
            let journal = journal::path(rig.dir.path(), LaneId(lane));
            let other = rusqlite::Connection::open(journal).unwrap();
            other.execute_batch("DROP TABLE outbox").unwrap();
        }
        let told = ask(contract::reserve_at(rig.ledger.as_ref(), 1, 1).1).await;
        assert!(matches!(told, Err(Fault::Unknown)), "{told:?}");
    }

    /// Eight who sweep one lane beside payments at the deadline.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn eight_sweepers() {
        let dir = tempfile::tempdir().unwrap();
        let around = Surroundings {
            catalog: Arc::default(),
            clock: Arc::new(crate::clock::SystemClock),
            metrics: Arc::default(),
            failed: watch::channel(false).0,
            runtimes: Handles::current(),
        };
        let settings = Settings { lanes: 1, disk_reserve_bytes: 0 };
        let lock = lock_data_dir(dir.path()).unwrap();
        let (ledger, owners) = super::open(dir.path(), lock, settings, &[], &around).unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        crate::ledger::sweepers::race(vec![ledger; 8]).await;
        drop(owners.stop());
    }

    /// One process has a data dir; the next is told who has it, and gets it when it is free.
    #[test]
    fn a_data_dir_is_one_process_s() {
        let dir = tempfile::tempdir().unwrap();
        let lock = lock_data_dir(dir.path()).unwrap();
        assert!(matches!(lock_data_dir(dir.path()), Err(OpenError::InUse { .. })));
        drop(lock);
        assert!(lock_data_dir(dir.path()).is_ok());
    }

    /// A lane that is behind its books does not open, and nothing is written to it: it is refused as
    /// often as it is tried.
    #[tokio::test]
    async fn a_lane_that_forgot_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { lanes: 1, disk_reserve_bytes: 0 };
        for _ in 0..2 {
            let around = Surroundings {
                catalog: Arc::default(),
                clock: Arc::new(HandClock::default()),
                metrics: Arc::default(),
                failed: watch::channel(false).0,
                runtimes: Handles::current(),
            };
            let lock = lock_data_dir(dir.path()).unwrap();
            let books = [Position { epoch: 1, seq: 9 }];
            let opened = super::open(dir.path(), lock, settings, &books, &around);
            let refused = matches!(opened, Err(OpenError::Amnesia { digested: 9, head: 0, .. }));
            assert!(refused);
        }
    }

    /// A data dir that was made for another number of lanes is refused: sales would be looked for in
    /// lanes that they are not in.
    #[test]
    fn lanes_are_fixed() {
        let dir = tempfile::tempdir().unwrap();
        Journal::open(dir.path(), LaneId(0), 2).unwrap();
        let other = Journal::open(dir.path(), LaneId(0), 3);
        assert!(matches!(other, Err(JournalError::Mismatch { .. })));
    }
}

//! The Redis ledger: the same lanes for any number of gateways.
//!
//! A lane's state lives in Redis, under one hash tag, and is changed by scripts only (`lua/`). Each call
//! of a script carries whatever waited while the calls before it were under way, and is one atomic
//! step: holds that ran out are returned, every command is decided, and what happened is appended to the
//! outbox, a stream beside the state. A lost answer is *unknown*, and is resolved by asking again with
//! the same ids. A Redis that may have forgotten is fenced until it has been compared with the books
//! ([`recovery`]).

#[cfg(test)]
pub(crate) mod assembled;
mod caller;
mod connection;
mod follower;
pub mod keys;
mod lane;
pub mod recovery;
pub mod scripts;
pub mod server;
mod torn;
mod watcher;
pub mod wire;
mod worker;

#[cfg(test)]
pub(crate) use connection::Dial;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use governor::Quota;
use tokio::sync::watch;

use self::caller::Common;
use self::lane::Lane;
use self::recovery::Recall;
use self::server::{Server, ServerError};
use self::watcher::Watcher;
use self::worker::Worker;
use super::{
    Durability, Fault, Health, Inbox, Knowledge, LaneGauge, Ledger, Pending, inbox, postman,
};
use crate::catalog::Catalog;
use crate::engine::{Command, Position};
use crate::limits;
use crate::metrics::Metrics;
use crate::runtimes::Handles;
use crate::sale::LaneId;

/// What a Redis ledger is started with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many lanes; fixed when the ledger is first used.
    pub lanes: u16,
    /// Calls of a lane that may be under way at once.
    pub in_flight: usize,
    /// Commands in one call.
    pub batch_max: usize,
    /// What is promised.
    pub promise: Promise,
}

/// What an answer is given after.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// What it survives.
    pub durability: Durability,
    /// Replicas that have it, where it is `replicated`.
    pub replicas: usize,
}

/// What the lanes share with the rest of the gateway.
#[derive(Clone)]
pub struct Around {
    /// Where sales are published.
    pub catalog: Arc<Catalog>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// What remembers a lane when Redis does not.
    pub recall: Arc<dyn Recall>,
    /// How often a user may reserve through all gateways together, if that is limited.
    pub user_quota: watch::Receiver<Option<Quota>>,
    /// Where answers are delivered.
    pub runtimes: Handles,
}

/// The lanes of one Redis.
pub struct RedisLedger {
    lanes: Vec<(Inbox, Arc<Lane>)>,
}

/// The workers of all lanes.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

/// Why a Redis ledger does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The ledger is not this gateway's.
    #[error("{0}")]
    Foreign(String),
    /// A lane did not open in time.
    #[error("lane {lane} of the ledger does not open; the log says why")]
    Lane {
        /// Which.
        lane: LaneId,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Connects, checks that the server can give what is promised, starts the workers and waits until every
/// lane is open. Blocks.
///
/// # Errors
/// [`OpenError`]; nothing is left running then.
pub fn open(
    server: &Arc<Server>,
    settings: Settings,
    around: &Around,
) -> Result<(RedisLedger, Workers), OpenError> {
    let until = Instant::now() + Duration::from_millis(limits::REDIS_OPEN_MS);
    for lane in (0..settings.lanes).map(LaneId) {
        while let Err(unfit) = look_at(server, lane, settings.promise) {
            // One that is there and slow may be busy with its own start.
            let slow = matches!(&unfit, ServerError::Unreachable(error) if error.is_timeout());
            if !slow || Instant::now() >= until {
                return Err(unfit.into());
            }
        }
    }
    let mut lanes = Vec::new();
    let mut workers = Workers { threads: Vec::new(), stop: Arc::default() };
    let common = Arc::new(Common {
        server: Arc::clone(server),
        settings,
        around: around.clone(),
        stop: Arc::clone(&workers.stop),
    });
    let name = format!("{:016x}", fastrand::u64(..));
    let gateway = recovery::Gateway { name, lanes: settings.lanes };
    for id in (0..settings.lanes).map(LaneId) {
        let (inbox, tray) = inbox(limits::LANE_INBOX);
        let lane = Arc::new(Lane::new(id, gateway.clone()));
        let watcher = Watcher::new(Arc::clone(&lane), Arc::clone(&common));
        let mut threads: Vec<Box<dyn FnOnce() + Send>> = vec![Box::new(move || watcher.watch())];
        for _ in 0..settings.in_flight {
            let (lane, common) = (Arc::clone(&lane), Arc::clone(&common));
            let worker = Worker::new(lane, tray.clone(), common, postman::start(&around.runtimes));
            threads.push(Box::new(move || worker.serve()));
        }
        for (number, thread) in threads.into_iter().enumerate() {
            let named = std::thread::Builder::new().name(format!("lane-{id}.{number}"));
            match named.spawn(thread) {
                Ok(thread) => workers.threads.push(thread),
                Err(cause) => {
                    workers.stop();
                    return Err(cause.into());
                }
            }
        }
        lanes.push((inbox, lane));
    }
    let ledger = RedisLedger { lanes };
    match ledger.wait_until_open() {
        Ok(()) => Ok((ledger, workers)),
        Err(closed) => {
            workers.stop();
            Err(closed)
        }
    }
}

fn look_at(server: &Server, lane: LaneId, promise: Promise) -> Result<(), ServerError> {
    let mut connection = server.connect(lane)?;
    server::check(&mut connection, promise.durability, promise.replicas)
}

impl RedisLedger {
    fn wait_until_open(&self) -> Result<(), OpenError> {
        let deadline = Instant::now() + Duration::from_millis(limits::REDIS_OPEN_MS);
        for (_, lane) in &self.lanes {
            while lane.health() != Health::Up {
                if let Some(reason) = lane.foreign() {
                    return Err(OpenError::Foreign(reason));
                }
                if Instant::now() >= deadline {
                    return Err(OpenError::Lane { lane: lane.id });
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    fn lane(&self, lane: LaneId) -> Option<&(Inbox, Arc<Lane>)> {
        // An id of another layout names a lane that is not here; nobody can have taken units in it.
        self.lanes.get(usize::from(lane.0)).or(self.lanes.first())
    }
}

impl Workers {
    /// Lets every lane serve what waits, and waits for it. Whatever is submitted later is refused.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

impl Ledger for RedisLedger {
    fn lanes(&self) -> u16 {
        u16::try_from(self.lanes.len()).unwrap_or(u16::MAX)
    }

    fn submit(&self, lane: LaneId, command: Command) -> Result<Pending, Fault> {
        let (inbox, _) = self.lane(lane).ok_or(Fault::Unavailable)?;
        inbox.submit(command)
    }

    fn head(&self, lane: LaneId) -> watch::Receiver<Position> {
        // Safe: lane ids for this come from `lanes()`.
        self.lanes[usize::from(lane.0)].1.head.subscribe()
    }

    fn wait(&self, lane: LaneId) -> Duration {
        self.lane(lane).map(|(inbox, _)| inbox.wait()).unwrap_or_default()
    }

    fn gauge(&self, lane: LaneId) -> LaneGauge {
        self.lanes.get(usize::from(lane.0)).map(|(inbox, _)| inbox.gauge()).unwrap_or_default()
    }

    fn health(&self, lane: LaneId) -> Health {
        self.lane(lane).map_or(Health::Down, |(_, lane)| lane.health())
    }

    fn known(&self, lane: LaneId) -> Knowledge {
        self.lane(lane).map(|(_, lane)| lane.known()).unwrap_or_default()
    }
}

#[cfg(test)]
mod differential;
#[cfg(test)]
mod rate;
#[cfg(test)]
mod tests;

//! The suite of every ledger over a real Redis, and what only Redis can do to a ledger.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use floodgate_loadtest::redis_server::{Keeps, RedisServer};

use super::keys::Keys;
use super::*;
use crate::engine::State;
use crate::ledger::contract::{Rig, ledger_contract};
use crate::outbox::stream;

/// Books that keep what a test gives them.
#[derive(Default)]
struct Memory(Mutex<Vec<stream::Entry>>);

impl Recall for Memory {
    fn hold(&self, _lane: LaneId) -> Result<Box<dyn Send>, String> {
        Ok(Box::new(()))
    }

    fn still_holds(&self, lane: LaneId) -> Result<Position, String> {
        self.digested(lane)
    }

    fn digested(&self, _lane: LaneId) -> Result<Position, String> {
        let entries = self.0.lock().unwrap();
        Ok(entries.last().map(|entry| entry.last).unwrap_or_default())
    }

    fn recall(&self, _lane: LaneId) -> Result<State, String> {
        let entries = self.0.lock().unwrap();
        let mut state = State::new(entries.last().map_or(0, |entry| entry.last.epoch));
        for entry in entries.iter() {
            entry.record().unwrap().fold(&mut state).unwrap();
        }
        Ok(state)
    }
}

/// A ledger on a Redis of its own whose clock is moved by hand: the lanes' clocks are set far ahead of
/// the machine's, and never step back.
struct OnRedis {
    redis: RedisServer,
    now: AtomicU64,
    memory: Arc<Memory>,
    ledger: Arc<RedisLedger>,
    workers: Option<Workers>,
}

const LANES: u16 = 2;

impl OnRedis {
    fn on(redis: RedisServer, now: u64, memory: Arc<Memory>) -> Self {
        let server = Arc::new(Server::of(&redis.url()).unwrap());
        let promise = Promise { durability: Durability::Fsync, replicas: 0 };
        let settings = Settings { lanes: LANES, in_flight: 2, batch_max: 128, promise };
        let around = Around {
            catalog: Arc::default(),
            metrics: Arc::default(),
            recall: Arc::clone(&memory) as Arc<dyn Recall>,
            user_quota: watch::channel(None).1,
        };
        let (ledger, workers) = super::open(&server, settings, &around).unwrap();
        let (now, ledger) = (AtomicU64::new(now), Arc::new(ledger));
        let rig = Self { redis, now, memory, ledger, workers: Some(workers) };
        rig.pass(0);
        rig
    }

    fn connection(&self) -> server::Connection {
        Server::of(&self.redis.url()).unwrap().connect(LaneId(0)).unwrap()
    }
}

impl Drop for OnRedis {
    fn drop(&mut self) {
        if let Some(workers) = self.workers.take() {
            workers.stop();
        }
    }
}

impl Rig for OnRedis {
    fn ledger(&self) -> Arc<dyn Ledger> {
        Arc::clone(&self.ledger) as Arc<dyn Ledger>
    }

    fn pass(&self, ms: u64) {
        let now = self.now.fetch_add(ms, Ordering::SeqCst) + ms;
        let mut connection = self.connection();
        for lane in (0..LANES).map(LaneId) {
            let mut set = redis::cmd("HSET");
            set.arg(Keys::of(lane).meta).arg("now").arg(now).exec(&mut connection).unwrap();
        }
    }

    fn reopen(mut self) -> Self {
        self.workers.take().unwrap().stop();
        let now = self.now.load(Ordering::SeqCst);
        let (server, memory) = (Server::of(&self.redis.url()).unwrap(), Arc::clone(&self.memory));
        drop(server);
        let spare = RedisServer::start(Keeps::Nothing).unwrap();
        let mut redis = std::mem::replace(&mut self.redis, spare);
        redis.run().unwrap();
        Self::on(redis, now, memory)
    }
}

fn open() -> OnRedis {
    // A day in the year 2100.
    let redis = RedisServer::start(Keeps::Everything).unwrap();
    OnRedis::on(redis, 4_102_444_800_000, Arc::default())
}

ledger_contract!(open);

//! The suite of every ledger over a real Redis, and what only Redis can do to a ledger.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use floodgate_loadtest::fault_proxy::FaultProxy;
use floodgate_loadtest::redis_server::{Keeps, RedisServer};

use super::keys::Keys;
use super::scripts::CallId;
use super::wire::Verdict;
use super::*;
use crate::engine::{Authority, State};
use crate::ledger::contract::{Rig, definition, ledger_contract, reserve_at, sale, user};
use crate::outbox::stream;
use crate::runtimes::Handles;
use crate::sale::{Move, Outcome, Refusal};

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

/// A ledger of its own on a Redis, as each gateway has one.
fn gateway(redis: &RedisServer, memory: Arc<Memory>) -> (RedisLedger, Workers) {
    promising(&redis.url(), memory, Promise { durability: Durability::Fsync, replicas: 0 })
}

/// That promises so much.
fn promising(url: &str, memory: Arc<Memory>, promise: Promise) -> (RedisLedger, Workers) {
    let server = Arc::new(Server::of(url).unwrap());
    let settings = Settings { lanes: LANES, in_flight: 2, batch_max: 128, promise };
    let around = Around {
        catalog: Arc::default(),
        metrics: Arc::default(),
        recall: memory,
        user_quota: watch::channel(None).1,
        runtimes: Handles::current(),
    };
    super::open(&server, settings, &around).unwrap()
}

impl OnRedis {
    fn on(redis: RedisServer, now: u64, memory: Arc<Memory>) -> Self {
        let (ledger, workers) = gateway(&redis, Arc::clone(&memory));
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

/// A fence keeps everybody out, whatever else is as it should be: while it stands somebody writes the lane anew.
#[tokio::test]
async fn a_fence_keeps_out() {
    let rig = open();
    let lane = LaneId::of_sale("sale", LANES);
    let sweep = || rig.ledger.submit(lane, Command::Sweep);
    let before = sweep().unwrap().await.unwrap().unwrap().position;
    let meta = Keys::of(lane).meta;
    // From later on, so that nobody takes it for left behind while this lasts.
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
    let mut fence = redis::cmd("HSET");
    fence.arg(&meta).arg("fence").arg("somebody").arg("fence_at").arg(now + 60_000);
    fence.exec(&mut rig.connection()).unwrap();
    // By each worker, those that look at the lane first and those that have a connection.
    for _ in 0..20 {
        let kept_out = match sweep() {
            Ok(pending) => pending.await.unwrap().map(|_| ()),
            Err(fault) => Err(fault),
        };
        assert!(kept_out.is_err(), "it was decided behind the fence");
    }
    let seq: u64 = redis::cmd("HGET").arg(&meta).arg("seq").query(&mut rig.connection()).unwrap();
    assert_eq!(seq, before.seq);
}

/// A replica that comes makes no other history of its primary's: that has lost nothing, though it calls its
/// replication otherwise from then on. A replica that is promoted begins one.
#[tokio::test]
async fn a_replica_that_comes() {
    let redis = RedisServer::start(Keeps::Everything).unwrap();
    let greeted = |redis: &RedisServer| {
        let mut connection = Server::of(&redis.url()).unwrap().connect(LaneId(0)).unwrap();
        let info: String = redis::cmd("INFO").query(&mut connection).unwrap();
        let replication = server::field(&info, "master_replid").unwrap().to_owned();
        (server::greet(&mut connection).unwrap().history, replication)
    };
    let (before, replication) = greeted(&redis);
    let replica = redis.start_replica(Keeps::Nothing).unwrap();
    let began = Instant::now();
    while redis.replicas() == 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "the replica does not come up");
        std::thread::yield_now();
    }
    let (after, other) = greeted(&redis);
    assert_ne!(replication, other, "so the server says");
    assert_eq!(before, after);
    let (followed, _) = greeted(&replica);
    let mut connection = redis::Client::open(replica.url()).unwrap().get_connection().unwrap();
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut connection).unwrap();
    assert_ne!(followed, greeted(&replica).0);
}

/// What no replica has taken over is not told as `replicated`: nobody knows.
#[tokio::test]
async fn replicas_are_waited_for() {
    let redis = RedisServer::start(Keeps::Everything).unwrap();
    let mut replica = redis.start_replica(Keeps::Nothing).unwrap();
    let began = std::time::Instant::now();
    while redis.replicas() == 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "the replica does not come up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let promise = Promise { durability: Durability::Replicated, replicas: 1 };
    let (ledger, workers) = promising(&redis.url(), Arc::default(), promise);
    let sweep = || async { ledger.submit(LaneId(0), Command::Sweep).unwrap().await.unwrap() };
    // It may still be taking over what was there before.
    while sweep().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(30), "the replica has nothing");
    }
    replica.kill();
    assert_eq!(sweep().await, Err(Fault::Unknown));
    workers.stop();
}

/// A call that arrives when its caller has given it up and was answered by another one does nothing: somebody was told
/// that there is no unit left, and must not get the one that comes free later.
#[tokio::test]
async fn a_late_call_is_nobodys() {
    let redis = RedisServer::start(Keeps::Everything).unwrap();
    let proxy = FaultProxy::start(redis.address()).unwrap();
    let promise = Promise { durability: Durability::Fsync, replicas: 0 };
    let url = format!("redis://{}", proxy.address());
    let (ledger, workers) = promising(&url, Arc::default(), promise);
    let lane = LaneId::of_sale("sale", LANES);
    let ask = |command| {
        let pending = ledger.submit(lane, command).unwrap();
        async { pending.await.unwrap().unwrap().outcome }
    };
    ask(Command::CreateSale { definition: definition(1, 60), actor: "admin".into() }).await;
    ask(Command::MoveSale { sale: sale(), step: Move::Open, actor: "admin".into() }).await;
    let (first, reserve) = reserve_at(&ledger, 1, 1);
    assert!(matches!(ask(reserve).await, Outcome::Reserved { .. }));
    proxy.hold_back();
    let (late, reserve) = reserve_at(&ledger, 2, 2);
    let told = ask(reserve).await;
    assert!(matches!(told, Outcome::Refused(Refusal::SoldOut { .. })), "{told:?}");
    ask(Command::Cancel { id: first, by: Authority::Owner(user(1)) }).await;
    assert!(proxy.hand_on() > 0, "nothing was on its way");
    // What was handed on is read before this is.
    let mut connection = Server::of(&redis.url()).unwrap().connect(lane).unwrap();
    for _ in 0..2 {
        redis::cmd("PING").exec(&mut connection).unwrap();
    }
    let found = ask(Command::Find { id: late, owner: None }).await;
    assert!(matches!(found, Outcome::Refused(Refusal::UnknownReservation)), "{found:?}");
    workers.stop();
}

/// A call that is made again is told when it was made before, as long as its caller has made no other that wrote
/// anything; another caller's is not, and neither is one that wrote nothing.
#[tokio::test]
async fn a_call_that_is_made_twice() {
    let redis = RedisServer::start(Keeps::Everything).unwrap();
    let (ledger, workers) = gateway(&redis, Arc::default());
    let lane = LaneId::of_sale("sale", LANES);
    let ask = async |command| ledger.submit(lane, command).unwrap().await.unwrap().unwrap();
    ask(Command::CreateSale { definition: definition(9, 60), actor: "admin".into() }).await;
    let seen = ask(Command::MoveSale { sale: sale(), step: Move::Open, actor: "admin".into() });
    let seen = seen.await.position;
    let mut connection = Server::of(&redis.url()).unwrap().connect(lane).unwrap();
    let keys = Keys::of(lane);
    let mut call = |field: &str, known_by: &str, commands: &[Command]| {
        let id = CallId { field, known_by };
        let asked = wire::Arguments::of(commands.iter());
        let call = scripts::lane_call(&keys, seen, None, None, Some(id), &asked);
        let head = wire::head(&scripts::call_lane(&mut connection, &call).unwrap().head).unwrap();
        (head.now, head.made_before)
    };
    let reserve = |number| reserve_at(&ledger, number, 1).1;
    let [first, second, third] = [1, 2, 3].map(reserve);
    let (at, before) = call("call:1", "ann-1", std::slice::from_ref(&first));
    assert_eq!(before, None);
    let made = |at, replays| Some(wire::MadeBefore { at, replays });
    for _ in 0..2 {
        assert_eq!(call("call:1", "ann-1", std::slice::from_ref(&first)).1, made(at, vec![]));
    }
    let both = [first.clone(), second];
    let (at_both, before) = call("call:2", "bob-1", &both);
    assert_eq!(before, None);
    for _ in 0..2 {
        assert_eq!(call("call:1", "ann-2", &[Command::Sweep]).1, None);
    }
    assert_eq!(call("call:2", "bob-1", &both).1, made(at_both, vec![0]));
    assert_eq!(call("call:1", "ann-1", std::slice::from_ref(&first)).1, made(at, vec![]));
    call("call:1", "ann-3", &[third]);
    assert_eq!(call("call:1", "ann-1", std::slice::from_ref(&first)).1, None);
    workers.stop();
}

/// A caller that knows the lane otherwise than it is, in whichever way, is told so and has no effect.
#[tokio::test]
async fn another_lane_than_it_was() {
    let redis = RedisServer::start(Keeps::Everything).unwrap();
    let (ledger, workers) = gateway(&redis, Arc::default());
    let lane = LaneId::of_sale("sale", LANES);
    let ask = async |command| ledger.submit(lane, command).unwrap().await.unwrap().unwrap();
    ask(Command::CreateSale { definition: definition(9, 60), actor: "admin".into() }).await;
    let opened = ask(Command::MoveSale { sale: sale(), step: Move::Open, actor: "admin".into() });
    let seen = opened.await.position;
    workers.stop();
    let mut connection = Server::of(&redis.url()).unwrap().connect(lane).unwrap();
    let keys = Keys::of(lane);
    let reserve = reserve_at(&ledger, 1, 1).1;
    let asked = wire::Arguments::of(std::iter::once(&reserve));
    let call = scripts::lane_call(&keys, seen, None, None, None, &asked);
    let life = (seen.epoch + 1).to_string();
    for (field, value, verdict) in [
        ("format", "999", Verdict::Format),
        ("fence", "another-1", Verdict::Fenced),
        ("epoch", &*life, Verdict::Stale),
        ("seq", "1", Verdict::Behind),
        ("", "", Verdict::Done),
    ] {
        let was: Option<String> =
            redis::cmd("HGET").arg(&keys.meta).arg(field).query(&mut connection).unwrap();
        if !field.is_empty() {
            redis::cmd("HSET").arg(&keys.meta).arg(field).arg(value).exec(&mut connection).unwrap();
        }
        let said = scripts::call_lane(&mut connection, &call).unwrap();
        assert_eq!(wire::head(&said.head).unwrap().verdict, verdict);
        let entries: u64 = redis::cmd("XLEN").arg(&keys.outbox).query(&mut connection).unwrap();
        assert_eq!(entries, seen.seq + u64::from(verdict == Verdict::Done), "{field}");
        let mut mend = redis::cmd(if was.is_some() { "HSET" } else { "HDEL" });
        mend.arg(&keys.meta).arg(field).arg(was).exec(&mut connection).unwrap();
    }
}

/// A gateway of another version than the lane's does not take it: an operator has to decide.
#[tokio::test]
async fn a_lane_of_another_format() {
    let redis = RedisServer::start(Keeps::Everything).unwrap();
    let (_ledger, workers) = gateway(&redis, Arc::default());
    workers.stop();
    let mut connection = Server::of(&redis.url()).unwrap().connect(LaneId(0)).unwrap();
    let (keys, own) = (Keys::of(LaneId(0)), recovery::Gateway { name: "g".into(), lanes: LANES });
    let seen = Position::default();
    let looks = recovery::Looks { history: "history", seen, suspect: false, compared: None };
    redis::cmd("HSET").arg(&keys.meta).arg("format").arg("999").exec(&mut connection).unwrap();
    let opened = recovery::open(&mut connection, LaneId(0), &own, looks, &Memory::default());
    let refused = opened.unwrap_err();
    assert!(matches!(refused, recovery::Closed::Foreign(_)), "{refused}");
    assert!(refused.to_string().contains("format 999"), "{refused}");
}

/// Eight gateways that sweep one Redis beside payments at the deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_sweepers() {
    let redis = RedisServer::start(Keeps::Everything).unwrap();
    let gateways: Vec<_> = (0..8).map(|_| gateway(&redis, Arc::default())).collect();
    let (ledgers, workers): (Vec<_>, Vec<_>) = gateways.into_iter().unzip();
    let ledgers = ledgers.into_iter().map(|ledger| Arc::new(ledger) as Arc<dyn Ledger>).collect();
    crate::ledger::sweepers::race(ledgers).await;
    workers.into_iter().for_each(Workers::stop);
}

//! Three gateways on one Redis, and a crowd that does not care which of them answers: with all going
//! well, with answers of Redis that are lost, with gateways that are killed.
//!
//! `FLOODGATE_CRASH_ROUNDS` makes them long; `docs/TESTING.md` says what a round is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use floodgate_loadtest::client::{Client, HeaderName, Method, Reply};
use floodgate_loadtest::fault_proxy::FaultProxy;
use floodgate_loadtest::redis_server::{Keeps, RedisServer};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::binary::{Serving, audit_with};
use crate::crowd::rounds;
use crate::patience::PATIENCE;
use crate::shop::{CONSOLE, SALE, sale};

const GATEWAYS: usize = 3;
const CONNECTIONS: usize = 128;
/// Every tenth user wants more than they may have.
const GREEDY: u32 = 10;

/// Three gateways, each with books of its own, and the Redis that they share.
struct Rig {
    redis: RedisServer,
    /// Each gateway's way to Redis.
    proxies: Vec<FaultProxy>,
    dirs: Vec<TempDir>,
    gateways: Vec<Serving>,
    doors: Arc<[Mutex<SocketAddr>]>,
}

/// What a crowd was told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    granted: u64,
    sold_out: u64,
    limited: u64,
}

impl Rig {
    async fn start(stock: u64) -> Self {
        let redis = RedisServer::start(Keeps::Everything).unwrap();
        let (mut proxies, mut dirs, mut gateways) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..GATEWAYS {
            proxies.push(FaultProxy::start(redis.address()).unwrap());
            dirs.push(tempfile::tempdir().unwrap());
        }
        for (dir, proxy) in dirs.iter().zip(&proxies) {
            gateways.push(serve(dir, proxy).await);
        }
        let mut definition = sale(SALE, &[(CONSOLE, stock)]);
        definition["per_user_limit"] = json!(1);
        // None runs out while a long run lasts.
        definition["hold_seconds"] = json!(7_200);
        gateways[0].sell(&definition).await;
        for gateway in &gateways {
            gateway.sells().await;
        }
        let doors = gateways.iter().map(|gateway| Mutex::new(gateway.public)).collect();
        Self { redis, proxies, dirs, gateways, doors }
    }

    /// Lets `users` buyers in, over all connections; ends when each has an answer that is final, or when
    /// it is told that it is over.
    fn crowd(&self, users: u32) -> Crowd {
        self.slow_crowd(users, Duration::ZERO)
    }

    /// The same, where each connection rests between two buyers.
    fn slow_crowd(&self, users: u32, rest: Duration) -> Crowd {
        let over = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU32::new(0));
        let mut buyers = JoinSet::new();
        for connection in 0..CONNECTIONS {
            let (doors, over, next) =
                (Arc::clone(&self.doors), Arc::clone(&over), Arc::clone(&next));
            buyers.spawn(async move {
                let mut buyer = Buyer { doors, at: connection % GATEWAYS, client: None };
                let mut told = Told::default();
                loop {
                    let user = next.fetch_add(1, Ordering::Relaxed);
                    if user >= users || over.load(Ordering::Relaxed) {
                        return told;
                    }
                    buyer.visit(user, &mut told).await;
                    if !rest.is_zero() {
                        tokio::time::sleep(rest).await;
                    }
                }
            });
        }
        Crowd { over, buyers }
    }

    /// Commands whose answer was lost, in all gateways.
    async fn asked_again(&self) -> u64 {
        let mut all = 0.0;
        for gateway in &self.gateways {
            let lane = gateway.sale(SALE).await["lane"].clone();
            let series = format!("floodgate_ledger_asked_again_total{{lane=\"{lane}\"}}");
            all += gateway.metric(&series).await;
        }
        all as u64
    }

    /// Every gateway's books have what was told: each 201 once, and nothing else.
    async fn agrees(self, told: &Told) {
        for (gateway, dir) in self.gateways.into_iter().zip(&self.dirs) {
            gateway.settled().await;
            let [stock, available, held, _] = gateway.counters().await;
            assert_eq!((held, available + held), (told.granted, stock), "each 201 is a unit");
            gateway.stop();
            let report = audit_with(dir.path(), &["--redis-url", &self.redis.url()]);
            assert_eq!(report["sales"][0]["standing"], told.granted);
        }
    }
}

async fn serve(dir: &TempDir, proxy: &FaultProxy) -> Serving {
    let url = format!("redis://{}", proxy.address());
    Serving::start_with(dir.path(), &["--redis-url", &url]).await
}

struct Crowd {
    over: Arc<AtomicBool>,
    buyers: JoinSet<Told>,
}

impl Crowd {
    async fn join(self) -> Told {
        let mut all = Told::default();
        for told in self.buyers.join_all().await {
            all.granted += told.granted;
            all.sold_out += told.sold_out;
            all.limited += told.limited;
        }
        all
    }

    async fn end(self) -> Told {
        self.over.store(true, Ordering::Relaxed);
        self.join().await
    }
}

/// Somebody with a connection, who goes to the next gateway when one is gone.
struct Buyer {
    doors: Arc<[Mutex<SocketAddr>]>,
    at: usize,
    client: Option<Client>,
}

impl Buyer {
    /// One unit under a key, and for a few another one under another key.
    async fn visit(&mut self, user: u32, told: &mut Told) {
        let reply = self.until_final(user, "first").await;
        match code(&reply).as_deref() {
            None => told.granted += 1,
            Some("sold-out") => told.sold_out += 1,
            Some(other) => panic!("{other} for a first unit"),
        }
        if !user.is_multiple_of(GREEDY) {
            return;
        }
        let again = self.until_final(user, "second").await;
        match code(&again).as_deref() {
            Some("limit-reached") => told.limited += 1,
            Some("sold-out") => told.sold_out += 1,
            other => panic!("{other:?} for more than the limit"),
        }
    }

    async fn until_final(&mut self, user: u32, key: &str) -> Reply {
        let (path, user) = (format!("/v1/sales/{SALE}/reservations"), format!("user-{user}"));
        let headers = [
            (HeaderName::from_static("x-user-id"), user.as_str()),
            (HeaderName::from_static("idempotency-key"), key),
            (HeaderName::from_static("content-type"), "application/json"),
        ];
        let body = json!({ "item_id": CONSOLE, "quantity": 1 }).to_string();
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "{user} never has a final answer");
            let door = *self.doors[self.at].lock().unwrap();
            let client = self.client.take().filter(|client| client.addr() == door);
            let mut client = client.unwrap_or_else(|| Client::new(door));
            match client.request(Method::POST, &path, &headers, body.clone().into()).await {
                Ok(reply) if reply.status == 503 => self.client = Some(client),
                Ok(reply) => {
                    self.client = Some(client);
                    return reply;
                }
                Err(_) => self.at = (self.at + 1) % GATEWAYS,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The problem's code; `None` for a 201.
fn code(reply: &Reply) -> Option<String> {
    match reply.status {
        201 => None,
        409 => {
            let problem: Value = serde_json::from_slice(&reply.body).unwrap();
            Some(problem["code"].as_str().unwrap().to_owned())
        }
        other => panic!("{other}: {}", String::from_utf8_lossy(&reply.body)),
    }
}

/// Proves that gateways which share a Redis sell together exactly what there is, and nobody gets more
/// than they may have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn share_a_redis() {
    let users = 1_000 * rounds(4);
    let stock = u64::from(users) * 3 / 4;
    let rig = Rig::start(stock).await;
    let told = rig.crowd(users).join().await;
    println!("{told:?}");
    assert_eq!((told.granted, told.granted + told.sold_out + told.limited), {
        (stock, u64::from(users + users.div_ceil(GREEDY)))
    });
    assert!(told.limited > 0, "{told:?}");
    rig.agrees(&told).await;
}

/// Proves that with every fifth answer of Redis lost each request still ends in one answer that is
/// true: each outcome that was unknown is resolved, and is one reservation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lose_answers() {
    let users = 1_000 * rounds(2);
    let rig = Rig::start(1_000_000).await;
    rig.proxies.iter().for_each(|proxy| proxy.swallow_every(5));
    let told = rig.crowd(users).join().await;
    rig.proxies.iter().for_each(|proxy| proxy.swallow_every(0));
    let swallowed: u64 = rig.proxies.iter().map(FaultProxy::swallowed).sum();
    let unknown = rig.asked_again().await;
    println!("{told:?}; {swallowed} answers lost, {unknown} outcomes unknown and resolved");
    assert_eq!((told.granted, told.sold_out), (users.into(), 0));
    assert!(unknown > u64::from(users) / 10, "answers were lost: {unknown}");
    rig.agrees(&told).await;
}

/// Proves that gateways which are killed under load, one after the other, lose nothing that was told,
/// and that who was not told finds what they have at another gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn are_killed() {
    let kills = rounds(6);
    let mut rig = Rig::start(100_000_000).await;
    let crowd = rig.crowd(u32::MAX);
    for kill in 0..kills {
        let which = kill as usize % GATEWAYS;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..300))).await;
        rig.gateways.remove(which).kill();
        let gateway = serve(&rig.dirs[which], &rig.proxies[which]).await;
        *rig.doors[which].lock().unwrap() = gateway.public;
        rig.gateways.insert(which, gateway);
    }
    let told = crowd.end().await;
    println!("{kills} kills of gateways, {told:?}");
    assert!(told.granted > u64::from(kills), "there was load: {told:?}");
    rig.agrees(&told).await;
}

/// Proves that gateways which stand still for seconds, as machines do, and then go on with what they were
/// at, change nothing that was decided meanwhile, and lose nothing that was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn are_paused() {
    let pauses = rounds(4);
    let longest = if pauses > 4 { 10_000 } else { 1_500 };
    let rig = Rig::start(100_000_000).await;
    // What is sold in a long run has to be in the books a moment after its end.
    let crowd = rig.slow_crowd(u32::MAX, Duration::from_millis(200));
    let mut sleepers = JoinSet::new();
    // One of them is always awake.
    for which in 1..GATEWAYS {
        let pid = rig.gateways[which].pid();
        sleepers.spawn(async move {
            for _ in 0..pauses.div_ceil(GATEWAYS as u32 - 1) {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(100..600))).await;
                kill_process(pid, Signal::STOP).unwrap();
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1_000..=longest))).await;
                kill_process(pid, Signal::CONT).unwrap();
            }
        });
    }
    sleepers.join_all().await;
    let told = crowd.end().await;
    println!("{pauses} pauses of up to {longest} ms, {told:?}");
    assert!(told.granted > u64::from(pauses), "there was load: {told:?}");
    rig.agrees(&told).await;
}

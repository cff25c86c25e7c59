//! Backends that hang: they are waited for within bounds, then not at all, and used again once they are
//! back, without anybody's help.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use floodgate_loadtest::fault_proxy::FaultProxy;
use floodgate_loadtest::postgres_server::{PostgresServer, url_at};
use floodgate_loadtest::redis_server::{Keeps, RedisServer};
use serde_json::json;
use tokio::task::JoinSet;

use crate::binary::{Serving, audit_with};
use crate::patience::eventually;
use crate::request::{Answer, Call};
use crate::shop::{CONSOLE, Shop};

/// What "at once" may take on a machine that other tests keep busy.
const AT_ONCE: Duration = Duration::from_millis(300);
/// The longest that anybody waits, with the same allowance: `LEDGER_REPLY_MS` and `STORE_REPLY_MS`.
const AT_MOST: Duration = Duration::from_millis(2_000 + 700);
/// How many ask at once.
const CALLERS: u32 = 16;
/// Each asks again after this.
const PACE: Duration = Duration::from_millis(10);

/// One answer: when it was asked for, how long it took, and its code.
#[derive(Clone, Debug)]
struct Told {
    asked: Instant,
    took: Duration,
    status: u16,
    code: String,
}

/// Callers who ask and ask, whatever they are told.
struct Callers {
    over: Arc<AtomicBool>,
    told: Arc<Mutex<Vec<Told>>>,
    tasks: JoinSet<()>,
}

impl Callers {
    fn start(shop: &Shop, ask: fn(&Shop, u32) -> Call) -> Self {
        let (over, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = JoinSet::new();
        for caller in 0..CALLERS {
            let (shop, over, told) = (Shop::clone(shop), Arc::clone(&over), Arc::clone(&told));
            tasks.spawn(async move {
                for number in caller * 100_000.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let asked = Instant::now();
                    let answer = ask(&shop, number).send().await;
                    let (took, status) = (asked.elapsed(), answer.status);
                    told.lock().unwrap().push(Told { asked, took, status, code: answer.code() });
                    tokio::time::sleep(PACE).await;
                }
            });
        }
        Self { over, told, tasks }
    }

    /// Answers to whoever asked since then.
    fn since(&self, instant: Instant) -> Vec<Told> {
        let told = self.told.lock().unwrap();
        told.iter().filter(|told| told.asked >= instant).cloned().collect()
    }

    /// Waits for many answers to those who ask from now on.
    async fn many(&self) -> Vec<Told> {
        let now = Instant::now();
        eventually("many are answered", async || {
            Some(self.since(now)).filter(|told| told.len() >= 1_000)
        })
        .await
    }

    /// Waits until one is served who asks from now on: how long that took.
    async fn served(&self, status: u16) -> Duration {
        let began = Instant::now();
        eventually("somebody is served", async || {
            let told = self.since(began);
            let served = told.iter().filter(|told| told.status == status);
            served.map(|told| told.asked + told.took - began).min()
        })
        .await
    }

    /// Everything that was told.
    async fn end(self) -> Vec<Told> {
        self.over.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

/// All but a few were told at once, nobody waited for longer than anybody may, and nobody was served.
#[track_caller]
fn refused_at_once(told: &[Told], codes: &[&str]) {
    let slow = told.iter().filter(|told| told.took > AT_ONCE).count();
    assert!(slow * 10 < told.len(), "{slow} of {} were not told at once", told.len());
    for told in told {
        assert!(told.took < AT_MOST, "{told:?}");
        assert!(told.status == 503 && codes.contains(&told.code.as_str()), "{told:?}");
    }
}

/// Where a breaker is, as probes see it.
async fn breaker(shop: &Shop, backend: &str) -> String {
    let ready = shop.stranger("GET", "/readyz?verbose").send().await;
    ready.json()["breakers"][backend].as_str().unwrap().to_owned()
}

/// Kilobytes of memory that the process has.
fn rss_kb(gateway: &Serving) -> u64 {
    let pid = gateway.pid().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

fn reserve(shop: &Shop, number: u32) -> Call {
    shop.want(&format!("user-{number}"), CONSOLE, 1).key("k")
}

/// Proves that a Redis which hangs is waited for no longer than anybody waits, and soon not at all; that
/// who is refused then was granted nothing, while a key that may have been is told "unknown"; that
/// memory stays flat; and that it sells again within 2 s of Redis's return, by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(Keeps::Everything).unwrap();
    let url = redis.url();
    let gateway = Serving::start_with(dir.path(), &["--redis-url", &url]).await;
    gateway.sell_consoles(1_000_000).await;
    let mine = gateway.want("ann", CONSOLE, 1).key("k");
    let id = mine.clone().send().await.expect(201)["reservation_id"].clone();
    let look = gateway.call("GET", &format!("/v1/reservations/{}", id.as_str().unwrap()));
    let look = look.user("ann");
    let read = look.clone().send().await;
    assert_eq!(read.header("age"), None, "{read}");
    redis.freeze().unwrap();
    // Also to whoever is the first to find it gone.
    let first = look.clone().send().await;
    assert!(first.header("age").is_some(), "{first}");
    let callers = Callers::start(&gateway, reserve);
    eventually("the breaker opens", async || {
        (breaker(&gateway, "ledger").await != "closed").then_some(())
    })
    .await;
    let before = rss_kb(&gateway);
    let open = callers.many().await;
    // A probe may meet the worker that tries to look at the lane. An inbox that has one probe in it at a
    // time is never full.
    refused_at_once(&open, &["ledger-unavailable", "ledger-fenced", "outcome-unknown"]);
    let probes = open.iter().filter(|told| told.code == "outcome-unknown").count();
    assert!(probes * 10 < open.len(), "{probes} of {} were tried", open.len());
    mine.clone().send().await.refused(503, "outcome-unknown");
    let kept = look.clone().send().await;
    assert!(kept.header("age").is_some(), "{kept}");
    assert_eq!(kept.expect(200), read.expect(200));
    assert!(gateway.metric("floodgate_breaker_state{backend=\"ledger\"}").await >= 1.0);
    let opened = gateway.metric("floodgate_breaker_opened_total{backend=\"ledger\"}").await;
    assert_eq!(opened, 1.0, "there is one sale, so one lane is asked");
    let grown = rss_kb(&gateway).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} kB more, for {} answers", open.len());
    redis.thaw().unwrap();
    let back = callers.served(201).await;
    assert!(back < Duration::from_secs(2), "it took {back:?}");
    println!(
        "opened; {} answers while open, {probes} of them probes; back after {back:?}",
        open.len()
    );
    let told = callers.end().await;
    assert!(told.iter().all(|told| told.took < AT_MOST));
    let count = |code: &str| told.iter().filter(|told| told.code == code).count() as u64;
    let granted = told.iter().filter(|told| told.status == 201).count() as u64 + 1;
    assert_eq!(breaker(&gateway, "ledger").await, "closed");
    gateway.settled().await;
    let [_, _, held, _] = gateway.counters().await;
    let may_have = granted + count("outcome-unknown");
    assert!((granted..=may_have).contains(&held), "{held}: {granted} to {may_have}");
    let again = mine.send().await;
    assert!(again.replayed(), "{again}");
    gateway.stop();
    audit_with(dir.path(), &["--redis-url", &url]);
}

fn orders(shop: &Shop, number: u32) -> Call {
    shop.call("GET", "/v1/orders").user(&format!("user-{number}"))
}

/// Proves that a database which hangs is waited for no longer than anybody waits, and soon not at all;
/// that orders which were read lately are shown with their age, and nobody else's; that carts are not
/// changed then; that selling goes on; and that it is read again once it is back, by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), PostgresServer::start().unwrap());
    let proxy = FaultProxy::start(postgres.address()).unwrap();
    let url = url_at(proxy.address());
    let gateway = Serving::start_with(dir.path(), &["--database-url", &url]).await;
    gateway.sell_consoles(9).await;
    let id = gateway.hold("ann").await;
    let order = gateway.order("ann", &id).await;
    let show = |user: &str| gateway.call("GET", &format!("/v1/orders/{id}")).user(user);
    proxy.swallow_all(true);
    let callers = Callers::start(&gateway, orders);
    eventually("the breaker opens", async || {
        (breaker(&gateway, "store").await != "closed").then_some(())
    })
    .await;
    let open = callers.many().await;
    refused_at_once(&open, &["store-unavailable", "overloaded"]);
    let kept = show("ann").send().await;
    assert!(kept.header("age").is_some(), "{kept}");
    assert_eq!(kept.expect(200), order);
    let stranger = show("bob").send().await;
    assert_eq!(stranger.status, 503, "{stranger}");
    let put = gateway.call("PUT", &format!("/v1/cart/items/{CONSOLE}")).user("ann");
    let put = put.json(&json!({ "quantity": 2 }));
    eventually("a cart is refused at once", async || {
        let answer: Answer = put.clone().send().await;
        (answer.code() == "store-unavailable").then_some(())
    })
    .await;
    gateway.hold("cid").await;
    proxy.swallow_all(false);
    let back = callers.served(200).await;
    // A try that was under way is given up first, and its pause waited for.
    assert!(back < Duration::from_secs(5), "it took {back:?}");
    println!("{} answers while open; back after {back:?}", open.len());
    drop(callers.end().await);
    eventually("the breaker closes", async || {
        show("ann").send().await.header("age").is_none().then_some(())
    })
    .await;
    gateway.settled().await;
    gateway.stop();
    audit_with(dir.path(), &["--database-url", &url]);
}

//! Gateways over a real Redis: shared, killed, wiped, full, without scripts.

use std::path::Path;
use std::time::{Duration, Instant};

use floodgate_loadtest::fault_proxy::FaultProxy;
use floodgate_loadtest::redis_server::{Cluster, Keeps, RedisServer, Sentinels};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::binary::{Serving, audit_with, run_to};
use crate::crowd::{Crowd, buy, rounds};
use crate::patience::eventually;
use crate::shop::{CONSOLE, SALE, Shop, sale};

fn redis() -> RedisServer {
    RedisServer::start(Keeps::Everything).unwrap()
}

async fn serve(dir: &Path, redis: &RedisServer) -> Serving {
    Serving::start_with(dir, &["--redis-url", &redis.url()]).await
}

#[track_caller]
fn audit(dir: &Path, redis: &RedisServer) -> Value {
    audit_with(dir, &["--redis-url", &redis.url()])
}

/// One command to the server, as an operator would give it.
fn command(redis: &RedisServer, words: &[&str]) {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).exec(&mut connection).unwrap();
}

/// Proves the whole way over Redis: reserve, replay, pay, cancel, expire, order, cart, counters, audit.
#[tokio::test]
async fn a_sale_over_redis() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), redis());
    let gateway = serve(dir.path(), &redis).await;
    let mut definition = sale(SALE, &[(CONSOLE, 3)]);
    definition["hold_seconds"] = json!(2);
    gateway.sell(&definition).await;
    let first = gateway.want("ann", CONSOLE, 1).key("k").send().await.expect(201);
    assert_eq!(first["durability"], "fsync");
    let again = gateway.want("ann", CONSOLE, 1).key("k").send().await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(201), first);
    let id = first["reservation_id"].as_str().unwrap();
    gateway.pay(id, "p-1").await.expect(200);
    let cancelled = gateway.hold("bob").await;
    gateway.cancel("bob", &cancelled).await.expect(200);
    let expired = gateway.hold("cid").await;
    gateway.order_becomes("cid", &expired, "expired").await;
    gateway.order_becomes("ann", id, "paid").await;
    gateway.order_becomes("bob", &cancelled, "cancelled").await;
    assert_eq!(gateway.cart("ann").await["lines"][0]["reservation_id"], id);
    assert_eq!(gateway.counters().await, [3, 2, 0, 1]);
    gateway.settled().await;
    gateway.stop();
    let report = audit(dir.path(), &redis);
    assert_eq!(report["sales"][0]["items"][0]["confirmed"], 1);
}

/// Proves that gateways share what they decide: a sale that one creates is on the other within a second,
/// a key that one has seen is a replay on the other, and together they sell what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways() {
    let (dirs, redis) = ([tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()], redis());
    let first = serve(dirs[0].path(), &redis).await;
    let second = serve(dirs[1].path(), &redis).await;
    first.sell_consoles(100).await;
    let began = Instant::now();
    second.sells().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let told = first.want("ann", CONSOLE, 1).key("k").send().await.expect(201);
    let again = second.want("ann", CONSOLE, 1).key("k").send().await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(201), told);
    let (mut crowd, mut granted) = (JoinSet::new(), 1);
    for buyer in 0..8_u32 {
        let shop = Shop::clone(if buyer % 2 == 0 { &first } else { &second });
        crowd.spawn(async move { buy(shop, (0..30).map(|n| buyer * 1_000 + n)).await });
    }
    for (bought, _) in crowd.join_all().await {
        granted += bought;
    }
    assert_eq!(granted, 100);
    let sold_out = second.want("ann", CONSOLE, 1).key("k").send().await;
    assert_eq!(sold_out.expect(201), told, "a winner's retry is a replay, sold out or not");
    for (gateway, dir) in [(first, &dirs[0]), (second, &dirs[1])] {
        gateway.settled().await;
        gateway.stop();
        assert_eq!(audit(dir.path(), &redis)["sales"][0]["standing"], 100);
    }
}

/// Proves that a Redis that is killed under load, again and again, loses nothing that was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_under_load() {
    const BUYERS: u32 = 6;
    let rounds = rounds(8);
    let (dir, mut redis) = (tempfile::tempdir().unwrap(), redis());
    let gateway = serve(dir.path(), &redis).await;
    gateway.sell_consoles(1_000_000).await;
    let mut granted = 0;
    for round in 0..rounds {
        let crowd = Crowd::start(&gateway, BUYERS, round * BUYERS * 100_000);
        tokio::time::sleep(Duration::from_millis(100 + 40 * u64::from(round % 8))).await;
        redis.kill();
        redis.run().unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        granted += crowd.end().await;
    }
    assert!(granted > 100, "there was load: {granted}");
    println!("{rounds} kills of Redis, {granted} reservations");
    gateway.settled().await;
    let [stock, available, held, _] = gateway.counters().await;
    assert_eq!((held, available + held), (granted as u64, stock), "each asked for one, and has it");
    gateway.stop();
    assert_eq!(audit(dir.path(), &redis)["sales"][0]["standing"], granted);
}

/// Proves that a Redis that comes back empty, or with an older state, under load, is fenced, written
/// anew from the books, and oversells nothing: at the end exactly the stock stands in the books.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_forgets() {
    let rounds = rounds(4);
    let stock = 100 * rounds as usize;
    let (dir, mut redis) = (tempfile::tempdir().unwrap(), redis());
    let gateway = serve(dir.path(), &redis).await;
    gateway.sell_consoles(stock as u64).await;
    let mut told = 0;
    for round in 0..rounds {
        let mut crowd = JoinSet::new();
        for buyer in 0..4_u32 {
            let shop = Shop::clone(&gateway);
            let first = (round * 4 + buyer) * 1_000;
            crowd.spawn(async move { buy(shop, first..first + 15).await });
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
        if round % 2 == 0 {
            redis.run_empty().unwrap();
        } else {
            // An older state: as it is now, while more is sold on top of it.
            let older = tempfile::tempdir().unwrap();
            copy(redis.dir(), older.path());
            let shop = Shop::clone(&gateway);
            buy(shop, (900_000 + round * 100..).take(20)).await;
            gateway.settled().await;
            redis.kill();
            std::fs::remove_dir_all(redis.dir().join("appendonlydir")).unwrap();
            copy(older.path(), redis.dir());
            redis.run().unwrap();
        }
        for (bought, _) in crowd.join_all().await {
            told += bought;
        }
    }
    assert!(told > 0);
    let log = gateway.log().text();
    assert!(log.contains("the lane was written anew"), "{log}");
    let (_, refused) = buy(Shop::clone(&gateway), 500_000..500_000 + stock as u32).await;
    assert!(refused > 0, "it is sold out");
    gateway.settled().await;
    assert_eq!(gateway.counters().await, [stock as u64, 0, stock as u64, 0]);
    gateway.stop();
    assert_eq!(audit(dir.path(), &redis)["sales"][0]["standing"], stock);
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let into = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&into).unwrap();
            copy(&entry.path(), &into);
        } else {
            std::fs::copy(entry.path(), into).unwrap();
        }
    }
}

/// Proves that no request fails because Redis has thrown its scripts away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_are_flushed() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), redis());
    let gateway = serve(dir.path(), &redis).await;
    gateway.sell_consoles(10_000).await;
    let mut crowd = JoinSet::new();
    for buyer in 0..4_u32 {
        let shop = Shop::clone(&gateway);
        crowd.spawn(async move {
            for user in 0..150 {
                let user = format!("user-{buyer}-{user}");
                shop.want(&user, CONSOLE, 1).send().await.expect(201);
            }
        });
    }
    while crowd.try_join_next().is_none() {
        command(&redis, &["SCRIPT", "FLUSH"]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    crowd.join_all().await;
    assert_eq!(gateway.counters().await[2], 600);
    gateway.settled().await;
    gateway.stop();
    audit(dir.path(), &redis);
}

/// Proves that answers that are lost after Redis has served the question are resolved by asking again:
/// each request is one reservation, and none is left unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_lost() {
    const BUYERS: u32 = 8;
    let each = 10 * rounds(15);
    let (dir, redis) = (tempfile::tempdir().unwrap(), redis());
    let proxy = FaultProxy::start(redis.address()).unwrap();
    let url = format!("redis://{}", proxy.address());
    let gateway = Serving::start_with(dir.path(), &["--redis-url", &url]).await;
    gateway.sell_consoles(1_000_000).await;
    proxy.swallow_every(5);
    let mut crowd = JoinSet::new();
    for buyer in 0..BUYERS {
        let shop = Shop::clone(&gateway);
        let first = buyer * 100_000;
        crowd.spawn(async move { buy(shop, first..first + each).await });
    }
    let answers = crowd.join_all().await;
    proxy.swallow_every(0);
    let granted: usize = answers.iter().map(|(granted, _)| granted).sum();
    assert_eq!(granted, (BUYERS * each) as usize);
    assert!(proxy.swallowed() > 50, "{} answers were lost", proxy.swallowed());
    println!("{granted} reservations, {} answers were lost", proxy.swallowed());
    gateway.settled().await;
    let [stock, available, held, _] = gateway.counters().await;
    assert_eq!((held, available + held), (granted as u64, stock), "each has what they asked for");
    gateway.stop();
    assert_eq!(audit(dir.path(), &redis)["sales"][0]["standing"], granted);
}

/// Proves that a Redis without memory is refused before anything is written, and sells again after.
#[tokio::test]
async fn redis_is_full() {
    let (dir, redis) = (tempfile::tempdir().unwrap(), redis());
    let gateway = serve(dir.path(), &redis).await;
    gateway.sell_consoles(10).await;
    gateway.hold("ann").await;
    command(&redis, &["CONFIG", "SET", "maxmemory", "1"]);
    gateway.want("bob", CONSOLE, 1).send().await.refused(503, "ledger-unavailable");
    command(&redis, &["CONFIG", "SET", "maxmemory", "0"]);
    eventually("it sells again", async || {
        let answer = gateway.want("bob", CONSOLE, 1).send().await;
        (answer.status == 201).then_some(())
    })
    .await;
    assert_eq!(gateway.counters().await, [10, 8, 2, 0]);
    gateway.settled().await;
    gateway.stop();
    audit(dir.path(), &redis);
}

/// Proves that a gateway whose books do not explain what Redis has does not start, and writes nothing:
/// the gateway that the ledger belongs to finds it whole.
#[tokio::test]
async fn books_of_another_ledger() {
    let (dir, other, mut redis) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), redis());
    let gateway = serve(dir.path(), &redis).await;
    gateway.sell_consoles(10).await;
    let id = gateway.hold("ann").await;
    gateway.settled().await;
    gateway.stop();
    for lane in 0..4 {
        command(&redis, &["XTRIM", &format!("{{fg:{lane}}}:outbox"), "MAXLEN", "0"]);
    }
    redis.run().unwrap();
    let url = redis.url();
    let any = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--redis-url", &url];
    let strange = ["serve", "--data-dir", other.path().to_str().unwrap()];
    let (_, told) = run_to(64, &[&strange[..], &any].concat());
    assert!(told.contains("books"), "{told}");
    let lanes = ["--set", "ledger.lanes=2"];
    let (_, told) = run_to(64, &[&strange[..], &any, &lanes].concat());
    assert!(told.contains("ledger.lanes"), "{told}");
    // Nor are they compared with another one: of other lanes, or none at all.
    let (strangers, second) = (tempfile::tempdir().unwrap(), self::redis());
    let second_url = second.url();
    let two_lanes = [&["--redis-url", &second_url], &lanes[..]].concat();
    Serving::start_with(strangers.path(), &two_lanes).await.stop();
    let refused = |more: &[&str]| {
        let own = ["audit", "--data-dir", dir.path().to_str().unwrap()];
        let (_, told) = run_to(64, &[&own[..], more].concat());
        assert!(told.contains("another ledger (redis, ledger.lanes=4)"), "{told}");
        told
    };
    refused(&["--redis-url", &second_url]);
    refused(&two_lanes);
    refused(&["--redis-url", &url, "--set", "ledger.lanes=2"]);
    assert!(refused(&[]).contains("REDIS_URL"));
    let gateway = serve(dir.path(), &redis).await;
    gateway.look("ann", &id).await.expect(200);
    assert_eq!(gateway.counters().await, [10, 9, 1, 0]);
    gateway.stop();
    audit(dir.path(), &redis);
}

/// Proves that a gateway does not start on a Redis that cannot keep what it would promise, and says
/// what to change; and that one which is not there is an unavailable dependency.
#[test]
fn an_unfit_redis() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let any = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data-dir", data];
    let mut unfit = RedisServer::start(Keeps::Nothing).unwrap();
    let url = unfit.url();
    let serve = [&["serve", "--redis-url", &url], &any[..]].concat();
    let (_, told) = run_to(64, &serve);
    assert!(told.contains("appendonly yes"), "{told}");
    command(&unfit, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let (_, told) = run_to(64, &[&serve[..], &["--set", "durability=memory"]].concat());
    assert!(told.contains("noeviction"), "{told}");
    command(&unfit, &["CONFIG", "SET", "appendfsync", "everysec"]);
    let doctor = ["doctor", "--json", "--data-dir", data, "--redis-url", &url];
    let report: Value = serde_json::from_str(&run_to(1, &doctor).0).unwrap();
    let state = |name: &str| -> Value {
        let mut checks = report["checks"].as_array().unwrap().iter();
        checks.find(|check| check["name"] == name).unwrap()["state"].clone()
    };
    for fine in ["Redis", "Redis version", "Redis no-appendfsync-on-rewrite"] {
        assert_eq!(state(fine), "ok", "{fine}: {report}");
    }
    // Every fault, not the first alone.
    for wrong in ["Redis maxmemory-policy", "Redis appendonly", "Redis appendfsync"] {
        assert_eq!(state(wrong), "failing", "{wrong}: {report}");
    }
    unfit.kill();
    let (_, told) = run_to(4, &serve);
    assert!(told.contains("Redis"), "{told}");
    run_to(4, &doctor);
    let fit = redis();
    let url = fit.url();
    let serve = [&["serve", "--redis-url", &url], &any[..]].concat();
    let (_, told) = run_to(64, &[&serve[..], &["--set", "durability=replicated"]].concat());
    assert!(told.contains("replicas"), "{told}");
}

/// Proves that sales go on behind sentinels when the primary dies, and that what was told at
/// `replicated` is on the new one, or is counted as lost; nothing is sold twice either way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_dies() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = tokio::task::spawn_blocking(Sentinels::start).await.unwrap().unwrap();
    let url = rig.url();
    let settings = ["--redis-url", &url, "--set", "durability=replicated"];
    let gateway = Serving::start_with(dir.path(), &settings).await;
    gateway.sell_consoles(1_000_000).await;
    let first = gateway.want("ann", CONSOLE, 1).send().await.expect(201);
    assert_eq!(first["durability"], "replicated");
    let mut granted = 1;
    let failovers = rounds(2);
    for round in 0..failovers {
        let crowd = Crowd::start(&gateway, 4, round * 1_000_000);
        tokio::time::sleep(Duration::from_millis(300)).await;
        rig.primary().unwrap().kill();
        sells_again(&gateway, round).await;
        granted += 1 + crowd.end().await;
        for server in &mut rig.servers {
            // The one that died comes back, and is told whom to follow.
            if server.ask("PING").is_err() {
                server.run().unwrap();
            }
        }
        eventually("the replicas follow", async || (rig.primary()?.replicas() == 2).then_some(()))
            .await;
    }
    println!("{failovers} failovers: {}", lost(&gateway, granted as u64).await);
    gateway.settled().await;
    let [stock, available, held, _] = gateway.counters().await;
    assert_eq!((held, available + held), (granted as u64, stock), "nothing told is lost");
    gateway.stop();
    assert_eq!(audit_with(dir.path(), &["--redis-url", &url])["sales"][0]["standing"], granted);
}

/// What the gateway counts as lost, beside what is there.
async fn lost(gateway: &Serving, granted: u64) -> String {
    let lane = gateway.sale(SALE).await["lane"].clone();
    let series = format!("floodgate_ledger_lost_events_total{{lane=\"{lane}\"}}");
    let counted = gateway.metric(&series).await;
    let [_, _, held, _] = gateway.counters().await;
    format!("{granted} told, {held} there, {counted} events counted as lost")
}

/// Waits until somebody gets a unit who asked after the fault.
async fn sells_again(gateway: &Serving, round: u32) {
    eventually("it sells again", async || {
        let answer = gateway.want(&format!("late-{round}"), CONSOLE, 1).key("k").send().await;
        (answer.status == 201).then_some(())
    })
    .await;
}

/// Proves that lanes live on a cluster and go on when the master of one dies; what its replica had not
/// got may be lost at `fsync`, and is not sold twice for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_loses_a_master() {
    a_master_dies("fsync").await;
}

/// Proves the same at `replicated`, where what was told is on the replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_what_is_replicated() {
    for _ in 0..rounds(1) {
        let (told, there) = a_master_dies("replicated").await;
        assert_eq!(there, told, "nothing told is lost");
    }
}

/// How many units were told of, and how many are there.
async fn a_master_dies(durability: &str) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap().unwrap();
    let url = cluster.url();
    let durability = format!("durability={durability}");
    let settings = ["--redis-url", &url, "--set", &durability];
    let gateway = Serving::start_with(dir.path(), &settings).await;
    gateway.sell_consoles(1_000_000).await;
    let lane = gateway.sale(SALE).await["lane"].as_u64().unwrap();
    let crowd = Crowd::start(&gateway, 4, 0);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let outbox = format!("{{fg:{lane}}}:outbox");
    let owner = cluster.owner(&outbox).unwrap();
    let died = owner.address();
    owner.kill();
    eventually("its replica leads", async || {
        cluster.owner(&outbox).filter(|owner| owner.address() != died).map(|_| ())
    })
    .await;
    // It comes back, and follows: without a replica nothing is promised as replicated.
    let dead = cluster.servers.iter_mut().find(|server| server.address() == died);
    dead.unwrap().run().unwrap();
    sells_again(&gateway, 0).await;
    let granted = 1 + crowd.end().await as u64;
    println!("a master died, {durability}: {}", lost(&gateway, granted).await);
    gateway.settled().await;
    let [stock, available, held, _] = gateway.counters().await;
    assert!(held <= granted && available + held == stock, "{held} of {granted} are there");
    gateway.stop();
    assert_eq!(audit_with(dir.path(), &["--redis-url", &url])["sales"][0]["standing"], held);
    (granted, held)
}

/// Proves that Redis is spoken to in the dark, and only where it is the one that it says it is.
#[tokio::test]
async fn encrypted() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = keys.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(&path, text).unwrap();
        path
    };
    let root = file("root.pem", certified.cert.pem());
    let key = file("key.pem", certified.signing_key.serialize_pem());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tls = [
        ["--tls-port", &port.to_string()],
        ["--tls-cert-file", &root],
        ["--tls-key-file", &key],
        ["--tls-ca-cert-file", &root],
        ["--tls-auth-clients", "no"],
    ];
    let _redis = RedisServer::start_with(Keeps::Everything, tls.as_flattened()).unwrap();
    let url = format!("rediss://localhost:{port}");
    let arguments = ["--redis-url", &url];
    let trusted = [("SSL_CERT_FILE", root.as_str())];
    let gateway = Serving::start_in(dir.path(), &arguments, &trusted).await;
    gateway.sell_consoles(1).await;
    let id = gateway.hold("ann").await;
    gateway.order("ann", &id).await;
    gateway.stop();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let data = ["--data-dir", dir.path().to_str().unwrap()];
    let (_, told) = run_to(4, &[&serve[..], &data, &arguments].concat());
    assert!(told.contains("Redis"), "{told}");
}

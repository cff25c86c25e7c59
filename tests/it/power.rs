//! Power cuts: gateway and Redis on a disk that forgets what was not synced.

use std::time::Duration;

use floodgate_loadtest::buyers::{self, Control, CrowdPlan, Habits};
use floodgate_loadtest::history::History;
use floodgate_loadtest::oracle::{self, Scope};
use floodgate_loadtest::redis_server::{Keeps, RedisServer};

use crate::binary::{Serving, audit_with};
use crate::forgetful_disk::{ForgetfulDisk, Survives};
use crate::patience::PATIENCE;
use crate::patience::eventually;
use crate::shop::{CONSOLE, GAME, SALE, sale};

/// Cuts, unless `FLOODGATE_CRASH_ROUNDS` says otherwise.
const CUTS: u64 = 5;
const USERS_PER_CUT: u64 = 1_000_000;

fn cuts() -> u64 {
    std::env::var("FLOODGATE_CRASH_ROUNDS").map_or(CUTS, |cuts| cuts.parse().unwrap())
}

fn crowd(gateway: &Serving, cut: u64) -> CrowdPlan {
    CrowdPlan {
        ops: Some(gateway.access()),
        first_user: cut * USERS_PER_CUT,
        seed: cut,
        connections: 24,
        habits: Habits { cancel_ratio: 0.2, confirm_ratio: 0.6, ..Habits::default() },
        settle: false,
        stop_on_disconnect: true,
        ..CrowdPlan::new(gateway.public, SALE, &[CONSOLE, GAME], USERS_PER_CUT)
    }
}

/// Buys until `cut` has happened, which ends the gateway.
async fn buy_until(gateway: &Serving, number: u64, cut: impl FnOnce()) -> History {
    let plan = crowd(gateway, number);
    let control = Control::default();
    let stop = control.stop.clone();
    let buys = tokio::spawn(async move { buyers::run(&plan, control).await });
    tokio::time::sleep(Duration::from_millis(fastrand::u64(30..300))).await;
    cut();
    stop.set();
    let report = buys.await.unwrap().unwrap();
    assert_eq!(report.anomalies, Vec::<String>::new());
    report.history
}

async fn resolve(gateway: &Serving, number: u64, seen: &mut History) {
    let plan = CrowdPlan { stop_on_disconnect: false, ..crowd(gateway, number) };
    let found = buyers::resolve(seen, &plan, Control::default()).await.unwrap();
    assert_eq!((found.unresolved, &*found.anomalies), (0, &[] as &[String]));
}

async fn judge(gateway: Serving, dir: &std::path::Path, all: &History, more: &[&str]) {
    let scope = Scope { complete: true, ..Scope::default() };
    // A power cut may have been the lane's last word: it is looked at again first.
    eventually("the lane is open", async || {
        let sale = gateway.admin("GET", &format!("/admin/v1/sales/{SALE}"));
        (sale.send().await.status == 200).then_some(())
    })
    .await;
    let access = gateway.access();
    let verdict = oracle::examine(&access, dir, SALE, all, scope, PATIENCE).await.unwrap();
    assert!(verdict.ok, "{verdict}");
    gateway.stop();
    audit_with(dir, more);
}

/// Proves that what an embedded gateway told survives the loss of power, whatever of the unsynced reaches
/// the disk: journal and books open again, and nothing that was told is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_gateway_loses_its_power() {
    let mut disk = ForgetfulDisk::mount();
    let dir = disk.path().join("data");
    let mut gateway = Serving::start(&dir).await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 100_000_000), (GAME, 100_000_000)])).await;
    let mut all = History::new();
    for cut in 0..cuts() {
        let mut seen = buy_until(&gateway, cut, || disk.power_off()).await;
        gateway.kill();
        disk.power_on(Survives::Any);
        gateway = Serving::start(&dir).await;
        resolve(&gateway, cut, &mut seen).await;
        all.append(seen);
    }
    println!("{} cuts, {} syncs, {:?}", cuts(), disk.syncs(), all.outcomes());
    assert!(all.outcomes().get("reserved").is_some_and(|granted| *granted > cuts()));
    judge(gateway, &dir, &all, &[]).await;
}

/// Proves the same of a Redis that syncs every write before it answers; the gateway stays up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_loses_its_power() {
    let mut disk = ForgetfulDisk::mount();
    let files = disk.path().join("redis");
    std::fs::create_dir(&files).unwrap();
    let arguments = ["--dir", files.to_str().unwrap()];
    let mut redis = RedisServer::start_with(Keeps::Everything, &arguments).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let url = redis.url();
    let gateway = Serving::start_with(dir.path(), &["--redis-url", &url]).await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 100_000_000), (GAME, 100_000_000)])).await;
    let mut all = History::new();
    for cut in 0..cuts() {
        let mut seen = buy_until(&gateway, cut, || {
            disk.power_off();
            redis.kill();
        })
        .await;
        disk.power_on(Survives::AFew);
        redis.run().unwrap();
        resolve(&gateway, cut, &mut seen).await;
        all.append(seen);
    }
    println!("{} cuts, {} syncs, {:?}", cuts(), disk.syncs(), all.outcomes());
    assert!(all.outcomes().get("reserved").is_some_and(|granted| *granted > cuts()));
    judge(gateway, dir.path(), &all, &["--redis-url", &url]).await;
}

/// Proves that the beginning of a transaction, left in the file by a cut, does not come back with the start
/// after the next: nobody was told of it, and what was told since stands behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_transaction_does_not_come_back() {
    let mut redis = RedisServer::start(Keeps::Everything).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let url = redis.url();
    let gateway = Serving::start_with(dir.path(), &["--redis-url", &url]).await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 100_000_000), (GAME, 100_000_000)])).await;
    let mut all = History::new();
    for life in 0..3 {
        let plan = CrowdPlan {
            users: 100,
            first_user: life * 100,
            connections: 8,
            stop_on_disconnect: false,
            ..crowd(&gateway, life)
        };
        let mut report = buyers::run(&plan, Control::default()).await.unwrap();
        resolve(&gateway, life, &mut report.history).await;
        all.append(report.history);
        redis.kill();
        if life == 0 {
            tear(&redis);
        }
        redis.run().unwrap();
    }
    assert!(all.outcomes().get("reserved").is_some_and(|granted| *granted > 100));
    judge(gateway, dir.path(), &all, &["--redis-url", &url]).await;
}

/// Cuts the last write of a Redis that is not running short, within a transaction and within a command of it.
fn tear(redis: &RedisServer) {
    let files = redis.dir().join("appendonlydir");
    let last = std::fs::read_dir(files).unwrap().map(|entry| entry.unwrap().path());
    let last = last.filter(|path| path.to_string_lossy().ends_with(".incr.aof")).max().unwrap();
    let mut torn = String::from("*1\r\n$5\r\nMULTI\r\n");
    for lane in 0..4 {
        // Behind everything: what follows it in the stream would be refused.
        torn +=
            &format!("*9\r\n$4\r\nXADD\r\n$13\r\n{{fg:{lane}}}:outbox\r\n$12\r\n9999999999-1\r\n");
        torn += "$1\r\nn\r\n$1\r\n1\r\n$1\r\nt\r\n$1\r\n1\r\n$1\r\ne\r\n$1\r\nx\r\n";
    }
    torn += "*3\r\n$4\r\nHDEL\r\n$11\r\n";
    let mut file = std::fs::OpenOptions::new().append(true).open(last).unwrap();
    std::io::Write::write_all(&mut file, torn.as_bytes()).unwrap();
}

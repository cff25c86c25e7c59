//! Power cuts: gateway and Redis on a disk that forgets what was not synced.

use std::time::Duration;

use floodgate_loadtest::buyers::{self, CrowdPlan, Habits};
use floodgate_loadtest::history::{History, Level};
use floodgate_loadtest::redis_server::{Keeps, RedisServer};

use crate::binary::{Serving, audit_with};
use crate::case::{Case, books_in};
use crate::crowd::rounds;
use crate::forgetful_disk::{ForgetfulDisk, Survives};
use crate::patience::eventually;
use crate::shop::{CONSOLE, GAME, SALE, sale};

/// Cuts, unless `FLOODGATE_CRASH_ROUNDS` says otherwise.
const CUTS: u32 = 5;
const USERS_PER_CUT: u64 = 1_000_000;

fn crowd(gateway: &Serving, cut: u64, seed: u64) -> CrowdPlan {
    CrowdPlan {
        ops: Some(gateway.access()),
        first_user: cut * USERS_PER_CUT,
        seed: seed ^ cut,
        connections: 24,
        habits: Habits { cancel_ratio: 0.2, confirm_ratio: 0.6, ..Habits::default() },
        settle: false,
        stop_on_disconnect: true,
        ..CrowdPlan::new(gateway.public, SALE, &[CONSOLE, GAME], USERS_PER_CUT)
    }
}

/// Buys until `cut` has happened, which ends the gateway.
async fn buy_until(gateway: &Serving, number: u64, case: &mut Case, cut: impl FnOnce()) -> History {
    let plan = crowd(gateway, number, case.seed);
    let control = case.control();
    let stop = control.stop.clone();
    let buys = tokio::spawn(async move { buyers::run(&plan, control).await });
    tokio::time::sleep(Duration::from_millis(case.rng.u64(30..300))).await;
    cut();
    stop.set();
    let report = buys.await.unwrap().unwrap();
    assert_eq!(report.anomalies, Vec::<String>::new());
    report.history
}

async fn judge(gateway: Serving, dir: &std::path::Path, case: &Case, more: &[&str]) {
    // A power cut may have been the lane's last word: it is looked at again first.
    eventually("the lane is open", async || {
        let sale = gateway.admin("GET", &format!("/admin/v1/sales/{SALE}"));
        (sale.send().await.status == 200).then_some(())
    })
    .await;
    case.judge(&gateway, &books_in(dir), Level::Fsync).await;
    gateway.stop();
    audit_with(dir, more);
}

/// Whether the power goes between a write and its sync, or anywhere. The first cut is one of those, and nothing
/// survives it: so a run has dropped something.
fn is_at_sync(cut: u64, case: &mut Case) -> bool {
    cut == 0 || case.rng.bool()
}

fn power_off(disk: &ForgetfulDisk, at_sync: bool) {
    if at_sync {
        disk.power_off_at_sync();
    } else {
        disk.power_off();
    }
}

/// There was load, and the cuts took something: a disk that loses nothing would prove nothing.
fn tell(cuts: u64, disk: &ForgetfulDisk, case: &Case) {
    let (outcomes, lost) = (case.history().outcomes(), disk.lost());
    println!("{cuts} cuts, {} syncs, {lost:?} lost, {outcomes:?}", disk.syncs());
    assert!(outcomes.get("reserved").is_some_and(|granted| *granted > cuts), "{outcomes:?}");
    assert!(lost.dropped > 0, "{lost:?}");
}

/// Proves that what an embedded gateway told survives the loss of power, whatever of the unsynced reaches
/// the disk: journal and books open again, and nothing that was told is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_gateway_loses_its_power() {
    let mut case = Case::new("an_embedded_gateway_loses_its_power");
    let (mut disk, cuts) = (ForgetfulDisk::mount(), u64::from(rounds(CUTS)));
    let dir = disk.path().join("data");
    let mut gateway = Serving::start(&dir).await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 100_000_000), (GAME, 100_000_000)])).await;
    for cut in 0..cuts {
        let at_sync = is_at_sync(cut, &mut case);
        let seen = buy_until(&gateway, cut, &mut case, || power_off(&disk, at_sync)).await;
        gateway.kill();
        let survives = if cut == 0 { Survives::Nothing } else { Survives::Any };
        disk.power_on(survives, &mut case.rng);
        gateway = Serving::start(&dir).await;
        case.resolve(seen, &crowd(&gateway, cut, case.seed)).await;
    }
    tell(cuts, &disk, &case);
    judge(gateway, &dir, &case, &[]).await;
}

/// Proves the same of a Redis that syncs every write before it answers; the gateway stays up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_loses_its_power() {
    let mut case = Case::new("a_redis_loses_its_power");
    let (mut disk, cuts) = (ForgetfulDisk::mount(), u64::from(rounds(CUTS)));
    let files = disk.path().join("redis");
    std::fs::create_dir(&files).unwrap();
    let arguments = ["--dir", files.to_str().unwrap()];
    let mut redis = RedisServer::start_with(Keeps::Everything, &arguments).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let url = redis.url();
    let gateway = Serving::start_with(dir.path(), &["--redis-url", &url]).await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 100_000_000), (GAME, 100_000_000)])).await;
    for cut in 0..cuts {
        let at_sync = is_at_sync(cut, &mut case);
        let seen = buy_until(&gateway, cut, &mut case, || {
            power_off(&disk, at_sync);
            redis.kill();
        })
        .await;
        let survives = if cut == 0 { Survives::Nothing } else { Survives::AFew };
        disk.power_on(survives, &mut case.rng);
        redis.run().unwrap();
        case.resolve(seen, &crowd(&gateway, cut, case.seed)).await;
    }
    tell(cuts, &disk, &case);
    judge(gateway, dir.path(), &case, &["--redis-url", &url]).await;
}

/// Proves that the beginning of a transaction, left in the file by a cut, does not come back with the start
/// after the next: nobody was told of it, and what was told since stands behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_transaction_does_not_come_back() {
    let mut case = Case::new("half_a_transaction_does_not_come_back");
    let mut redis = RedisServer::start(Keeps::Everything).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let url = redis.url();
    let gateway = Serving::start_with(dir.path(), &["--redis-url", &url]).await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 100_000_000), (GAME, 100_000_000)])).await;
    for life in 0..3 {
        let plan = CrowdPlan {
            users: 100,
            first_user: life * 100,
            connections: 8,
            stop_on_disconnect: false,
            ..crowd(&gateway, life, case.seed)
        };
        let report = buyers::run(&plan, case.control()).await.unwrap();
        case.resolve(report.history, &plan).await;
        redis.kill();
        if life == 0 {
            tear(&redis);
        }
        redis.run().unwrap();
    }
    assert!(case.history().outcomes().get("reserved").is_some_and(|granted| *granted > 100));
    judge(gateway, dir.path(), &case, &["--redis-url", &url]).await;
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

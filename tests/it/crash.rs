//! The program killed with SIGKILL, again and again: nothing that was told is lost, nothing is sold
//! twice, no unit leaks.
//!
//! `FLOODGATE_CRASH_ROUNDS` makes more rounds of it; `FLOODGATE_CRASH_SEED` repeats a run's
//! choices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use floodgate_loadtest::buyers::{self, Control, CrowdPlan, Habits};
use floodgate_loadtest::history::{History, Level};
use floodgate_loadtest::oracle::{BooksAt, Inquiry, Run, Scope, examine_or_report};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::binary::{Serving, audit};
use crate::patience::PATIENCE;
use crate::shop::{CONSOLE, GAME, SALE, sale};

const ROUNDS: u64 = 50;
/// More buyers than can be served in one round: every kill is in the middle of something.
const USERS_PER_ROUND: u64 = 1_000_000;
const LOAD_MS: std::ops::Range<u64> = 50..400;
const CONNECTIONS: std::ops::Range<usize> = 32..65;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Says how to repeat a run that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat this with FLOODGATE_CRASH_SEED={}", self.0);
        }
    }
}

/// The crowd of a round: names that nobody had before, and every habit of broken clients.
fn crowd(gateway: &Serving, round: u64, seed: u64) -> CrowdPlan {
    CrowdPlan {
        ops: Some(gateway.access()),
        first_user: round * USERS_PER_ROUND,
        seed: seed ^ round,
        habits: Habits { cancel_ratio: 0.2, confirm_ratio: 0.6, ..Habits::default() },
        settle: false,
        stop_on_disconnect: true,
        ..CrowdPlan::new(gateway.public, SALE, &[CONSOLE, GAME], USERS_PER_ROUND)
    }
}

/// Loads the gateway for a while, kills it in the middle, and returns what the crowd saw.
async fn load_and_kill(gateway: Serving, plan: CrowdPlan, load: Duration) -> History {
    let crowd = tokio::spawn(async move { buyers::run(&plan, Control::default()).await });
    tokio::time::sleep(load).await;
    gateway.kill();
    let report = crowd.await.unwrap().unwrap();
    assert_eq!(report.anomalies, Vec::<String>::new());
    assert!(report.stopped, "the crowd noticed");
    report.history
}

/// Asks again for everything in `history` whose outcome is unknown.
async fn resolve(gateway: &Serving, history: &mut History, seed: u64) {
    let plan = CrowdPlan { stop_on_disconnect: false, ..crowd(gateway, 0, seed) };
    let resolution = buyers::resolve(history, &plan, Control::default()).await.unwrap();
    assert_eq!(resolution.anomalies, Vec::<String>::new());
    assert_eq!(resolution.unresolved, 0, "{resolution:?}");
}

/// Proves that after any number of kills under load clients, ledger and books agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load() {
    let seed = Seed(setting("FLOODGATE_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..)));
    let rounds = setting("FLOODGATE_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let mut rng = fastrand::Rng::with_seed(seed.0);
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Serving::start(dir.path()).await;
    let mut definition = sale(SALE, &[(CONSOLE, 100_000_000), (GAME, 100_000_000)]);
    definition["per_user_limit"] = json!(2);
    gateway.sell(&definition).await;
    let mut all = History::new();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let mut plan = crowd(&gateway, round, seed.0);
        plan.connections = rng.usize(CONNECTIONS);
        let load = Duration::from_millis(rng.u64(LOAD_MS));
        let mut seen = load_and_kill(gateway, plan, load).await;
        let began = Instant::now();
        gateway = Serving::start(dir.path()).await;
        slowest = slowest.max(began.elapsed());
        resolve(&gateway, &mut seen, seed.0).await;
        all.append(seen);
    }
    let granted = all.outcomes().get("reserved").copied().unwrap_or(0);
    assert!(granted > rounds, "there was load: {:?}", all.outcomes());
    let scope = Scope { complete: true, level: Some(Level::Fsync), ..Scope::default() };
    let access = gateway.access();
    let books = BooksAt::Sqlite(dir.path().join("store.db"));
    let (ops, books, history) = (&access, &books, &all);
    let inquiry = Inquiry { ops, books, sale: SALE, history, scope, within: PATIENCE };
    let run = Run::new(seed.0, format_args!("FLOODGATE_CRASH_SEED={} {rounds} rounds", seed.0));
    let verdict = examine_or_report(run, &inquiry).await.unwrap_or_else(|told| panic!("{told}"));
    assert!(verdict.lines.searched > 0, "{verdict}");
    audit_beside(dir.path());
    gateway.stop();
    let report = audit(dir.path());
    assert!(report["sales"][0]["orders"].as_u64().unwrap() >= granted, "{report}");
    println!("{rounds} kills, ready again after {slowest:?} at most, {:?}", all.outcomes());
}

/// The audit works beside a running gateway.
fn audit_beside(dir: &Path) {
    crate::binary::run_to(0, &["audit", "--data-dir", dir.to_str().unwrap()]);
}

/// Sends a request and returns its answer's head and body as soon as it is whole, by a client that
/// does nothing else in between.
fn reserve_and_kill(gateway: &Serving, user: &str) -> Value {
    let body = json!({ "item_id": CONSOLE, "quantity": 1 }).to_string();
    let request = format!(
        "POST /v1/sales/{SALE}/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: {user}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(gateway.public).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let pid = gateway.pid();
    stream.write_all(request.as_bytes()).unwrap();
    let mut came = vec![0; "HTTP/1.1 201".len()];
    stream.read_exact(&mut came).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    assert_eq!(came, b"HTTP/1.1 201", "{}", String::from_utf8_lossy(&came));
    // What the kernel has taken over still arrives.
    let mut rest = String::new();
    let _ = stream.read_to_string(&mut rest);
    let (_, body) = rest.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

/// Proves that every 201 survives a SIGKILL that comes as soon as its first bytes are read.
#[tokio::test]
async fn every_201_survives_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Serving::start(dir.path()).await;
    gateway.sell_consoles(ROUNDS).await;
    for round in 0..ROUNDS {
        let user = format!("user-{round}");
        let granted = reserve_and_kill(&gateway, &user);
        assert!(!{ gateway.wait() }.success());
        gateway = Serving::start(dir.path()).await;
        let id = granted["reservation_id"].as_str().unwrap();
        assert_eq!(gateway.look(&user, id).await.expect(200), granted);
        let order = gateway.order(&user, id).await;
        assert_eq!(order["created_at"], granted["held_at"]);
    }
    assert_eq!(gateway.counters().await, [ROUNDS, 0, ROUNDS, 0]);
    gateway.stop();
    audit(dir.path());
}

/// Proves that a hold that ran out while the program was dead is over after its return, and that
/// its unit sells.
#[tokio::test]
async fn holds_end_over_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start(dir.path()).await;
    let mut definition = sale(SALE, &[(CONSOLE, 1)]);
    definition["hold_seconds"] = json!(1);
    gateway.sell(&definition).await;
    let granted = gateway.want("ann", CONSOLE, 1).send().await.expect(201);
    gateway.kill();
    let ends = granted["expires_at"].as_str().unwrap();
    let ends = floodgate::clock::Millis::parse_rfc3339(ends).unwrap();
    crate::windows::wait_until(ends.0).await;
    let gateway = Serving::start(dir.path()).await;
    gateway.hold_in_time("bob").await;
    let id = granted["reservation_id"].as_str().unwrap();
    gateway.order_becomes("ann", id, "expired").await;
    gateway.stop();
    audit(dir.path());
}

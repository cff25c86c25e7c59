//! The program killed with SIGKILL, again and again: nothing that was told is lost, nothing is sold
//! twice, no unit leaks.
//!
//! `FLOODGATE_CRASH_ROUNDS` makes more rounds of it; `FLOODGATE_CRASH_SEED` repeats a run's
//! choices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use floodgate_loadtest::buyers::{self, CrowdPlan, Habits};
use floodgate_loadtest::history::{History, Level};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::binary::{Serving, audit};
use crate::case::{Case, books_in};
use crate::crowd::rounds;
use crate::patience::PATIENCE;
use crate::shop::{CONSOLE, GAME, SALE, sale};

const ROUNDS: u32 = 50;
/// More buyers than can be served in one round: every kill is in the middle of something.
const USERS_PER_ROUND: u64 = 1_000_000;
const LOAD_MS: std::ops::Range<u64> = 50..400;
const CONNECTIONS: std::ops::Range<usize> = 32..65;

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
async fn load_and_kill(gateway: Serving, plan: CrowdPlan, load: Duration, case: &Case) -> History {
    let control = case.control();
    let crowd = tokio::spawn(async move { buyers::run(&plan, control).await });
    tokio::time::sleep(load).await;
    gateway.kill();
    let report = crowd.await.unwrap().unwrap();
    assert_eq!(report.anomalies, Vec::<String>::new());
    assert!(report.stopped, "the crowd noticed");
    report.history
}

/// Proves that after any number of kills under load clients, ledger and books agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load() {
    let mut case = Case::new("killed_under_load");
    let rounds = u64::from(rounds(ROUNDS));
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Serving::start(dir.path()).await;
    let mut definition = sale(SALE, &[(CONSOLE, 100_000_000), (GAME, 100_000_000)]);
    definition["per_user_limit"] = json!(2);
    gateway.sell(&definition).await;
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let mut plan = crowd(&gateway, round, case.seed);
        plan.connections = case.rng.usize(CONNECTIONS);
        let load = Duration::from_millis(case.rng.u64(LOAD_MS));
        let seen = load_and_kill(gateway, plan, load, &case).await;
        let began = Instant::now();
        gateway = Serving::start(dir.path()).await;
        slowest = slowest.max(began.elapsed());
        case.resolve(seen, &crowd(&gateway, 0, case.seed)).await;
    }
    let outcomes = case.history().outcomes();
    let granted = outcomes.get("reserved").copied().unwrap_or(0);
    assert!(granted > rounds, "there was load: {outcomes:?}");
    case.judge(&gateway, &books_in(dir.path()), Level::Fsync).await;
    audit_beside(dir.path());
    gateway.stop();
    let report = audit(dir.path());
    assert!(report["sales"][0]["orders"].as_u64().unwrap() >= granted, "{report}");
    println!("{rounds} kills, ready again after {slowest:?} at most, {outcomes:?}");
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
    gateway.sell_consoles(ROUNDS.into()).await;
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
    assert_eq!(gateway.counters().await, [ROUNDS, 0, ROUNDS, 0].map(u64::from));
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

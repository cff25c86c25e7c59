//! One gateway after the other on a listener that outlives them, under load.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use floodgate_loadtest::postgres_server::PostgresServer;
use floodgate_loadtest::redis_server::{Keeps, RedisServer};
use floodgate_loadtest::rig::{self, OpenPlan, ReserveRequest};

use crate::binary::{Serving, audit, audit_with, run_handed};
use crate::crowd::rounds;
use crate::patience::eventually;
use crate::shop::{CONSOLE, SALE};

/// What is given in the environment, or else what is usual.
fn given(variable: &str, usual: f64) -> f64 {
    std::env::var(variable).map_or(usual, |given| given.parse().expect("a number"))
}

/// As a supervisor has one.
fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// People buy over connections that they keep, while `hand_over` puts another gateway in the place of the one that
/// serves. Nobody is refused or cut off. How many bought.
async fn under_load(
    first: Serving,
    address: SocketAddr,
    mut hand_over: impl AsyncFnMut(Serving) -> Serving,
) -> (Serving, u64) {
    let (mut gateway, mut bought, mut overloaded) = (first, 0, 0);
    let rate = given("FLOODGATE_HANDOVER_RATE", 300.0);
    // How long people come in each round.
    let lasts = Duration::from_secs_f64(given("FLOODGATE_HANDOVER_SECONDS", 3.0));
    for round in 0..rounds(2) {
        let plan = OpenPlan::steady(address, rate, lasts);
        let request =
            ReserveRequest::new(&address.to_string(), SALE, CONSOLE, &format!("u{round}-"), true);
        let load = tokio::spawn(rig::open(plan, request));
        let before = bought;
        eventually("there is load", async || {
            (gateway.counters().await[2] > before + 50).then_some(())
        })
        .await;
        gateway = hand_over(gateway).await;
        assert!(!load.is_finished(), "there was load to the end of it");
        let (report, seen) = load.await.unwrap().unwrap();
        let people = &report.phases[0];
        assert_eq!((people.unanswered, seen.unknown.len()), (0, 0), "{report:?}");
        // A machine with other work may make people wait for their lane for too long; that is told, not cut.
        let told = people.refused.iter().all(|refused| refused.code == "overloaded");
        assert!(told && report.dropped() == 0, "{report:?}");
        overloaded += people.refused.iter().map(|refused| refused.count).sum::<u64>();
        bought += people.accepted;
    }
    println!(
        "{} gateways one after the other, {bought} reservations, {overloaded} told \"overloaded\"",
        rounds(2) + 1
    );
    (gateway, bought)
}

/// Proves that an embedded gateway can be restarted under load without a request that is refused or cut off: whoever
/// comes while there is none waits in the listener's queue, and whoever keeps a connection is told with an answer
/// that it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn one_after_the_other() {
    let (dir, (listener, address)) = (tempfile::tempdir().unwrap(), listener());
    let start = async || Serving::start_handed(dir.path(), &listener, &[]).await;
    let first = start().await;
    assert_eq!(first.public, address);
    first.sell_consoles(1_000_000).await;
    let (last, bought) = under_load(first, address, async |gateway: Serving| {
        tokio::task::block_in_place(|| gateway.stop());
        start().await
    })
    .await;
    last.stop();
    assert_eq!(audit(dir.path())["sales"][0]["standing"], bought);
}

/// Proves the same where the next gateway serves before the last one leaves, over a Redis and books that they share.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn beside_each_other() {
    let (dirs, (listener, address)) = (tempfile::tempdir().unwrap(), listener());
    let redis = RedisServer::start(Keeps::Everything).unwrap();
    let (postgres, redis_url) = (PostgresServer::start().unwrap(), redis.url());
    let url = postgres.url();
    let both = ["--database-url", &url, "--redis-url", &redis_url];
    let mut number = 0;
    let mut start = async || {
        number += 1;
        let dir = dirs.path().join(number.to_string());
        Serving::start_handed(&dir, &listener, &both).await
    };
    let first = start().await;
    first.sell_consoles(1_000_000).await;
    let (last, bought) = under_load(first, address, async |gateway: Serving| {
        let next = start().await;
        tokio::task::block_in_place(|| gateway.stop());
        next
    })
    .await;
    assert_eq!(last.counters().await[2], bought);
    last.stop();
    let last = dirs.path().join((rounds(2) + 1).to_string());
    audit_with(&last, &both);
}

/// Proves that what cannot be listened on is an error of the configuration that names it.
#[tokio::test]
async fn what_is_handed_over_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (connected, _peer) = {
        let (listener, address) = listener();
        (std::net::TcpStream::connect(address).unwrap(), listener.accept().unwrap())
    };
    let cases: [(&str, &str, Option<OwnedFd>); 4] = [
        ("LISTEN_FDS is \"7\"", "7", None),
        ("LISTEN_FDS is \"many\"", "many", None),
        ("the public listener of LISTEN_FDS: it does not listen", "1", Some(connected.into())),
        ("the public listener of LISTEN_FDS: fd 3 is not a socket", "1", None),
    ];
    for (said, count, socket) in cases {
        let (code, error) = run_handed(dir.path(), count, socket);
        assert_eq!(code, Some(64), "{error}");
        assert!(error.contains(said), "{error}");
    }
}

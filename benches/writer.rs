//! How fast one writer drains an outbox into the books: into SQLite, into PostgreSQL, and, in the same run,
//! how fast a bare loop inserts the same rows.
//!
//! `cargo bench --bench writer`; `FLOODGATE_BENCH_ORDERS` and `FLOODGATE_BENCH_ROUNDS` say how much. Real
//! servers that sync what they commit; the stores' own settings; the real writer.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

#[path = "../tests/it/prepared.rs"]
mod prepared;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use floodgate::clock::Millis;
use floodgate::engine::Event;
use floodgate::outbox::Outbox;
use floodgate::sale::{LaneId, Reservation};
use floodgate::store::Store;
use floodgate::store::postgres::{PostgresStore, Settings};
use floodgate::store::sqlite::{Archives, SqliteStore};
use floodgate_loadtest::postgres_server::PostgresServer;
use tokio::sync::watch;

use self::prepared::{Prepared, reservation, writer};

/// Orders in a transaction of the bare loop.
const BARE: usize = 1_000;

/// Drains it all; says how long that took.
async fn drain(store: Arc<dyn Store>, outbox: Arc<Prepared>) -> Duration {
    let last = *outbox.head(LaneId(0)).borrow();
    let (writer, progress) = writer(store, outbox);
    let (_stop, stops) = watch::channel(false);
    let began = Instant::now();
    let mut tasks = writer.spawn(&stops);
    assert!(progress.reached(LaneId(0), last).await);
    let took = began.elapsed();
    tasks.shutdown().await;
    took
}

/// What a loop does that only inserts: no look at what is there, no cursor, no lease.
async fn bare(url: &str, reservations: &[Reservation]) -> Duration {
    let (mut client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let orders = client
        .prepare(
            "INSERT INTO orders (user_id, order_id, sale_id, status, version, lines, total, currency,
                                 created_at, expires_at, updated_at)
             SELECT u, o, 'sale', 'pending_payment', 1, l::json, t, 'EUR', c, e, c
             FROM unnest($1::text[], $2::uuid[], $3::text[], $4::int8[], $5::timestamptz[],
                         $6::timestamptz[]) AS n (u, o, l, t, c, e)
             ON CONFLICT DO NOTHING",
        )
        .await
        .unwrap();
    let lines = client
        .prepare(
            "INSERT INTO cart_lines (user_id, item_id, reservation_id, quantity)
             SELECT u, 'item', o, 1 FROM unnest($1::text[], $2::uuid[]) AS n (u, o)
             ON CONFLICT DO NOTHING",
        )
        .await
        .unwrap();
    let at = |at: Millis| -> SystemTime { UNIX_EPOCH + Duration::from_millis(at.0) };
    let columns = |chunk: &[Reservation]| {
        (
            chunk.iter().map(|one| one.user.to_string()).collect::<Vec<_>>(),
            chunk.iter().map(|one| uuid::Uuid::from_bytes(*one.id.as_bytes())).collect::<Vec<_>>(),
            chunk
                .iter()
                .map(|one| floodgate::orders::lines_json(&one.lines, &one.currency))
                .collect::<Vec<_>>(),
            chunk.iter().map(|one| one.total() as i64).collect::<Vec<_>>(),
            chunk.iter().map(|one| at(one.held_at)).collect::<Vec<_>>(),
            chunk.iter().map(|one| at(one.expires_at)).collect::<Vec<_>>(),
        )
    };
    let prepared: Vec<_> = reservations.chunks(BARE).map(columns).collect();
    let began = Instant::now();
    for (users, ids, json, totals, created, expire) in &prepared {
        let transaction = client.transaction().await.unwrap();
        transaction.execute(&orders, &[users, ids, json, totals, created, expire]).await.unwrap();
        transaction.execute(&lines, &[users, ids]).await.unwrap();
        transaction.commit().await.unwrap();
    }
    began.elapsed()
}

async fn postgres(server: &PostgresServer, shared: bool) -> PostgresStore {
    let settings = Settings {
        url: &server.url(),
        migrate_url: None,
        connections: 2,
        shared,
        stores_promises: true,
    };
    PostgresStore::open(&settings).await.unwrap()
}

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |number| number.parse().unwrap())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let orders = number("FLOODGATE_BENCH_ORDERS", 100_000);
    let rounds = number("FLOODGATE_BENCH_ROUNDS", 5);
    let names = ["SQLite", "PostgreSQL", "PostgreSQL, shared", "bare UNNEST loop"];
    let mut rates: [Vec<f64>; 4] = Default::default();
    for round in 1..=rounds {
        let reservations: Vec<_> = (0..orders).map(reservation).collect();
        let held = reservations.iter().cloned().map(Event::Held).collect();
        let outbox = Arc::new(Prepared::of(orders, held));
        let mut note = |kind: usize, took: Duration| {
            let rate = orders as f64 / took.as_secs_f64();
            println!("round {round}: {:<20} {rate:>9.0} orders/s", names[kind]);
            rates[kind].push(rate);
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store.db");
        let sqlite = Arc::new(SqliteStore::open(&file, Archives::No).unwrap());
        note(0, drain(sqlite, Arc::clone(&outbox)).await);
        for (kind, shared) in [(1, false), (2, true)] {
            let server = PostgresServer::start().unwrap();
            let store = Arc::new(postgres(&server, shared).await);
            note(kind, drain(store, Arc::clone(&outbox)).await);
        }
        let server = PostgresServer::start().unwrap();
        drop(postgres(&server, false).await);
        note(3, bare(&server.url(), &reservations).await);
    }
    for (name, rates) in names.iter().zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        let (low, high) = (rates[0], rates[rates.len() - 1]);
        println!("{name:<20} median {:>9.0} orders/s ({low:.0} to {high:.0})", median(rates));
    }
    let bare = median(&rates[3]);
    for kind in 0..3 {
        println!("{:<20} {:.2} of the bare loop", names[kind], median(&rates[kind]) / bare);
    }
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

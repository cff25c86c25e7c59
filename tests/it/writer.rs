//! The real writer over real stores, with an outbox that holds what no ledger would write.

use std::sync::Arc;
use std::time::Duration;

use floodgate::engine::{Event, Return};
use floodgate::outbox::Outbox;
use floodgate::sale::{LaneId, Reservation};
use floodgate::store::Store;
use floodgate::store::postgres::{PostgresStore, Settings};
use floodgate::store::sqlite::{Archives, SqliteStore};
use floodgate::writer::Progress;
use floodgate_loadtest::postgres_server::PostgresServer;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::crowd::rounds;
use crate::prepared::{Prepared, reservation, writer};

/// A writer of its own name; drains until it is dropped.
struct Drains {
    progress: Progress,
    _tasks: JoinSet<()>,
    _stop: watch::Sender<bool>,
}

impl Drains {
    fn start(store: &Arc<dyn Store>, outbox: &Arc<Prepared>) -> Self {
        let (writer, progress) = writer(Arc::clone(store), Arc::clone(outbox));
        let (stop, stops) = watch::channel(false);
        Self { progress, _tasks: writer.spawn(&stops), _stop: stop }
    }
}

async fn postgres() -> (PostgresServer, Arc<dyn Store>) {
    let server = PostgresServer::start_with(&["fsync=off"]).unwrap();
    let url = server.url();
    let settings = Settings {
        url: &url,
        migrate_url: None,
        connections: 4,
        shared: true,
        stores_promises: false,
    };
    let store = PostgresStore::open(&settings).await.unwrap();
    (server, Arc::new(store))
}

async fn orders(store: &dyn Store, held: &[Reservation]) -> usize {
    let mut found = 0;
    for one in held {
        let order = store.order(one.user.clone(), one.id).await.unwrap();
        let cart = store.cart(one.user.clone()).await.unwrap();
        if order.is_some() {
            found += 1;
            let lines: Vec<_> = cart.lines.iter().map(|line| &line.reservation_id).collect();
            assert_eq!(lines, [&Some(one.id.to_string())], "its line, once");
        } else {
            assert_eq!(cart.lines, []);
        }
    }
    found
}

/// One in a hundred cannot be digested, each for another reason: they are put aside, and no other.
async fn poison(store: Arc<dyn Store>) {
    const HUNDRED: usize = 100;
    let poisoned = 10 * rounds(10) as usize;
    let held: Vec<_> = (0..poisoned * HUNDRED).map(reservation).collect();
    let mut events: Vec<Event> = held.iter().cloned().map(Event::Held).collect();
    for (n, event) in events.iter_mut().step_by(HUNDRED).enumerate() {
        let mut one = reservation(1_000_000_000 + n);
        *event = match n % 3 {
            0 => Event::Expired(Return::of(&one)),
            1 => {
                one.lines[0].quantity = 1_000_000;
                Event::Held(one)
            }
            _ => {
                one.lines[0].item = floodgate::sale::ItemId::parse("unknown").unwrap();
                Event::Held(one)
            }
        };
    }
    let outbox = Arc::new(Prepared::of(held.len(), events));
    let drains = Drains::start(&store, &outbox);
    let last = *outbox.head(LaneId(0)).borrow();
    assert!(drains.progress.reached(LaneId(0), last).await);
    let mut letters = Vec::new();
    loop {
        let after =
            letters.last().map(|(lane, letter): &(LaneId, floodgate::store::DeadLetter)| {
                floodgate::store::DeadMark { lane: *lane, position: letter.record.last }
            });
        let page = store.dead_letters(after, 100).await.unwrap();
        if page.is_empty() {
            break;
        }
        letters.extend(page);
    }
    assert_eq!(letters.len(), poisoned);
    let wanted: Vec<_> = (0..poisoned).map(|n| (n * HUNDRED) as u64 + 2).collect();
    let found: Vec<_> = letters.iter().map(|(_, letter)| letter.record.last.seq).collect();
    assert_eq!(found, wanted, "those and no others");
    assert_eq!(orders(store.as_ref(), &held).await, held.len() - poisoned);
}

/// Proves that poison is put aside and delays nothing, in SQLite.
#[tokio::test]
async fn poison_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("store.db"), Archives::Yes).unwrap();
    poison(Arc::new(store)).await;
}

/// Proves the same in PostgreSQL.
#[tokio::test]
async fn poison_in_postgres() {
    let (_server, store) = postgres().await;
    poison(store).await;
}

/// Proves that two writers who both believe to have a lane write it once: whoever comes second finds the
/// cursor moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_fight() {
    let (server, store) = postgres().await;
    let held: Vec<_> = (0..1_000 * rounds(20) as usize).map(reservation).collect();
    let events = held.iter().cloned().map(Event::Held).collect();
    let outbox = Arc::new(Prepared::of(held.len(), events));
    let writers = [(); 2].map(|()| Drains::start(&store, &outbox));
    let last = *outbox.head(LaneId(0)).borrow();
    let (client, connection) =
        tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let rob = async {
        loop {
            client.execute("UPDATE lanes SET holder = NULL", &[]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let [one, two] = &writers;
    let drained = async {
        assert!(one.progress.reached(LaneId(0), last).await);
        assert!(two.progress.reached(LaneId(0), last).await);
    };
    tokio::select! {
        () = rob => {}
        () = drained => {}
    }
    assert_eq!(orders(store.as_ref(), &held).await, held.len());
    assert_eq!(store.dead_letters(None, 1).await.unwrap(), []);
}

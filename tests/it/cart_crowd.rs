//! Many at once on few carts: no acknowledged change is lost, and none is there that nobody made.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use floodgate_loadtest::postgres_server::PostgresServer;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::binary::Serving;
use crate::crowd::rounds;
use crate::shop::{SALE, Shop, sale};

const CLIENTS: u64 = 64;
const CARTS: u64 = 100;
const ITEMS: [&str; 4] = ["item-0", "item-1", "item-2", "item-3"];

/// One change that was acknowledged: the version that it made, and what it did.
struct Acknowledged {
    cart: u64,
    version: u64,
    change: Change,
}

#[derive(Clone, Copy)]
enum Change {
    Put(usize, u64),
    Add(usize, u64),
    Remove(usize),
    Clear,
}

impl Change {
    fn random(random: &mut fastrand::Rng) -> Self {
        let item = random.usize(0..ITEMS.len());
        match random.u8(0..10) {
            0..4 => Self::Put(item, random.u64(1..10)),
            4..7 => Self::Add(item, random.u64(1..3)),
            7..9 => Self::Remove(item),
            _ => Self::Clear,
        }
    }

    /// What it makes of a cart's lines.
    fn apply(self, lines: &mut BTreeMap<usize, u64>) {
        match self {
            Self::Put(item, units) => drop(lines.insert(item, units)),
            Self::Add(item, units) => *lines.entry(item).or_default() += units,
            Self::Remove(item) => drop(lines.remove(&item)),
            Self::Clear => lines.clear(),
        }
    }

    fn call(self, shop: &Shop, user: &str, version: u64) -> crate::request::Call {
        let item = |n: usize| format!("/v1/cart/items/{}", ITEMS[n]);
        let units = |units: u64| json!({ "quantity": units });
        let call = match self {
            Self::Put(n, quantity) => shop.call("PUT", &item(n)).json(&units(quantity)),
            Self::Add(n, quantity) => shop.call("POST", &item(n)).json(&units(quantity)),
            Self::Remove(n) => shop.call("DELETE", &item(n)),
            Self::Clear => shop.call("DELETE", "/v1/cart"),
        };
        call.user(user).header("if-match", &format!("\"{version}\""))
    }
}

/// Changes carts at random, each for the version that was seen, until the time is up.
async fn client(shop: Shop, seed: u64, until: Instant) -> Vec<Acknowledged> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut acknowledged = Vec::new();
    while Instant::now() < until {
        let cart = random.u64(0..CARTS);
        let user = format!("user-{cart}");
        let seen = shop.cart(&user).await["version"].as_u64().unwrap();
        let change = Change::random(&mut random);
        let answer = change.call(&shop, &user, seen).send().await;
        match answer.status {
            200 => {
                let version = answer.json()["version"].as_u64().unwrap();
                // The same version: there was nothing to change.
                if version != seen {
                    assert_eq!(version, seen + 1, "{answer}");
                    acknowledged.push(Acknowledged { cart, version, change });
                }
            }
            412 => {}
            other => panic!("{other}: {answer}"),
        }
    }
    acknowledged
}

async fn crowd(shops: Vec<Shop>) {
    let until = Instant::now() + Duration::from_secs(rounds(3).into());
    let mut clients = JoinSet::new();
    for seed in 0..CLIENTS {
        clients.spawn(client(shops[seed as usize % shops.len()].clone(), seed, until));
    }
    let mut changes: BTreeMap<u64, BTreeMap<u64, Change>> = BTreeMap::new();
    let mut count = 0;
    for Acknowledged { cart, version, change } in clients.join_all().await.into_iter().flatten() {
        let lost = changes.entry(cart).or_default().insert(version, change);
        assert!(lost.is_none(), "version {version} of cart {cart} was made twice");
        count += 1;
    }
    assert!(count > CLIENTS, "only {count} changes");
    for (cart, changes) in changes {
        let mut lines = BTreeMap::new();
        for ((version, change), expected) in changes.iter().zip(1..) {
            assert_eq!(*version, expected, "a change of cart {cart} that nobody made");
            change.apply(&mut lines);
        }
        let line = |(item, units): (&usize, &u64)| -> Value {
            json!({ "item_id": ITEMS[*item], "quantity": units, "source": "user" })
        };
        let expected: Vec<_> = lines.iter().map(line).collect();
        let found = shops[0].cart(&format!("user-{cart}")).await;
        assert_eq!(found["lines"], json!(expected), "cart {cart}");
        assert_eq!(found["version"], changes.len() as u64);
    }
}

fn items() -> Value {
    sale(SALE, &ITEMS.map(|item| (item, 1)))
}

/// Proves it over SQLite.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start(dir.path()).await;
    gateway.sell(&items()).await;
    crowd(vec![Shop::clone(&gateway)]).await;
    gateway.stop();
}

/// Proves it over PostgreSQL, and that what was acknowledged survives a kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_postgres() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), PostgresServer::start().unwrap());
    let url = postgres.url();
    let gateway = Serving::start_with(dir.path(), &["--database-url", &url]).await;
    gateway.sell(&items()).await;
    crowd(vec![Shop::clone(&gateway)]).await;
    let before = gateway.cart("user-0").await;
    gateway.kill();
    let gateway = Serving::start_with(dir.path(), &["--database-url", &url]).await;
    assert_eq!(gateway.cart("user-0").await, before);
    gateway.stop();
}

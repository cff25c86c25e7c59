//! The sold-out latch over several gateways: it answers without asking the ledger, and it is right.
//!
//! `FLOODGATE_CRASH_ROUNDS` makes more trials of the returns.

use std::time::{Duration, Instant};

use floodgate_loadtest::redis_server::{Keeps, RedisServer};
use serde_json::json;
use tempfile::TempDir;

use crate::binary::Serving;
use crate::crowd::rounds;
use crate::patience::eventually;
use crate::shop::{CONSOLE, SALE, Shop, sale};

/// Gateways on one Redis.
struct Rig {
    redis: RedisServer,
    gateways: Vec<(TempDir, Serving)>,
}

impl Rig {
    async fn start(gateways: usize) -> Self {
        let redis = RedisServer::start(Keeps::Everything).unwrap();
        let mut rig = Self { redis, gateways: Vec::new() };
        for _ in 0..gateways {
            rig.add().await;
        }
        rig
    }

    async fn add(&mut self) {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Serving::start_with(dir.path(), &["--redis-url", &self.redis.url()]).await;
        self.gateways.push((dir, gateway));
    }

    fn at(&self, which: usize) -> &Shop {
        &self.gateways[which].1
    }
}

/// What the gateway's page says of the console.
async fn says(shop: &Shop, availability: &str) {
    eventually(&format!("the page says {availability}"), async || {
        let answer = shop.call("GET", &format!("/v1/sales/{SALE}")).send().await;
        let there =
            answer.status == 200 && answer.json()["items"][0]["availability"] == availability;
        there.then_some(())
    })
    .await;
}

/// Requests that the gateway has refused by what it knows of the sale, without asking the ledger.
async fn refused_here(shop: &Shop) -> f64 {
    shop.metric("floodgate_admission_total{gate=\"sale\",outcome=\"refused\"}").await
}

/// Waits until the gateway refuses strangers under a key by itself; each of them is refused meanwhile.
async fn latches(shop: &Shop) {
    let mut stranger = 0;
    eventually("strangers are refused without asking", async || {
        let before = refused_here(shop).await;
        stranger += 1;
        let stranger = format!("stranger-{stranger}");
        shop.want(&stranger, CONSOLE, 1).key("k").send().await.refused(409, "sold-out");
        (refused_here(shop).await > before).then_some(())
    })
    .await;
}

/// Proves that a gateway tells strangers "sold out" by itself, and a winner never, wherever they won:
/// at another gateway, or before this one was started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn winners_are_known_everywhere() {
    let mut rig = Rig::start(2).await;
    rig.at(0).sell_consoles(3).await;
    says(rig.at(1), "available").await;
    let mut won = Vec::new();
    for user in ["ann", "bob", "cid"] {
        won.push((user, rig.at(0).want(user, CONSOLE, 1).key("k").send().await.expect(201)));
    }
    says(rig.at(1), "held").await;
    rig.add().await;
    for gateway in 0..3 {
        latches(rig.at(gateway)).await;
        for (user, told) in &won {
            let again = rig.at(gateway).want(user, CONSOLE, 1).key("k").send().await;
            assert!(again.replayed(), "{user} at {gateway}: {again}");
            assert_eq!(&again.expect(201), told);
        }
    }
}

/// Proves that what was known of the stock is not told while the ledger cannot be asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_is_not_sold_out() {
    let mut rig = Rig::start(1).await;
    rig.at(0).sell_consoles(1).await;
    rig.at(0).hold("ann").await;
    latches(rig.at(0)).await;
    rig.redis.kill();
    eventually("it is unavailable", async || {
        let answer = rig.at(0).want("bob", CONSOLE, 1).key("k").send().await;
        match answer.status {
            409 => None,
            503 => Some(answer.json()["code"].as_str().unwrap().to_owned()),
            other => panic!("{other}: {answer}"),
        }
    })
    .await;
    for user in 0..20 {
        let answer = rig.at(0).want(&format!("user-{user}"), CONSOLE, 1).send().await;
        assert_eq!(answer.status, 503, "{answer}");
    }
    rig.redis.run().unwrap();
    eventually("it is sold out again", async || {
        let answer = rig.at(0).want("bob", CONSOLE, 1).key("k").send().await;
        (answer.status == 409).then_some(())
    })
    .await;
    latches(rig.at(0)).await;
}

/// Proves that a unit that comes back through one gateway sells at the other, each time; tells how long
/// that takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reopens_everywhere() {
    let trials = rounds(6);
    let rig = Rig::start(2).await;
    let mut definition = sale(SALE, &[(CONSOLE, 1)]);
    definition["hold_seconds"] = json!(1);
    rig.at(0).sell(&definition).await;
    says(rig.at(1), "available").await;
    let mut took = Vec::new();
    let mut holder = ("user-0".to_owned(), rig.at(0).want("user-0", CONSOLE, 1).send().await);
    for trial in 1..=trials {
        let told = holder.1.clone().expect(201);
        latches(rig.at(1)).await;
        let returned = if trial % 2 == 0 {
            rig.at(0).cancel(&holder.0, told["reservation_id"].as_str().unwrap()).await.expect(200);
            Instant::now()
        } else {
            let ends = told["expires_at"].as_str().unwrap();
            let ends = floodgate::clock::Millis::parse_rfc3339(ends).unwrap();
            crate::windows::wait_until(ends.0).await;
            Instant::now()
        };
        let user = format!("user-{trial}");
        let began = Instant::now();
        let granted = loop {
            let answer = rig.at(1).want(&user, CONSOLE, 1).key("k").send().await;
            if answer.status == 201 {
                break answer;
            }
            answer.refused(409, "sold-out");
            assert!(began.elapsed() < Duration::from_secs(30), "it stays closed");
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        took.push(returned.elapsed());
        holder = (user, granted);
    }
    took.sort();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
    println!(
        "{trials} returns: sold at the other gateway after p50 {:?}, p99 {:?}, at most {:?}",
        at(50),
        at(99),
        at(100)
    );
}

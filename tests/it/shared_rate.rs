//! One user at several gateways: the limit that these keep together, in Redis.

use std::path::Path;
use std::time::{Duration, Instant};

use floodgate_loadtest::redis_server::{Keeps, RedisServer};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::binary::{Serving, audit_with};
use crate::patience::eventually;
use crate::reload::left;
use crate::shop::{CONSOLE, Shop};

const RATE: f64 = 4.0;
const BURST: u32 = 10;
/// Requests that the gateways have refused because of the limit that they share.
const REFUSED: &str = "floodgate_admission_total{gate=\"per_user_shared\",outcome=\"refused\"}";

/// Users have so many requests, and one more in a quarter of an hour.
fn write(file: &Path, burst: u32, shared: bool) {
    let text = format!(
        "[admission]\nper_user_shared = {shared}\n\n[admission.per_user]\nrate = 0.001\nburst = {burst}\n"
    );
    std::fs::write(file, text).unwrap();
}

/// Gateways on one Redis, each with books of its own.
struct Rig {
    redis: RedisServer,
    gateways: Vec<(TempDir, Serving)>,
}

impl Rig {
    async fn start(gateways: usize, more: &[&str]) -> Self {
        let redis = RedisServer::start(Keeps::Everything).unwrap();
        let mut rig = Self { redis, gateways: Vec::new() };
        for _ in 0..gateways {
            let dir = tempfile::tempdir().unwrap();
            let gateway = rig.serve(dir.path(), more).await;
            rig.gateways.push((dir, gateway));
        }
        rig.at(0).sell_consoles(10_000).await;
        for (_, gateway) in &rig.gateways {
            gateway.sells().await;
        }
        rig
    }

    async fn serve(&self, dir: &Path, more: &[&str]) -> Serving {
        let url = self.redis.url();
        let arguments = [&["--redis-url", &url, "--set", "admission.per_ip.rate=0"], more].concat();
        Serving::start_limited(dir, &arguments, &[]).await
    }

    fn at(&self, which: usize) -> &Serving {
        &self.gateways[which].1
    }

    async fn refused(&self) -> f64 {
        let mut all = 0.0;
        for (_, gateway) in &self.gateways {
            all += gateway.metric(REFUSED).await;
        }
        all
    }

    async fn stop(self) {
        for (dir, gateway) in self.gateways {
            // What others granted a moment ago is known here once the ledger has been asked.
            gateway.counters().await;
            gateway.settled().await;
            gateway.stop();
            audit_with(dir.path(), &["--redis-url", &self.redis.url()]);
        }
    }
}

/// Has the gateway read its configuration again.
async fn reload(gateway: &Serving) {
    const AT: &str = "floodgate_config_last_reload_success_timestamp_seconds";
    let before = gateway.metric(AT).await;
    gateway.signal(Signal::HUP);
    eventually("it is read again", async || (gateway.metric(AT).await > before).then_some(()))
        .await;
}

/// Asks without a pause until the time is up: how many were granted.
async fn hammer(shop: Shop, user: String, until: Instant) -> u32 {
    let mut granted = 0;
    while Instant::now() < until {
        let answer = shop.want(&user, CONSOLE, 1).send().await;
        if answer.status == 201 {
            granted += 1;
            continue;
        }
        answer.refused(429, "rate-limited");
        assert!(answer.retry_after().is_some(), "{answer}");
        let told = answer.header("ratelimit").unwrap();
        assert!(told.starts_with("\"user\";r=0;t="), "{told}");
    }
    granted
}

/// Proves that a user who hammers three gateways at once gets no more from all of them together than one
/// bucket gives in the time that passed, and not less than what it holds; and that others notice nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_at_three_gateways() {
    let (rate, burst) = (format!("{RATE}"), format!("{BURST}"));
    let rate = format!("admission.per_user.rate={rate}");
    let burst = format!("admission.per_user.burst={burst}");
    let shared = "admission.per_user_shared=true";
    let rig = Rig::start(3, &["--set", shared, "--set", &rate, "--set", &burst]).await;
    let (mut hammers, mut others) = (JoinSet::new(), JoinSet::new());
    let began = Instant::now();
    let until = began + Duration::from_millis(1_500);
    for (_, gateway) in &rig.gateways {
        let shop = Shop::clone(gateway);
        hammers.spawn(hammer(shop.clone(), "ann".to_owned(), until));
        others.spawn(async move {
            for user in 0..20 {
                let user = format!("user-{user}-of-{}", shop.public.port());
                shop.want(&user, CONSOLE, 1).send().await.expect(201);
            }
        });
    }
    let granted: u32 = hammers.join_all().await.into_iter().sum();
    let most = f64::from(BURST) + RATE * began.elapsed().as_secs_f64();
    others.join_all().await;
    let refused = rig.refused().await;
    println!("{granted} of {most:.1}, {refused} refused by all together");
    assert!(f64::from(granted) <= most, "{granted}, and {most} were allowed");
    assert!(granted >= BURST, "{granted}");
    assert!(refused > f64::from(BURST), "each gateway alone would have granted as much: {refused}");
    rig.stop().await;
}

/// Proves that what was granted is found again through another gateway by a user who has no token left; that
/// others have theirs; and that a change of rate, and of whether it is shared, counts from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_and_changes() {
    let config = tempfile::tempdir().unwrap();
    let file = config.path().join("floodgate.toml");
    write(&file, 3, true);
    let rig = Rig::start(2, &["--config", file.to_str().unwrap()]).await;
    let mut told = Vec::new();
    for key in ["a", "b", "c"] {
        told.push(rig.at(0).want("ann", CONSOLE, 1).key(key).send().await.expect(201));
    }
    let refused = rig.at(1).want("ann", CONSOLE, 1).key("d").send().await;
    assert_eq!(refused.refused(429, "rate-limited")["scope"], "user");
    let policy = refused.header("ratelimit-policy");
    assert_eq!(policy, Some("\"user\";q=3;w=3000"), "{refused}");
    assert!((999..=1_001).contains(&refused.retry_after().unwrap()), "{refused}");
    let again = rig.at(1).want("ann", CONSOLE, 1).key("b").send().await;
    assert!(again.replayed(), "{again}");
    assert_eq!(again.expect(201), told[1]);
    assert_eq!(left(rig.at(1), "bob").await, 3);
    write(&file, 4, true);
    reload(rig.at(0)).await;
    reload(rig.at(1)).await;
    assert_eq!(left(rig.at(1), "ann").await, 1, "one bucket, which holds one more now");
    write(&file, 4, false);
    reload(rig.at(1)).await;
    assert_eq!(left(rig.at(1), "ann").await, 2, "each gateway by itself: two of its four are gone");
    rig.stop().await;
}

/// Proves that the limit outlives the gateway that kept it, and that a Redis that has forgotten has forgotten
/// this as well, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_restarts_and_wipes() {
    let config = tempfile::tempdir().unwrap();
    let file = config.path().join("floodgate.toml");
    write(&file, 3, true);
    let more = ["--config", file.to_str().unwrap()];
    let mut rig = Rig::start(1, &more).await;
    assert_eq!(left(rig.at(0), "ann").await, 3);
    let (dir, gateway) = rig.gateways.remove(0);
    gateway.settled().await;
    gateway.stop();
    let gateway = rig.serve(dir.path(), &more).await;
    rig.gateways.push((dir, gateway));
    rig.at(0).want("ann", CONSOLE, 1).send().await.refused(429, "rate-limited");
    assert_eq!(rig.refused().await, 1.0, "by all, not by this gateway");
    rig.redis.run_empty().unwrap();
    let mut user = 0;
    eventually("it sells again", async || {
        user += 1;
        let answer = rig.at(0).want(&format!("user-{user}"), CONSOLE, 1).send().await;
        (answer.status == 201).then_some(())
    })
    .await;
    assert_eq!(left(rig.at(0), "ann").await, 2, "of this gateway's three, one is gone");
    rig.stop().await;
}

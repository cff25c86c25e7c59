//! More requests than a lane can serve in time.

use std::time::Duration;

use floodgate_loadtest::fault_proxy::FaultProxy;
use floodgate_loadtest::redis_server::{Keeps, RedisServer};
use tempfile::TempDir;
use tokio::task::{AbortHandle, JoinSet};

use crate::binary::{Serving, audit_with};
use crate::patience::eventually;
use crate::request::Answer;
use crate::shop::{CONSOLE, SALE, Shop};

/// A call takes so long, and has so few commands: 25 ms for each.
const SLOW: Duration = Duration::from_millis(100);
const BATCH: &str = "ledger.batch_max=4";
/// Takes a second to serve.
const CROWD: usize = 40;

/// A gateway whose ledger is slow.
struct Rig {
    dir: TempDir,
    redis: RedisServer,
    proxy: FaultProxy,
    gateway: Serving,
}

impl Rig {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(more: &[&str]) -> Self {
        let (dir, redis) =
            (tempfile::tempdir().unwrap(), RedisServer::start(Keeps::Everything).unwrap());
        let proxy = FaultProxy::start(redis.address()).unwrap();
        let url = format!("redis://{}", proxy.address());
        let settings = ["--redis-url", &url, "--set", BATCH, "--set", "ledger.in_flight=1"];
        let settings = [&settings, more].concat();
        let gateway = Serving::start_with(dir.path(), &settings).await;
        gateway.sell_consoles(1_000).await;
        Self { dir, redis, proxy, gateway }
    }

    /// A crowd that asks at once.
    fn crowd(&self) -> (JoinSet<Answer>, Vec<AbortHandle>) {
        let (mut crowd, mut handles) = (JoinSet::new(), Vec::new());
        for buyer in 0..CROWD {
            let shop = Shop::clone(&self.gateway);
            handles.push(crowd.spawn(async move {
                shop.want(&format!("buyer-{buyer}"), CONSOLE, 1).send().await
            }));
        }
        (crowd, handles)
    }

    async fn lane(&self, metric: &str) -> f64 {
        let lane = self.gateway.sale(SALE).await["lane"].clone();
        self.gateway.metric(&format!("{metric}{{lane=\"{lane}\"}}")).await
    }

    async fn stop(self) {
        self.gateway.settled().await;
        self.gateway.stop();
        audit_with(self.dir.path(), &["--redis-url", &self.redis.url()]);
    }
}

/// Proves that whoever would wait too long is told so at once, that those inside are served, and that it
/// ends by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_too_long() {
    let rig = Rig::start().await;
    let held = rig.gateway.hold("ann").await;
    rig.proxy.delay(SLOW);
    let (crowd, _) = rig.crowd();
    eventually("there is a backlog", async || {
        (rig.lane("floodgate_lane_wait_seconds").await > 0.25).then_some(())
    })
    .await;
    let refused = rig.gateway.want("late", CONSOLE, 1).send().await;
    refused.refused(503, "overloaded");
    assert!(refused.retry_after().is_some(), "{refused}");
    rig.gateway.look("ann", &held).await.expect(200);
    assert!(rig.lane("floodgate_lane_queue_depth").await > 0.0, "who is inside was served first");
    for answer in crowd.join_all().await {
        answer.expect(201);
    }
    rig.proxy.delay(Duration::ZERO);
    eventually("it sells again", async || {
        let answer = rig.gateway.want("late", CONSOLE, 1).send().await;
        (answer.status == 201).then_some(())
    })
    .await;
    rig.stop().await;
}

/// Proves that with a larger budget whoever comes into the same backlog waits in it, and is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_budget_is_the_operators() {
    let rig = Rig::start_with(&["--set", "admission.backlog_ms=2000"]).await;
    rig.proxy.delay(SLOW);
    let (crowd, _) = rig.crowd();
    eventually("there is a backlog", async || {
        (rig.lane("floodgate_lane_wait_seconds").await > 0.25).then_some(())
    })
    .await;
    rig.gateway.want("late", CONSOLE, 1).send().await.expect(201);
    for answer in crowd.join_all().await {
        answer.expect(201);
    }
    rig.stop().await;
}

/// Proves that a client that goes away while it waits takes no unit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_takes_nothing() {
    let rig = Rig::start().await;
    rig.proxy.delay(SLOW);
    let (mut crowd, handles) = rig.crowd();
    eventually("they wait", async || {
        (rig.lane("floodgate_lane_queue_depth").await > 20.0).then_some(())
    })
    .await;
    handles.iter().for_each(AbortHandle::abort);
    while crowd.join_next().await.is_some() {}
    eventually("each has either taken a unit, or none", async || {
        let gone = rig.lane("floodgate_lane_abandoned_total").await;
        let [_, _, held, _] = rig.gateway.counters().await;
        (gone as usize + held as usize == CROWD && gone > 10.0).then_some(())
    })
    .await;
    rig.stop().await;
}

//! Deaths of the real program at each named point, again and again: `cargo xtask crash-points`.
//!
//! The program dies by `abort` at the point, under load, and is started again on what it left. Points of
//! the embedded lane run without Redis; those of workers and recovery with one, which syncs every write and
//! is wiped where a recovery has to write the lane anew.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use floodgate::crash::POINTS;
use floodgate_loadtest::buyers::{self, Control, CrowdPlan, Habits};
use floodgate_loadtest::history::History;
use floodgate_loadtest::oracle::{self, Scope};
use floodgate_loadtest::redis_server::{Keeps, RedisServer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::binary::{Serving, audit_with, floodgate};
use crate::patience::{PATIENCE, eventually_blocking};
use crate::shop::{CONSOLE, GAME, SALE, sale};

/// How often each point is hit, unless `FLOODGATE_POINT_HITS` says otherwise.
const HITS: u32 = 2;
/// How long a program may take to come to its point.
const DIES_WITHIN: Duration = Duration::from_secs(20);
const USERS_PER_HIT: u64 = 1_000_000;

/// What a point needs.
struct Stage {
    dir: tempfile::TempDir,
    redis: Option<RedisServer>,
    /// Where a barrier waits for one.
    replica: Option<RedisServer>,
}

impl Stage {
    fn of(point: &str) -> Self {
        let over_redis = point.starts_with("redis:") || point.starts_with("recovery:");
        let redis = over_redis.then(|| RedisServer::start(Keeps::Everything).unwrap());
        let replica = redis.as_ref().filter(|_| point.contains("barrier")).map(|primary| {
            let replica = primary.start_replica(Keeps::Nothing).unwrap();
            eventually_blocking("the replica is there", || (primary.replicas() > 0).then_some(()));
            replica
        });
        Self { dir: tempfile::tempdir().unwrap(), redis, replica }
    }

    fn arguments(&self) -> Vec<String> {
        let url = self.redis.iter().flat_map(|redis| ["--redis-url".to_owned(), redis.url()]);
        let settings = ["durability=replicated", "ledger.replicas=1"];
        let settings = settings.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]);
        url.chain(settings.filter(|_| self.replica.is_some())).collect()
    }

    async fn serve(&self) -> Serving {
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Serving::start_with(self.dir.path(), &arguments).await
    }

    /// A program that dies at the `nth` passage of the point.
    fn doomed(&self, point: &str, nth: u32) -> Doomed {
        let free = || {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            socket.local_addr().unwrap()
        };
        let (public, ops) = (free(), free());
        let mut command = floodgate(&["serve", "--data-dir", self.dir.path().to_str().unwrap()]);
        command.args(["--listen", &public.to_string(), "--ops-listen", &ops.to_string()]);
        command.args(self.arguments());
        command.env("CRASH_AT", format!("{point}:{nth}"));
        command.env("FLOODGATE_ADMISSION__PER_USER__RATE", "0");
        command.env("FLOODGATE_ADMISSION__PER_IP__RATE", "0");
        Doomed { child: spawn(command), public, ops }
    }
}

struct Doomed {
    child: std::process::Child,
    public: std::net::SocketAddr,
    ops: std::net::SocketAddr,
}

fn spawn(mut command: Command) -> std::process::Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Buyers whom nobody has seen, until the program is gone.
fn crowd(
    public: std::net::SocketAddr,
    ops: Option<std::net::SocketAddr>,
    dir: &Path,
    hit: u64,
) -> CrowdPlan {
    let access = |ops| floodgate_loadtest::ops::OpsAccess::from_data_dir(ops, dir).unwrap();
    CrowdPlan {
        ops: ops.map(access),
        first_user: hit * USERS_PER_HIT,
        seed: hit,
        connections: 24,
        habits: Habits { cancel_ratio: 0.2, confirm_ratio: 0.6, ..Habits::default() },
        settle: false,
        stop_on_disconnect: true,
        ..CrowdPlan::new(public, SALE, &[CONSOLE, GAME], USERS_PER_HIT)
    }
}

async fn hit(stage: &mut Stage, point: &str, number: u64, all: &mut History) -> bool {
    // A lane is only written anew where Redis has forgotten it.
    if point.starts_with("recovery:")
        && let Some(redis) = stage.redis.as_mut()
    {
        redis.run_empty().unwrap();
    }
    let nth = if point.starts_with("recovery:") || point.starts_with("drain:") {
        1
    } else {
        fastrand::u32(1..40)
    };
    let mut doomed = stage.doomed(point, nth);
    let began = Instant::now();
    // It may die before it serves.
    let mut served = false;
    while !served && doomed.child.try_wait().unwrap().is_none() && began.elapsed() < DIES_WITHIN {
        served = tokio::net::TcpStream::connect(doomed.public).await.is_ok();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut seen = History::new();
    if served {
        let plan = crowd(doomed.public, Some(doomed.ops), stage.dir.path(), number);
        let control = Control::default();
        let stop = control.stop.clone();
        let buys = tokio::spawn(async move { buyers::run(&plan, control).await });
        if point.starts_with("drain:") {
            tokio::time::sleep(Duration::from_millis(100)).await;
            kill_process(Pid::from_child(&doomed.child), Signal::TERM).unwrap();
        }
        while doomed.child.try_wait().unwrap().is_none() && began.elapsed() < DIES_WITHIN {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.set();
        let report = buys.await.unwrap().unwrap();
        assert_eq!(report.anomalies, Vec::<String>::new(), "{point}");
        seen = report.history;
    }
    let died = doomed.child.try_wait().unwrap().is_some_and(|status| status.code().is_none());
    let _ = doomed.child.kill();
    let _ = doomed.child.wait();
    let gateway = stage.serve().await;
    let plan = CrowdPlan {
        stop_on_disconnect: false,
        ..crowd(gateway.public, Some(gateway.ops), stage.dir.path(), number)
    };
    let found = buyers::resolve(&mut seen, &plan, Control::default()).await.unwrap();
    assert_eq!((found.unresolved, &*found.anomalies), (0, &[] as &[String]), "{point}");
    all.append(seen);
    oracle::wait_drained(&gateway.access(), SALE, PATIENCE).await.unwrap();
    gateway.stop();
    died
}

/// Proves that a death at any named point loses nothing that was told and sells nothing twice, and that
/// the program does come to each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_survived() {
    let hits = std::env::var("FLOODGATE_POINT_HITS").map_or(HITS, |hits| hits.parse().unwrap());
    let wanted = std::env::var("FLOODGATE_POINTS").unwrap_or_default();
    for point in POINTS.into_iter().filter(|point| point.contains(&wanted)) {
        let began = Instant::now();
        let mut stage = Stage::of(point);
        let mut definition = sale(SALE, &[(CONSOLE, 100_000_000), (GAME, 100_000_000)]);
        definition["per_user_limit"] = json!(2);
        if point == "lane: swept" {
            definition["hold_seconds"] = json!(1);
        }
        let gateway = stage.serve().await;
        gateway.sell(&definition).await;
        gateway.stop();
        let (mut all, mut deaths) = (History::new(), 0);
        // Not every start comes to its point; most do.
        for number in 0..u64::from(hits) * 3 {
            deaths += u32::from(hit(&mut stage, point, number, &mut all).await);
            if deaths == hits {
                break;
            }
        }
        assert_eq!(deaths, hits, "{point}: the program does not come there");
        let gateway = stage.serve().await;
        let scope = Scope { complete: true, ..Scope::default() };
        let (access, dir) = (gateway.access(), stage.dir.path());
        let verdict = oracle::examine(&access, dir, SALE, &all, scope, PATIENCE).await.unwrap();
        assert!(verdict.ok, "{point}\n{verdict}");
        gateway.stop();
        let arguments = stage.arguments();
        audit_with(dir, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        println!(
            "{point}: {deaths} deaths, {:.1} s, {:?}",
            began.elapsed().as_secs_f32(),
            all.outcomes()
        );
    }
}
